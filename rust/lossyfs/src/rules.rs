//! Which operation fails, is cut short, is slow, or freezes the file system. Pure.

use std::collections::VecDeque;
use std::str::FromStr;
use std::time::Duration;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    Read,
    Write,
    Sync,
    Create,
    Rename,
    Remove,
    Open,
    /// Looking at names and attributes; matched by `any` alone.
    Look,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// The operation is refused with this errno; a sync's data is then never written.
    Error(i32),
    /// A write takes half of its bytes (at least one) and says so.
    Short,
    Delay(Duration),
    /// The power is about to go: this and all later operations get no answer until the loss.
    Freeze,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// `None` is any operation.
    pub operation: Option<Operation>,
    pub action: Action,
    /// Part of the path; empty fits all.
    pub path: String,
    /// Operations that fit and are let pass first.
    pub skip: u64,
    /// Operations that are acted upon; then the rule is spent.
    pub count: u64,
}

/// Rules in the order they were given; the first that fits decides.
#[derive(Debug, Default)]
pub struct Rules {
    rules: VecDeque<Rule>,
    /// Operations that a rule acted upon.
    pub hits: u64,
}

impl Rules {
    pub fn add(&mut self, rule: Rule) {
        self.rules.push_back(rule);
    }

    pub fn clear(&mut self) {
        self.rules.clear();
    }

    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// What happens to this operation.
    pub fn decide(&mut self, operation: Operation, path: &str) -> Option<Action> {
        let fits = |rule: &Rule| {
            rule.operation.is_none_or(|o| o == operation)
                && path.contains(&rule.path)
                && (rule.action != Action::Short || operation == Operation::Write)
        };
        let at = self.rules.iter().position(fits)?;
        let rule = &mut self.rules[at];
        if rule.skip > 0 {
            rule.skip -= 1;
            return None;
        }
        rule.count -= 1;
        let action = rule.action;
        if rule.count == 0 {
            self.rules.remove(at);
        }
        self.hits += 1;
        Some(action)
    }
}

/// `OPERATION ACTION [path=PART] [skip=N] [count=N]`, for example `sync error=EIO path=log/ count=1`, `write delay=250`.
impl FromStr for Rule {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut words = text.split_whitespace();
        let operation = match words.next().unwrap_or_default() {
            "any" => None,
            "read" => Some(Operation::Read),
            "write" => Some(Operation::Write),
            "sync" => Some(Operation::Sync),
            "create" => Some(Operation::Create),
            "rename" => Some(Operation::Rename),
            "remove" => Some(Operation::Remove),
            "open" => Some(Operation::Open),
            other => return Err(format!("{other:?} is no operation: any, read, write, sync, create, rename, remove, open")),
        };
        let action = words.next().unwrap_or_default();
        let action = match action.split_once('=') {
            None if action == "short" => Action::Short,
            None if action == "freeze" => Action::Freeze,
            Some(("error", "EIO")) => Action::Error(libc::EIO),
            Some(("error", "ENOSPC")) => Action::Error(libc::ENOSPC),
            Some(("delay", ms)) => Action::Delay(Duration::from_millis(number("delay", ms)?)),
            _ => return Err(format!("{action:?} is no action: error=EIO, error=ENOSPC, short, delay=MS, freeze")),
        };
        let mut rule = Self { operation, action, path: String::new(), skip: 0, count: u64::MAX };
        for word in words {
            match word.split_once('=') {
                Some(("path", part)) => rule.path = part.to_owned(),
                Some(("skip", n)) => rule.skip = number("skip", n)?,
                Some(("count", n)) => rule.count = number("count", n)?.max(1),
                _ => return Err(format!("{word:?} is none of path=, skip=, count=")),
            }
        }
        Ok(rule)
    }
}

fn number(name: &str, text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("{name}: {text:?} is no number"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The second and third sync below log/ fail, then none any more.
    #[test]
    fn a_rule_skips_acts_and_is_spent() {
        let mut rules = Rules::default();
        rules.add("sync error=EIO path=log/ skip=1 count=2".parse().expect("a rule"));
        let eio = Some(Action::Error(libc::EIO));
        let outcome: Vec<_> = (0..4).map(|_| rules.decide(Operation::Sync, "log/000004.log")).collect();
        assert_eq!(outcome, [None, eio, eio, None]);
        assert_eq!(rules.decide(Operation::Sync, "state-1/000004.sst"), None);
        assert!(rules.is_empty() && rules.hits == 2);
    }

    #[test]
    fn what_is_no_rule_is_refused_by_name() {
        for (text, part) in [("fsync error=EIO", "fsync"), ("sync error=EPERM", "error=EPERM"), ("sync freeze x=1", "x=1")] {
            let error = text.parse::<Rule>().expect_err(text);
            assert!(error.contains(part), "{error}");
        }
    }
}

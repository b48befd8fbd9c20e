//! A whole history: each object apart (P-composition: a history is linearizable if and only if each object's is).

use std::fmt::Write;

use crate::explain::{Reason, explain};
use crate::history::History;
use crate::key::Key;
use crate::search::{Budget, Verdict, search};
use crate::task::Task;
use crate::{Model, Timed};

/// What was found about one object that is not known to be linearizable.
#[derive(Clone, Debug)]
pub struct Finding {
    /// `key NAME` or `task NAME`.
    pub object: String,
    /// Lines of the file whose operations cannot be explained together; empty when only the search's budget ran out.
    pub lines: Vec<usize>,
    /// For people.
    pub text: String,
}

/// What was found about a history.
#[derive(Clone, Debug, Default)]
pub struct Report {
    pub operations: usize,
    pub objects: usize,
    /// Operations of the object with the most.
    pub longest: usize,
    /// Not linearizable. The first is the one with the shortest prefix.
    pub violations: Vec<Finding>,
    /// Not decided within the budget.
    pub unknown: Vec<Finding>,
}

/// Checks every object. The budget is for each object afresh.
pub fn check(history: &History, budget: Budget) -> Report {
    let mut report = Report { operations: history.operations, ..Report::default() };
    let mut found: Vec<(usize, Finding)> = Vec::new();
    for (name, operations) in &history.keys {
        found.extend(object::<Key>(format!("key {name}"), operations, budget, &mut report));
    }
    for (name, operations) in &history.tasks {
        found.extend(object::<Task>(format!("task {name}"), operations, budget, &mut report));
    }
    found.sort_by_key(|(prefix, _)| *prefix);
    report.violations = found.into_iter().map(|(_, finding)| finding).collect();
    report
}

fn object<M: Model>(
    object: String,
    operations: &[Timed<M::Operation>],
    mut budget: Budget,
    report: &mut Report,
) -> Option<(usize, Finding)> {
    report.objects += 1;
    report.longest = report.longest.max(operations.len());
    match search::<M>(operations, &mut budget) {
        Verdict::Linearizable(_) => None,
        Verdict::Exhausted => {
            let text = format!("{object}: not decided within the budget ({} operations)\n", operations.len());
            report.unknown.push(Finding { object, lines: Vec::new(), text });
            None
        }
        Verdict::Impossible(longest) => {
            let mut afresh = Budget { steps_max: budget.steps_max.max(1_000_000), ..budget };
            let reason = explain::<M>(operations, &mut afresh);
            let prefix = reason.as_ref().map_or(operations.len(), |reason| reason.prefix);
            let (lines, text) = describe::<M>(&object, operations, reason, longest.len());
            Some((prefix, Finding { object, lines, text }))
        }
    }
}

fn describe<M: Model>(
    object: &str,
    operations: &[Timed<M::Operation>],
    reason: Option<Reason>,
    longest: usize,
) -> (Vec<usize>, String) {
    let total = operations.len();
    let Some(Reason { prefix, last, mut offending, others }) = reason else {
        let text = format!("{object}: NOT linearizable; of {total} operations at most {longest} fit in some order\n");
        return (operations.iter().map(|operation| operation.line).collect(), text);
    };
    let mut text = format!(
        "{object}: NOT linearizable: its first {prefix} of {total} operations, up to the return of line {}, fit in no order.\n\
         These cannot be explained together:\n",
        operations[last].line
    );
    offending.sort_by_key(|index| operations[*index].called);
    for index in &offending {
        let Timed { called, returned, line, operation } = &operations[*index];
        let end = returned.map_or("?".to_owned(), |returned| returned.to_string());
        // Writing to a string cannot fail.
        let _ = writeln!(text, "  line {line}: [{called}, {end}] {operation:?}");
    }
    let numbers = |indices: &[usize]| indices.iter().map(|index| operations[*index].line).collect::<Vec<_>>();
    if !others.is_empty() {
        let _ = writeln!(text, "whether or not these happened, and when: lines {:?}", numbers(&others));
    }
    (numbers(&offending), text)
}

//! The format of docs/history-format.md: one JSON object a line, one line an operation.

use std::collections::BTreeMap;
use std::io::BufRead;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use thiserror::Error;

use crate::{Timed, key, task};

/// Operations of one file: more is refused rather than held.
pub const OPERATIONS_MAX: usize = 10_000_000;

/// Why a file could not be read. Lines count from 1.
#[derive(Debug, Error)]
pub enum Malformed {
    #[error("line {line}: {what}")]
    Line { line: usize, what: String },
    #[error("more than {OPERATIONS_MAX} operations")]
    TooLong,
    #[error(transparent)]
    Read(#[from] std::io::Error),
}

/// All operations, by the object they are on.
#[derive(Debug, Default)]
pub struct History {
    pub keys: BTreeMap<String, Vec<Timed<key::Operation>>>,
    pub tasks: BTreeMap<String, Vec<Timed<task::Operation>>>,
    pub operations: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Outcome {
    Answered,
    /// It may have happened, or may yet happen.
    Unknown,
    /// The answer says that nothing was done.
    None,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Object {
    Key,
    Task,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    process: u64,
    call_us: u64,
    return_us: Option<u64>,
    object: Object,
    name: String,
    operation: String,
    #[serde(default)]
    argument: Value,
    outcome: Outcome,
    #[serde(default)]
    answer: Value,
    /// For people: the node that was asked.
    #[serde(default, rename = "node")]
    _node: Option<String>,
}

impl Line {
    fn call<C: DeserializeOwned>(&self) -> Result<C, String> {
        let call = match &self.argument {
            Value::Null => Value::String(self.operation.clone()),
            argument => serde_json::json!({ &self.operation: argument }),
        };
        serde_json::from_value(call).map_err(|error| format!("operation or argument: {error}"))
    }

    fn answer<A: DeserializeOwned>(&self) -> Result<Option<A>, String> {
        if self.outcome == Outcome::Unknown {
            return if self.answer.is_null() {
                Ok(None)
            } else {
                Err("answer: there is none where the outcome is unknown".into())
            };
        }
        serde_json::from_value(self.answer.clone()).map(Some).map_err(|error| format!("answer: {error}"))
    }

    fn timed<O>(&self, line: usize, operation: O) -> Timed<O> {
        let returned = if self.outcome == Outcome::Unknown { None } else { self.return_us };
        Timed { called: self.call_us, returned, line, operation }
    }
}

/// Reads a history. Empty lines and lines that begin with `#` are passed over, and so are operations that did nothing.
///
/// # Errors
/// [`Malformed`], naming the line and the field; also when one process has two operations under way at once (those of one
/// request, with equal times, are one: a poll's answer can list several tasks).
pub fn read(input: impl BufRead) -> Result<History, Malformed> {
    let mut history = History::default();
    let mut busy: BTreeMap<u64, Vec<(u64, u64, usize)>> = BTreeMap::new();
    for (index, text) in input.lines().enumerate() {
        let (text, number) = (text?, index + 1);
        if text.trim().is_empty() || text.starts_with('#') {
            continue;
        }
        if history.operations == OPERATIONS_MAX {
            return Err(Malformed::TooLong);
        }
        history.operations += 1;
        let bad = |what: String| Malformed::Line { line: number, what };
        let line: Line = serde_json::from_str(&text).map_err(|error| bad(error.to_string()))?;
        match (line.outcome, line.return_us) {
            (Outcome::Answered, None) => return Err(bad("return_us: an answered operation has returned".into())),
            (_, Some(returned)) if returned < line.call_us => return Err(bad("return_us: it lies before call_us".into())),
            _ => {}
        }
        let end = line.return_us.filter(|_| line.outcome != Outcome::Unknown).unwrap_or(u64::MAX);
        busy.entry(line.process).or_default().push((line.call_us, end, number));
        if line.outcome == Outcome::None {
            continue;
        }
        match line.object {
            Object::Key => {
                let operation = key::Operation { call: line.call().map_err(bad)?, answer: line.answer().map_err(bad)? };
                history.keys.entry(line.name.clone()).or_default().push(line.timed(number, operation));
            }
            Object::Task => {
                let operation = task::Operation { call: line.call().map_err(bad)?, answer: line.answer().map_err(bad)? };
                history.tasks.entry(line.name.clone()).or_default().push(line.timed(number, operation));
            }
        }
    }
    for (process, mut spans) in busy {
        spans.sort_unstable();
        if let Some(pair) =
            spans.windows(2).find(|pair| pair[1].0 < pair[0].1 && (pair[0].0, pair[0].1) != (pair[1].0, pair[1].1))
        {
            let what = format!("process {process} called while its operation of line {} was under way", pair[0].2);
            return Err(Malformed::Line { line: pair[1].2, what });
        }
    }
    Ok(history)
}

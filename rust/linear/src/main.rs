//! `linear-check FILE…`: checks recorded histories (docs/history-format.md).
//!
//! Exit code: 0 all linearizable, 1 one is not, 2 one is not decided within the budget, 3 one could not be read.

use std::fs::File;
use std::io::BufReader;
use std::process::ExitCode;

use linear::check::{Report, check};
use linear::history;
use linear::search::Budget;

const USAGE: &str = "usage: linear-check [--steps-max N] [--cache-max N] FILE…

Checks whether each history is linearizable. --steps-max bounds the operations tried for one object (default 50,000,000),
--cache-max the states remembered for it (default 2,000,000, about 200 bytes each).
Exit code: 0 all are, 1 one is not, 2 one is not decided within these bounds, 3 one could not be read.";

/// Findings shown for one file.
const SHOWN_MAX: usize = 3;

fn main() -> ExitCode {
    let mut budget = Budget::default();
    let mut files = Vec::new();
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut number = || arguments.next().and_then(|text| text.parse::<u64>().ok()).filter(|number| *number > 0);
        match argument.as_str() {
            "--steps-max" | "--cache-max" => {
                let Some(value) = number() else { return usage(&format!("{argument} needs a number above 0")) };
                if argument == "--steps-max" {
                    budget.steps_max = value;
                } else {
                    budget.cache_max = usize::try_from(value).unwrap_or(usize::MAX);
                }
            }
            "--help" | "-h" => {
                println!("{USAGE}");
                return ExitCode::SUCCESS;
            }
            option if option.starts_with('-') => return usage(&format!("unknown option {option}")),
            _ => files.push(argument),
        }
    }
    if files.is_empty() {
        return usage("no file");
    }
    ExitCode::from(
        files.iter().map(|file| one(file, budget)).max_by_key(|code| [0, 2, 1, 3].iter().position(|c| c == code)).unwrap_or(0),
    )
}

fn usage(what: &str) -> ExitCode {
    eprintln!("linear-check: {what}\n{USAGE}");
    ExitCode::from(3)
}

fn one(file: &str, budget: Budget) -> u8 {
    let history = match File::open(file).map_err(history::Malformed::from).and_then(|file| history::read(BufReader::new(file))) {
        Ok(history) => history,
        Err(error) => {
            eprintln!("{file}: {error}");
            return 3;
        }
    };
    let Report { operations, objects, longest, violations, unknown } = check(&history, budget);
    let verdict = match (violations.len(), unknown.len()) {
        (0, 0) => "linearizable".to_owned(),
        (0, count) => format!("UNKNOWN for {count} objects"),
        (count, _) => format!("NOT linearizable: {count} objects"),
    };
    println!("{file}: {verdict} ({operations} operations, {objects} objects, at most {longest} on one)");
    for finding in violations.iter().chain(&unknown).take(SHOWN_MAX) {
        print!("{}", finding.text);
    }
    match (violations.is_empty(), unknown.is_empty()) {
        (false, _) => 1,
        (true, false) => 2,
        (true, true) => 0,
    }
}

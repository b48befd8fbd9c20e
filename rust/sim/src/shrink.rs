//! Makes a failing run smaller: fewer faults, fewer operations, while the same invariant breaks.

use crate::run::run;
use crate::world::{Options, Report};

/// Runs tried at most.
const RUNS_MAX: usize = 300;

/// The smallest options found that still break the same invariant, and their report.
pub fn shrink(options: &Options, report: &Report) -> (Options, Report) {
    shrink_by(options, report, run)
}

fn shrink_by(options: &Options, report: &Report, run: impl Fn(&Options) -> Report) -> (Options, Report) {
    let Some(invariant) = report.violation.as_ref().map(|v| v.invariant) else { return (options.clone(), report.clone()) };
    let mut best = (Options { faults: Some(report.planned.clone()), ..options.clone() }, report.clone());
    let mut runs = 0;
    let mut try_out = |best: &mut (Options, Report), smaller: Options| {
        runs += 1;
        if runs > RUNS_MAX {
            return false;
        }
        let report = run(&smaller);
        let same = report.violation.as_ref().is_some_and(|v| v.invariant == invariant);
        if same {
            *best = (Options { faults: Some(report.planned.clone()), ..smaller }, report);
        }
        same
    };
    // Halves, quarters, … of the faults, then one by one (ddmin, Zeller and Hildebrandt 2002).
    let mut chunk = best.0.faults.as_ref().map_or(0, Vec::len).div_ceil(2);
    while chunk > 0 {
        let mut at = 0;
        while at < best.0.faults.as_ref().map_or(0, Vec::len) {
            let mut faults = best.0.faults.clone().unwrap_or_default();
            let end = (at + chunk).min(faults.len());
            faults.drain(at..end);
            let smaller = Options { faults: Some(faults), ..best.0.clone() };
            if !try_out(&mut best, smaller) {
                at += chunk;
            }
        }
        chunk /= 2;
    }
    let mut step = best.1.operations / 2;
    while step > 0 {
        let operations = best.1.operations.saturating_sub(step);
        let smaller = Options { operations: Some(operations), ..best.0.clone() };
        if !try_out(&mut best, smaller) {
            step /= 2;
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Violation;
    use crate::profile::Profile;

    /// A bug that needs faults 3 and 7 and ten operations.
    fn broken(options: &Options) -> Report {
        let planned = options.faults.clone().unwrap_or_else(|| (0..20).collect());
        let operations = options.operations.unwrap_or(300);
        let breaks = planned.contains(&3) && planned.contains(&7) && operations >= 10;
        let violation = breaks.then(|| Violation { invariant: "x", text: String::new(), at_us: 0 });
        Report { violation, planned, operations, ..Report::default() }
    }

    #[test]
    fn what_is_not_needed_is_left_out() {
        let options =
            Options { seed: 1, profile: Profile::Calm, voters: 3, observers: 0, faults: None, operations: None, print: false };
        let (smaller, report) = shrink_by(&options, &broken(&options), broken);
        assert_eq!(smaller.faults, Some(vec![3, 7]));
        assert_eq!(report.operations, 10);
        assert!(report.violation.is_some());
    }
}

//! The simulator itself: a seed replays exactly, every profile runs, and a run is as large as it says.

use sim::{Options, Profile, Report, run};

fn options(seed: u64, profile: Profile, voters: usize) -> Options {
    Options { seed, profile, voters, observers: 0, faults: None, operations: None, print: false }
}

fn clean(options: &Options) -> Report {
    let report = run(options);
    assert_eq!(report.violation, None, "sim --seed {} --profile {}", options.seed, options.profile.name());
    report
}

#[test]
fn a_seed_twice_has_the_same_trace() {
    for profile in [Profile::Everything, Profile::Snapshot] {
        let (first, second) = (clean(&options(11, profile, 3)), clean(&options(11, profile, 3)));
        assert_eq!(first, second);
        let other = clean(&options(12, profile, 3));
        assert_ne!(first.trace, other.trace, "another seed is another run");
    }
}

#[test]
fn every_profile_holds_its_promises_at_three_voters() {
    for profile in Profile::ALL {
        let report = clean(&options(7, profile, 3));
        assert!(report.events >= 10_000 && report.operations >= 300 && report.faults >= 20, "{report:?}");
        assert!(report.acknowledged > 100 && report.reads > 20 && report.tasks > 50, "{report:?}");
    }
}

#[test]
fn five_and_seven_voters_hold_theirs() {
    for voters in [5, 7] {
        clean(&options(3, Profile::Everything, voters));
    }
}

/// A run with a part of its faults and operations is the same run up to where they are missed: what
/// shrinking relies on is that it ends, and replays.
#[test]
fn a_part_of_a_run_replays_as_well() {
    let part = Options { faults: Some(vec![1, 4]), operations: Some(40), ..options(5, Profile::Crash, 3) };
    let (first, second) = (clean(&part), clean(&part));
    assert_eq!(first, second);
    assert_eq!((first.planned.clone(), first.operations), (vec![1, 4], 40));
}

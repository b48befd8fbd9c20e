//! Runs seeds against one mutant on every core until one of them notices it.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use sim::{Options, Profile};

/// What noticed the mutant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kill {
    /// Runs up to and with this one.
    pub runs: u64,
    pub profile: Profile,
    pub voters: usize,
    pub seed: u64,
    pub invariant: String,
    pub text: String,
}

/// One run; what it broke. A panic of the code under test counts: in the product it ends the process (DESIGN rule 5).
pub fn run(profile: Profile, voters: usize, seed: u64) -> Option<(String, String)> {
    let options = Options { seed, profile, voters, observers: 0, faults: None, operations: None, print: false };
    sim::run(&options).violation.map(|v| (v.invariant.to_owned(), v.text))
}

/// The first of `count` runs that breaks something; `run_of` names run number 0, 1, ….
pub fn first_kill(count: u64, jobs: usize, run_of: impl Fn(u64) -> (Profile, usize, u64) + Sync) -> Option<Kill> {
    let next = AtomicU64::new(0);
    let first: Mutex<Option<Kill>> = Mutex::new(None);
    let known = |first: &Mutex<Option<Kill>>| first.lock().map_or(u64::MAX, |f| f.as_ref().map_or(u64::MAX, |k| k.runs));
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    if at >= count || at >= known(&first) {
                        return;
                    }
                    let (profile, voters, seed) = run_of(at);
                    if let Some((invariant, text)) = run(profile, voters, seed)
                        && let Ok(mut first) = first.lock()
                        && first.as_ref().is_none_or(|k| at + 1 < k.runs)
                    {
                        *first = Some(Kill { runs: at + 1, profile, voters, seed, invariant, text });
                    }
                }
            });
        }
    });
    first.into_inner().ok().flatten()
}

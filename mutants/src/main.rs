//! Hunts planted bugs with the simulator; `python -m mutants` (`make mutants`) drives it and prints for people.
//!
//! ```text
//! mutants list                                     one JSON line for each mutant
//! mutants hunt NAME RUNS [PROFILE VOTERS SEED]     the first run that notices it, the named one before the planned ones
//! mutants control                                  runs without a mutant; stdin: lines `PROFILE VOTERS FIRST LAST`
//! ```
//! One process has one mutant. Answers are JSON lines on standard output.

mod hunt;
mod plan;

use std::io::Read;
use std::process::ExitCode;

use serde_json::json;
use sim::Profile;

fn main() -> ExitCode {
    // What panics in a run is an answer, not a message.
    std::panic::set_hook(Box::new(|_| {}));
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["list"] => list(),
        ["hunt", name, runs] => hunt(name, runs, None),
        ["hunt", name, runs, profile, voters, seed] => hunt(name, runs, Some([profile, voters, seed])),
        ["control"] => control(),
        _ => Err("usage: mutants list | hunt NAME RUNS [PROFILE VOTERS SEED] | control".to_owned()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("mutants: {problem}");
            ExitCode::from(2)
        }
    }
}

fn jobs() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

fn list() -> Result<(), String> {
    for mutant in mutant::ALL {
        let grounds: Vec<_> = plan::grounds(mutant.name).iter().map(|(p, voters)| json!([p.name(), voters])).collect();
        let line = json!({"name": mutant.name, "lives_in": mutant.lives_in, "breaks": mutant.breaks, "grounds": grounds});
        println!("{line}");
    }
    Ok(())
}

fn number<N: std::str::FromStr>(field: &str, word: &str) -> Result<N, String> {
    word.parse().map_err(|_| format!("{field}: {word:?} is not a number"))
}

fn profile(word: &str) -> Result<Profile, String> {
    Profile::from_name(word).ok_or_else(|| format!("PROFILE: there is no {word:?}"))
}

fn hunt(name: &str, runs: &str, first: Option<[&str; 3]>) -> Result<(), String> {
    mutant::select(Some(name)).map_err(|e| e.to_string())?;
    let planned: u64 = number("RUNS", runs)?;
    let first = match first {
        None => None,
        Some([p, voters, seed]) => Some((profile(p)?, number("VOTERS", voters)?, number("SEED", seed)?)),
    };
    let ahead = u64::from(first.is_some());
    let run_of = |at: u64| match first {
        Some(first) if at == 0 => first,
        _ => plan::run_of(name, at - ahead),
    };
    // A recorded seed mostly settles it: the other cores would only run in vain.
    let kill = first.and_then(|_| hunt::first_kill(1, 1, run_of)).or_else(|| hunt::first_kill(planned + ahead, jobs(), run_of));
    let line = match kill {
        None => json!({"mutant": name, "killed": false, "runs": planned}),
        Some(kill) => json!({
            "mutant": name, "killed": true, "runs": kill.runs, "profile": kill.profile.name(), "voters": kill.voters,
            "seed": kill.seed, "invariant": kill.invariant, "text": kill.text,
        }),
    };
    println!("{line}");
    Ok(())
}

fn control() -> Result<(), String> {
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text).map_err(|e| e.to_string())?;
    let mut runs = Vec::new();
    for line in text.lines() {
        let [p, voters, low, high] = line.split_whitespace().collect::<Vec<_>>()[..] else {
            return Err(format!("not PROFILE VOTERS FIRST LAST: {line:?}"));
        };
        let (p, voters) = (profile(p)?, number::<usize>("VOTERS", voters)?);
        let (low, high): (u64, u64) = (number("FIRST", low)?, number("LAST", high)?);
        runs.extend((low..=high).map(|seed| (p, voters, seed)));
    }
    let kill = hunt::first_kill(runs.len() as u64, jobs(), |at| runs[at as usize]);
    let line = match kill {
        None => json!({"runs": runs.len(), "violations": 0}),
        Some(kill) => json!({
            "runs": kill.runs, "violations": 1, "profile": kill.profile.name(), "voters": kill.voters, "seed": kill.seed,
            "invariant": kill.invariant, "text": kill.text,
        }),
    };
    println!("{line}");
    Ok(())
}

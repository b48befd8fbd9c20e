//! `sim`: runs seeds, shrinks those that fail, and ends with `n seeds, v violations`.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use sim::{Options, Profile, Report, run, shrink};

/// A run is many small allocations that live shortly: the allocator of glibc took a quarter of it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const USAGE: &str = "usage: sim [--seed N | --first K --seeds N] [--profile NAME|all] [--voters 3|5|7|101] [--threads T] \
[--faults 1,2,3] [--operations N] [--trace] [--no-shrink] [--json]";

struct Arguments {
    first: u64,
    seeds: u64,
    profiles: Vec<Profile>,
    voters: Vec<usize>,
    threads: usize,
    faults: Option<Vec<u32>>,
    operations: Option<u32>,
    trace: bool,
    shrink: bool,
    /// The counts as one JSON object on a line of its own, for `trust/simulate.py`.
    json: bool,
}

fn parse() -> Result<Arguments, String> {
    let mut out = Arguments {
        first: 1,
        seeds: 1,
        profiles: Profile::ALL.to_vec(),
        voters: vec![3],
        threads: 1,
        faults: None,
        operations: None,
        trace: false,
        shrink: true,
        json: false,
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        if name == "--trace" {
            out.trace = true;
            continue;
        }
        if name == "--json" {
            out.json = true;
            continue;
        }
        if name == "--no-shrink" {
            out.shrink = false;
            continue;
        }
        let value = arguments.next().ok_or_else(|| format!("{name} needs a value\n{USAGE}"))?;
        let number = || value.parse::<u64>().map_err(|_| format!("{name}: {value:?} is no number"));
        match name.as_str() {
            "--seed" => (out.first, out.seeds) = (number()?, 1),
            "--first" => out.first = number()?,
            "--seeds" => out.seeds = number()?,
            "--threads" => out.threads = number()?.clamp(1, 64) as usize,
            "--operations" => out.operations = Some(number()? as u32),
            "--profile" if value == "all" => out.profiles = Profile::ALL.to_vec(),
            "--profile" => {
                let one = |name: &str| Profile::from_name(name).ok_or_else(|| format!("--profile: {name:?} is none of them"));
                out.profiles = value.split(',').map(one).collect::<Result<_, _>>()?;
            }
            "--voters" => {
                let one = |n: &str| n.parse().ok().filter(|n| [1, 3, 5, 7, 101].contains(n)).ok_or("--voters: 1, 3, 5, 7 or 101");
                out.voters = value.split(',').map(one).collect::<Result<_, _>>()?;
            }
            "--faults" => {
                let one = |n: &str| n.parse().map_err(|_| format!("--faults: {n:?} is no number"));
                out.faults = Some(value.split(',').filter(|n| !n.is_empty()).map(one).collect::<Result<_, _>>()?);
            }
            _ => return Err(format!("{name} is unknown\n{USAGE}")),
        }
    }
    Ok(out)
}

impl Arguments {
    /// Seeds go round the profiles and sizes.
    fn options(&self, seed: u64) -> Options {
        let kind = seed as usize;
        let members = self.voters[kind / self.profiles.len() % self.voters.len()];
        let (voters, observers) = if members == 101 { (5, 96) } else { (members, 0) };
        Options {
            seed,
            profile: self.profiles[kind % self.profiles.len()],
            voters,
            observers,
            faults: self.faults.clone(),
            operations: self.operations,
            print: self.trace,
        }
    }
}

fn command(options: &Options) -> String {
    let members = options.voters + options.observers;
    let mut out = format!("sim --seed {} --profile {} --voters {members}", options.seed, options.profile.name());
    if let Some(faults) = &options.faults {
        let faults: Vec<String> = faults.iter().map(u32::to_string).collect();
        out += &format!(" --faults {},", faults.join(","));
    }
    if let Some(operations) = options.operations {
        out += &format!(" --operations {operations}");
    }
    out
}

#[derive(Default)]
struct Totals {
    seeds: u64,
    violations: u64,
    events: u64,
    operations: u64,
    acknowledged: u64,
    faults: u64,
    snapshots: u64,
    restarts: u64,
    by_profile: BTreeMap<&'static str, u64>,
}

impl Totals {
    fn add(&mut self, options: &Options, report: &Report) {
        self.seeds += 1;
        self.violations += u64::from(report.violation.is_some());
        self.events += report.events;
        self.operations += u64::from(report.operations);
        self.acknowledged += u64::from(report.acknowledged);
        self.faults += u64::from(report.faults);
        self.snapshots += u64::from(report.snapshots);
        self.restarts += u64::from(report.restarts);
        *self.by_profile.entry(options.profile.name()).or_default() += 1;
    }
}

fn say(options: &Options, report: &Report) {
    println!(
        "seed {} {} {}: {} events, {} operations ({} acknowledged, {} reads, {} unknown), {} faults, {} tasks, {} entries, {} elections, \
         {} snapshots, {} restarts, {} ms, trace {:016x}",
        options.seed,
        options.profile.name(),
        options.voters + options.observers,
        report.events,
        report.operations,
        report.acknowledged,
        report.reads,
        report.unknown,
        report.faults,
        report.tasks,
        report.entries,
        report.elections,
        report.snapshots,
        report.restarts,
        report.simulated_ms,
        report.trace
    );
}

fn fail(options: &Options, report: &Report, arguments: &Arguments) {
    let Some(violation) = &report.violation else { return };
    println!("VIOLATION {} at {} ms: {}", violation.invariant, violation.at_us / 1_000, violation.text);
    println!("  {}", command(options));
    if arguments.shrink && options.faults.is_none() {
        let (smaller, report) = shrink::shrink(options, report);
        let text = report.violation.map(|v| v.text).unwrap_or_default();
        println!("  smaller: {}  ({} faults: {text})", command(&smaller), report.faults);
    }
}

fn main() -> ExitCode {
    let arguments = match parse() {
        Ok(arguments) => arguments,
        Err(text) => {
            eprintln!("{text}");
            return ExitCode::from(2);
        }
    };
    // A panic of the code under test becomes a violation; its message is enough.
    std::panic::set_hook(Box::new(|_| {}));
    let (next, totals) = (AtomicU64::new(0), Mutex::new(Totals::default()));
    let started = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..arguments.threads {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= arguments.seeds {
                        return;
                    }
                    let options = arguments.options(arguments.first + number);
                    let report = run(&options);
                    if arguments.seeds == 1 {
                        say(&options, &report);
                    }
                    if report.violation.is_some() {
                        fail(&options, &report, &arguments);
                    }
                    if let Ok(mut totals) = totals.lock() {
                        totals.add(&options, &report);
                    }
                }
            });
        }
    });
    let totals = totals.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
    let seconds = started.elapsed().as_secs_f64();
    println!(
        "{:.1} s, {:.1} seeds/s, {} events, {} operations, {} acknowledged, {} faults, {} snapshots, {} restarts, {:?}",
        seconds,
        totals.seeds as f64 / seconds,
        totals.events,
        totals.operations,
        totals.acknowledged,
        totals.faults,
        totals.snapshots,
        totals.restarts,
        totals.by_profile
    );
    if arguments.json {
        println!(
            "{{\"seeds\": {}, \"violations\": {}, \"seconds\": {seconds:.1}, \"counts\": {{\"events\": {}, \"operations\": {}, \
             \"acknowledged\": {}, \"faults\": {}, \"snapshots\": {}, \"restarts\": {}}}}}",
            totals.seeds,
            totals.violations,
            totals.events,
            totals.operations,
            totals.acknowledged,
            totals.faults,
            totals.snapshots,
            totals.restarts
        );
    }
    println!("{} seeds, {} violations", totals.seeds, totals.violations);
    if totals.violations == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

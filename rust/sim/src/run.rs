//! One run: set the world up, let it go, report.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::agent::Agent;
use crate::client::Client;
use crate::ending::Phase;
use crate::fault;
use crate::invariant::{Invariants, Violation};
use crate::network::Network;
use crate::profile::{Kind, Profile};
use crate::queue::Queue;
use crate::rng::Rng;
use crate::trace::Trace;
use crate::world::{Options, Report, What, World};

/// What every seed must be at least; a smaller one is a defect of the simulator itself.
const EVENTS_MIN: u64 = 10_000;
const OPERATIONS_MIN: u32 = 300;
const FAULTS_MIN: u32 = 20;

/// Runs one seed. A panic of the code under test is a violation like any other.
pub fn run(options: &Options) -> Report {
    let mut world = World::new(options);
    let ended = catch_unwind(AssertUnwindSafe(|| world.begin_and_run()));
    let violation = match ended {
        Ok(Ok(())) => world.too_small(),
        Ok(Err(violation)) => Some(violation),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned())).unwrap_or_default();
            Some(world.violation("panic", text))
        }
    };
    let mut report = std::mem::take(&mut world.report);
    report.violation = violation;
    report.trace = world.trace.hash();
    report.events = world.trace.events;
    report.tasks = world.invariants.tasks.known().len() as u32;
    report.elections = world.invariants.election.elections();
    report.entries = world.invariants.replay.last();
    report.simulated_ms = world.now / 1_000;
    report
}

impl World {
    fn new(options: &Options) -> Self {
        let stream = |n| Rng::new(options.seed ^ (options.voters as u64) << 56 ^ (options.profile as u64) << 48, n);
        let mut rng = stream(1);
        let mut budget = options.profile.budget(&mut rng);
        let mut plan = fault::plan(&budget, &mut stream(2));
        if options.profile == Profile::Disk && options.voters >= 3 {
            plan.extend(fault::once(Kind::Rot, (50_000, 500_000), &budget, &mut stream(5)));
        }
        if options.profile == Profile::Partition && options.voters >= 5 {
            plan.extend(fault::once(Kind::SlowMinority, (1_500_000, 2_500_000), &budget, &mut stream(5)));
        }
        if stream(6).chance(5_000) {
            budget.message_bytes_max = 1 << 10;
        }
        if let Some(kept) = &options.faults {
            plan.retain(|planned| kept.contains(&planned.number));
        }
        let members = options.voters + options.observers;
        let clients = (0..budget.clients).map(|n| Client::new(n % members, stream(100 + n as u64))).collect();
        let agents = (0..budget.agents).map(|n| Agent::new(n, n % members, stream(200 + n as u64))).collect();
        Self {
            options: options.clone(),
            network: Network::new(members + budget.spares, &budget, stream(3)),
            budget,
            now: 0,
            queue: Queue::default(),
            hosts: Vec::new(),
            clients,
            agents,
            plan,
            invariants: Invariants::default(),
            trace: Trace::new(options.print),
            report: Report::default(),
            phase: Phase::Faults,
            next_token: 0,
            next_transfer: 0,
            rng,
            fault_rng: stream(4),
            lost: None,
            asked_away: BTreeSet::new(),
        }
    }

    fn begin_and_run(&mut self) -> Result<(), Violation> {
        self.make_hosts();
        for at in 0..self.options.voters + self.options.observers {
            self.now = 1_000;
            let when = 1_000 + self.rng.below(100_000);
            self.queue.push(when, What::Restart { at, number: 0 });
        }
        for (planned, fault) in self.plan.iter().enumerate() {
            self.queue.push(fault.at, What::Fault { planned });
        }
        for client in 0..self.clients.len() {
            self.queue.push(200_000 + 10_000 * client as u64, What::Client { client, serial: 0 });
        }
        for agent in 0..self.agents.len() {
            self.agent_starts(agent);
        }
        self.queue.push(self.budget.fault_us, What::Phase);
        self.run()
    }

    /// A whole run must be large enough to mean something. One that was shrunk need not be.
    fn too_small(&self) -> Option<Violation> {
        let shrunk = self.options.faults.is_some() || self.options.operations.is_some();
        let (events, operations, faults) = (self.trace.events, self.report.operations, self.report.faults);
        let small = events < EVENTS_MIN || operations < OPERATIONS_MIN || faults < FAULTS_MIN;
        (small && !shrunk).then(|| {
            let text = format!("{events} events, {operations} operations, {faults} faults");
            self.violation("size of a run", text)
        })
    }
}

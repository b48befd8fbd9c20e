//! The simulated cluster, and the loop that lets one thing happen after the other.

use std::collections::BTreeSet;

use codec::peer::PeerBody;
use node::Event;

use crate::agent::{Agent, AgentStep};
use crate::client::Client;
use crate::disk::Crash;
use crate::ending::Phase;
use crate::fault::Planned;
use crate::host::{Host, Part, Transfer};
use crate::invariant::{Invariants, Violation};
use crate::network::Network;
use crate::profile::{Budget, Profile};
use crate::queue::{Queue, Time};
use crate::rng::Rng;
use crate::trace::Trace;

/// Something that will happen. `number` is that of the process it happens to.
pub enum What {
    /// The raft thread takes what is in its inbox.
    Turn {
        at: usize,
        number: u64,
    },
    LogDone {
        at: usize,
        number: u64,
    },
    ApplyDone {
        at: usize,
        number: u64,
    },
    DiskDone {
        at: usize,
        number: u64,
    },
    Fetched {
        at: usize,
        number: u64,
        fetch: u64,
        low: u64,
        high: u64,
        bytes_max: u64,
    },
    Deliver(Box<Delivery>),
    Dial {
        a: usize,
        b: usize,
    },
    Break {
        a: usize,
        b: usize,
        connection: u64,
    },
    SnapshotArrives {
        from: usize,
        number: u64,
        transfer: Box<Transfer>,
        connection: u64,
    },
    TransferTimeout {
        from: usize,
        number: u64,
        transfer: u64,
    },
    Policy {
        at: usize,
        number: u64,
    },
    Client {
        client: usize,
        serial: u64,
    },
    Agent {
        agent: usize,
        serial: u64,
        step: AgentStep,
    },
    Fault {
        planned: usize,
    },
    Recover {
        planned: usize,
    },
    Flap {
        planned: usize,
        blocked: bool,
    },
    /// A lost node's place is asked for.
    Member,
    Restart {
        at: usize,
        number: u64,
    },
    /// The end of a phase, or a look whether it can end.
    Phase,
}

pub struct Delivery {
    pub from: usize,
    pub to: usize,
    pub connection: u64,
    pub body: PeerBody,
}

/// What a run is asked to be.
#[derive(Clone, Debug)]
pub struct Options {
    pub seed: u64,
    pub profile: Profile,
    pub voters: usize,
    /// Members beside the voters, which tail the committed log through the tree.
    pub observers: usize,
    /// Only these planned faults happen; `None` for all.
    pub faults: Option<Vec<u32>>,
    /// At most this many client operations.
    pub operations: Option<u32>,
    /// Print what happens.
    pub print: bool,
}

/// What a run came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    pub violation: Option<Violation>,
    pub trace: u64,
    pub events: u64,
    pub operations: u32,
    pub acknowledged: u32,
    pub unknown: u32,
    pub reads: u32,
    pub faults: u32,
    pub tasks: u32,
    pub elections: u64,
    pub entries: u64,
    pub snapshots: u32,
    pub restarts: u32,
    pub simulated_ms: u64,
    /// Numbers of the planned faults that happened.
    pub planned: Vec<u32>,
}

pub struct World {
    pub options: Options,
    pub budget: Budget,
    pub now: Time,
    pub queue: Queue<What>,
    pub hosts: Vec<Host>,
    pub network: Network,
    pub clients: Vec<Client>,
    pub agents: Vec<Agent>,
    pub plan: Vec<Planned>,
    pub invariants: Invariants,
    pub trace: Trace,
    pub report: Report,
    pub phase: Phase,
    pub next_token: u64,
    pub next_transfer: u64,
    /// Chance in disks, threads and processes.
    pub rng: Rng,
    pub fault_rng: Rng,
    /// A directory that was lost for good, and the spare that is to take its place.
    pub lost: Option<(usize, usize)>,
    /// Members whose removal was ever asked for.
    pub asked_away: BTreeSet<String>,
}

/// A stop for runs that do not end, in events.
const EVENTS_MAX: u64 = 20_000_000;

impl World {
    /// Lets everything happen until the run ends or an invariant breaks.
    pub fn run(&mut self) -> Result<(), Violation> {
        while let Some((at, what)) = self.queue.pop() {
            self.now = at;
            self.trace.events += 1;
            self.happen(what)?;
            if self.phase == Phase::Over {
                return Ok(());
            }
            if self.trace.events > EVENTS_MAX {
                return Err(self.violation("liveness", format!("no end after {EVENTS_MAX} events")));
            }
        }
        Err(self.violation("liveness", "nothing happens any more".to_owned()))
    }

    pub fn violation(&self, invariant: &'static str, text: String) -> Violation {
        Violation { invariant, text, at_us: self.now }
    }

    fn happen(&mut self, what: What) -> Result<(), Violation> {
        match what {
            What::Turn { at, number } => self.turn(at, number),
            What::LogDone { at, number } => self.log_done(at, number),
            What::ApplyDone { at, number } => self.apply_done(at, number),
            What::DiskDone { at, number } => self.disk_done(at, number),
            What::Fetched { at, number, fetch, low, high, bytes_max } => self.fetched(at, number, fetch, low, high, bytes_max),
            What::Deliver(delivery) => {
                self.deliver(*delivery);
                Ok(())
            }
            What::Dial { a, b } => {
                self.dial(a, b);
                Ok(())
            }
            What::Break { a, b, connection } => {
                if self.network.connection(a, b) == connection && !(self.network.open(a, b) && self.network.open(b, a)) {
                    self.disconnect(a, b);
                }
                Ok(())
            }
            What::SnapshotArrives { from, number, transfer, connection } => {
                self.snapshot_arrives(from, number, *transfer, connection)
            }
            What::TransferTimeout { from, number, transfer } => {
                self.transfer_ended(from, number, transfer, false);
                Ok(())
            }
            What::Policy { at, number } => {
                self.policy(at, number);
                Ok(())
            }
            What::Member => {
                self.replace_lost();
                Ok(())
            }
            What::Client { client, serial } => self.client_wakes(client, serial),
            What::Agent { agent, serial, step } => self.agent_wakes(agent, serial, step),
            What::Fault { planned } => self.inject(planned),
            What::Recover { planned } => self.recover(planned),
            What::Flap { planned, blocked } => {
                self.flap(planned, blocked);
                Ok(())
            }
            What::Restart { at, number } => {
                if self.hosts[at].number == number && !self.hosts[at].up() && self.hosts[at].part == Part::Member {
                    self.start(at)?;
                }
                Ok(())
            }
            What::Phase => self.next_phase(),
        }
    }

    /// Position of a member by its raft id. They are given out in order.
    pub fn host_of(&self, raft_id: u64) -> Option<usize> {
        let at = raft_id.checked_sub(1)? as usize;
        (at < self.hosts.len()).then_some(at)
    }

    /// Puts an event into a node's inbox; its raft thread wakes up soon.
    pub fn tell(&mut self, at: usize, event: Event) {
        let soon = self.now + 5 + self.rng.below(200);
        if let Some(process) = &mut self.hosts[at].process {
            process.inbox.push(event);
            self.wake(at, soon);
        }
    }

    pub fn wake(&mut self, at: usize, when: Time) {
        let host = &mut self.hosts[at];
        let number = host.number;
        if let Some(process) = &mut host.process {
            let when = when.max(process.paused_until);
            if process.turn_at.is_none_or(|turn| when < turn) {
                process.turn_at = Some(when);
                self.queue.push(when, What::Turn { at, number });
            }
        }
    }

    /// The member that leads, if exactly one says so in the newest term.
    pub fn leader(&self) -> Option<usize> {
        let leads = |host: &Host| {
            let process = host.process.as_ref()?;
            process.driver.is_leader().then(|| process.consensus().map_or(0, consensus::Consensus::term))
        };
        (0..self.hosts.len()).filter_map(|at| leads(&self.hosts[at]).map(|term| (term, at))).max().map(|(_, at)| at)
    }

    /// One of the nodes that take part, by a number drawn.
    pub fn some_node(&self, drawn: u64) -> usize {
        let members = self.hosts.iter().filter(|h| h.part == Part::Member).count().max(1);
        let nth = drawn as usize % members;
        self.hosts.iter().enumerate().filter(|(_, h)| h.part == Part::Member).nth(nth).map_or(0, |(at, _)| at)
    }

    pub fn token(&mut self) -> u64 {
        self.next_token += 1;
        self.next_token
    }

    /// Whether the process of `at` stands still; then the event is put off.
    pub fn paused(&mut self, at: usize, number: u64, what: What) -> Option<What> {
        let until = self.hosts[at].process(number).map_or(0, |p| p.paused_until);
        if until > self.now {
            self.queue.push(until, what);
            return None;
        }
        Some(what)
    }

    /// Ends the process, and starts it again after a while.
    pub fn crash(&mut self, at: usize, how: Crash, down_us: Time) {
        if self.hosts[at].part != Part::Member {
            return;
        }
        self.stop(at, how);
        let number = self.hosts[at].number;
        let when = self.now + down_us;
        self.hosts[at].restart_at = Some(when);
        self.queue.push(when, What::Restart { at, number });
    }
}

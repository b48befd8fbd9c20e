//! Commands a second that one thread applies: submit, assign, start and complete of many tasks,
//! packed as a leader packs them, the changes built and written to rows in memory.
//!
//! `cargo run --release -p machine --example apply_rate [TASKS]`

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use codec::command::*;
use codec::log::{Bootstrap, BootstrapMember};
use codec::row::{Cf, Change, ReadError, StateRead};
use codec::{Command, EntryPayload, TaskId};
use machine::Machine;

const COMMANDS_AN_ENTRY: usize = 64;
const AGENTS: u64 = 100;

#[derive(Default)]
struct Rows(BTreeMap<(Cf, Vec<u8>), Vec<u8>>);

impl StateRead for Rows {
    fn get(&self, cf: Cf, key: &[u8]) -> Result<Option<Vec<u8>>, ReadError> {
        Ok(self.0.get(&(cf, key.to_vec())).cloned())
    }

    fn scan(&self, cf: Cf, prefix: &[u8], start: &[u8], visit: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> Result<(), ReadError> {
        for ((family, key), value) in self.0.range((cf, start.max(prefix).to_vec())..) {
            if *family != cf || !key.starts_with(prefix) || !visit(key, value) {
                break;
            }
        }
        Ok(())
    }
}

struct Run {
    machine: Machine,
    rows: Rows,
    index: u64,
    sequence: u64,
    spent: Duration,
    change_bytes: usize,
}

impl Run {
    fn entry(&mut self, bodies: Vec<Body>) {
        let commands = bodies.into_iter().map(|body| self.command(body)).collect();
        self.index += 1;
        let payload = EntryPayload { cluster_us: self.index * 100, wall_us: self.index * 100, seed: self.index, commands };
        let started = Instant::now();
        let applied = self.machine.apply(&self.rows, self.index, 1, &payload).expect("memory can be read");
        self.spent += started.elapsed();
        assert!(applied.outcomes.iter().all(|o| o.is_accepted() && o.detail.is_empty()), "{:?}", applied.outcomes[0]);
        for Change { cf, key, value } in applied.changes {
            self.change_bytes += key.len() + value.as_ref().map_or(0, Vec::len);
            match value {
                Some(value) => self.rows.0.insert((cf, key), value),
                None => self.rows.0.remove(&(cf, key)),
            };
        }
    }

    fn command(&mut self, body: Body) -> Command {
        if body.leader_only() {
            return Command { term: 1, body: Some(body), ..Command::default() };
        }
        if matches!(body, Body::OpenSession(_)) {
            return Command { session: 1, body: Some(body), ..Command::default() };
        }
        self.sequence += 1;
        let resolved_below = self.sequence.saturating_sub(200);
        Command { session: 1, sequence: self.sequence, resolved_below, body: Some(body), ..Command::default() }
    }
}

fn id(n: u64) -> TaskId {
    let mut bytes = [0; 16];
    bytes[8..].copy_from_slice(&n.to_be_bytes());
    TaskId(bytes)
}

fn submit(n: u64) -> Body {
    let spec = TaskSpec { id: id(n).to_vec(), task_type: "summarize".into(), payload: vec![b'x'; 100], ..TaskSpec::default() };
    Body::Submit(Submit { tenant: "default".into(), body_hash: vec![1; 16], tasks: vec![spec], ..Submit::default() })
}

fn main() {
    let tasks: u64 = std::env::args().nth(1).and_then(|n| n.parse().ok()).unwrap_or(100_000);
    let member = BootstrapMember { node_id: "n1".into(), raft_id: 1, address: "localhost:1".into() };
    let mut rows = Rows::default();
    for change in Machine::bootstrap_rows(&Bootstrap { cluster_id: 1, members: vec![member], wall_us: 1, seed: None }) {
        rows.0.insert((change.cf, change.key), change.value.unwrap_or_default());
    }
    let machine = Machine::load(&rows).expect("bootstrap rows load");
    let mut run = Run { machine, rows, index: 0, sequence: 0, spent: Duration::ZERO, change_bytes: 0 };
    run.entry(vec![Body::OpenSession(OpenSession { node_id: "n1".into() })]);
    for agent in 0..AGENTS {
        let resources = vec![Amount { name: "slots".into(), amount: tasks / AGENTS + 1 }];
        run.entry(vec![Body::RegisterAgent(RegisterAgent {
            agent_id: format!("agent-{agent}"),
            node_id: "n1".into(),
            resources,
            ..RegisterAgent::default()
        })]);
    }
    let agent = |n: u64| format!("agent-{}", n % AGENTS);
    let epochs: BTreeMap<String, u64> = run.machine.agents().map(|(id, a)| (id.to_string(), a.row().agent_epoch)).collect();
    let (mut all, mut commands) = (Duration::ZERO, 0);
    println!("{tasks} tasks, {AGENTS} agents, {COMMANDS_AN_ENTRY} commands an entry");
    for phase in ["submit", "assign", "start", "complete"] {
        run.spent = Duration::ZERO;
        run.change_bytes = 0;
        let numbers: Vec<u64> = (0..tasks).collect();
        for chunk in numbers.chunks(COMMANDS_AN_ENTRY) {
            let bodies = chunk.iter().map(|n| {
                let (task_id, agent_id) = (id(*n).to_vec(), agent(*n));
                match phase {
                    "submit" => submit(*n),
                    "assign" => {
                        let agent_epoch = epochs[&agent_id];
                        Body::Assign(Assign {
                            items: vec![Assignment { task_id, epoch: 0, agent_id, agent_epoch, terms: vec![1; 6] }],
                        })
                    }
                    "start" => Body::Start(Start { task_id, epoch: 1, agent_id }),
                    _ => Body::Complete(Complete { task_id, epoch: 1, agent_id, result: vec![b'y'; 100], ..Complete::default() }),
                }
            });
            run.entry(bodies.collect());
        }
        all += run.spent;
        commands += tasks;
        let rate = u128::from(tasks) * 1_000_000 / run.spent.as_micros().max(1);
        println!("{phase:>8}: {rate:>7} commands/s, {} bytes of rows each", run.change_bytes as u64 / tasks);
    }
    println!("     all: {:>7} commands/s", u128::from(commands) * 1_000_000 / all.as_micros().max(1));
}

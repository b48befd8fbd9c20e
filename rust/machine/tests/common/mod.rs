//! Rows in memory, and a machine over them that is checked after every entry.
#![allow(dead_code)]

use std::collections::BTreeMap;

use codec::command::{Amount, Body, RegisterAgent, Submit, TaskSpec};
use codec::log::{Bootstrap, BootstrapMember};
use codec::row::{self, Cf, Change, ReadError, StateRead, Status, TaskRow, index};
use codec::{Command, EntryPayload, TaskId};
use machine::{Applied, LoadPath, Machine};

/// A state store in memory.
#[derive(Clone, Default, PartialEq)]
pub struct Rows(pub BTreeMap<(Cf, Vec<u8>), Vec<u8>>);

impl Rows {
    pub fn write(&mut self, changes: &[Change]) {
        for Change { cf, key, value } in changes {
            match value {
                Some(value) => self.0.insert((*cf, key.clone()), value.clone()),
                None => self.0.remove(&(*cf, key.clone())),
            };
        }
    }

    pub fn family(&self, cf: Cf) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.0.range((cf, Vec::new())..).take_while(move |((c, _), _)| *c == cf).map(|((_, k), v)| (k.as_slice(), v.as_slice()))
    }

    pub fn tasks(&self) -> impl Iterator<Item = (TaskId, TaskRow)> {
        self.family(Cf::Task).map(|(key, value)| (TaskId::from_slice(key).expect("an id"), row::decode(value).expect("a row")))
    }
}

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

pub const SESSION: u64 = 7;
pub const START_WALL_US: u64 = 1_700_000_000_000_000;

/// A cluster's state with one session open, and the clock that stamps entries.
pub struct Cluster {
    pub machine: Machine,
    pub rows: Rows,
    pub cluster_us: u64,
    pub wall_us: u64,
    pub sequence: u64,
    pub log: Vec<EntryPayload>,
}

pub fn first_rows() -> Rows {
    let member = |n: u64| BootstrapMember { node_id: format!("n{n}"), raft_id: n, address: format!("host:{n}") };
    let bootstrap = Bootstrap { cluster_id: 99, members: (1..=3).map(member).collect(), wall_us: START_WALL_US, seed: None };
    let mut rows = Rows::default();
    rows.write(&Machine::bootstrap_rows(&bootstrap));
    rows
}

impl Cluster {
    pub fn new() -> Self {
        let rows = first_rows();
        let machine = Machine::load(&rows).expect("bootstrap rows load");
        let mut cluster = Self { machine, rows, cluster_us: 0, wall_us: START_WALL_US, sequence: 0, log: Vec::new() };
        let open = Body::OpenSession(codec::command::OpenSession { node_id: "tester".into() });
        cluster.apply(vec![Command { session: SESSION, body: Some(open), ..Command::default() }]);
        cluster
    }

    pub fn open_session(&mut self) {
        let open = Body::OpenSession(codec::command::OpenSession { node_id: "m1".into() });
        self.apply(vec![Command { session: SESSION, body: Some(open), ..Command::default() }]);
    }

    pub fn command(&mut self, body: Body) -> Command {
        if body.leader_only() {
            return Command { term: 1, body: Some(body), ..Command::default() };
        }
        self.sequence += 1;
        Command {
            session: SESSION,
            sequence: self.sequence,
            resolved_below: self.sequence,
            body: Some(body),
            ..Command::default()
        }
    }

    pub fn run(&mut self, bodies: Vec<Body>) -> Applied {
        let commands = bodies.into_iter().map(|body| self.command(body)).collect();
        self.apply(commands)
    }

    pub fn apply(&mut self, commands: Vec<Command>) -> Applied {
        let index = self.machine.applied_index() + 1;
        let payload = EntryPayload { cluster_us: self.cluster_us, wall_us: self.wall_us, seed: index * 31, commands };
        let applied = self.machine.apply(&self.rows, index, 1, &payload).expect("memory can be read");
        self.rows.write(&applied.changes);
        self.log.push(payload);
        applied
    }

    pub fn advance_ms(&mut self, ms: u64) {
        self.cluster_us += ms * 1_000;
        self.wall_us += ms * 1_000;
    }

    pub fn row(&self, id: TaskId) -> Option<TaskRow> {
        let value = self.rows.get(Cf::Task, &id.0).expect("memory can be read")?;
        Some(row::decode(&value).expect("a row"))
    }

    /// Everything that must hold between entries, recomputed from the rows.
    pub fn check(&self) {
        assert_eq!(self.machine.hash(), Machine::hash_of_rows(&self.rows).expect("readable"), "state hash");
        for path in [LoadPath::Sweep, LoadPath::Index] {
            let loaded = Machine::load_by(&self.rows, path).expect("the rows load");
            assert_eq!(self.machine.difference(&loaded), None, "memory rebuilt from rows by {path:?}");
        }
        let mut by_status = [0u64; 13];
        let mut expected_index: BTreeMap<Vec<u8>, ()> = BTreeMap::new();
        let mut used: BTreeMap<(String, String), u64> = BTreeMap::new();
        for (id, row) in self.rows.tasks() {
            let status = Status::try_from(row.status).expect("a status");
            by_status[status as usize] += 1;
            expect_index(&mut expected_index, id, &row, status);
            if status.held() {
                for need in &row.requirements.expect("normalised").resources {
                    *used.entry((row.assigned_agent_id.clone(), need.name.clone())).or_default() += need.amount;
                }
            }
            assert_eq!(self.machine.task(id).is_some(), !status.ended(), "{id} is in memory exactly while it is live");
        }
        let meta = self.machine.meta();
        assert_eq!(meta.tasks_by_status, by_status);
        assert_eq!(by_status.iter().sum::<u64>(), meta.tasks_submitted - meta.tasks_forgotten);
        for (key, _) in self.rows.family(Cf::Index).filter(|(key, _)| key[0] != index::BY_KEY_AGE) {
            assert!(expected_index.remove(key).is_some(), "an index row too many: {}", key[0] as char);
        }
        assert!(expected_index.is_empty(), "{} index rows are missing", expected_index.len());
        for (id, agent) in self.machine.agents() {
            for (total, taken) in agent.row().resources.iter().zip(agent.used()) {
                assert!(*taken <= total.amount);
                assert_eq!(*taken, used.get(&(id.to_string(), total.name.clone())).copied().unwrap_or(0));
            }
        }
        assert_eq!(meta.idempotency_rows as usize, self.rows.family(Cf::Idempotency).count());
    }

    /// A second machine fed with the same log has the same rows.
    pub fn check_replay(&self) {
        let mut rows = first_rows();
        let mut machine = Machine::load(&rows).expect("bootstrap rows load");
        for (at, payload) in self.log.iter().enumerate() {
            let applied = machine.apply(&rows, at as u64 + 1, 1, payload).expect("readable");
            rows.write(&applied.changes);
        }
        assert!(rows == self.rows, "a replay gives the same rows");
        assert_eq!(machine.difference(&self.machine), None);
    }
}

fn expect_index(expected: &mut BTreeMap<Vec<u8>, ()>, id: TaskId, row: &TaskRow, status: Status) {
    let created = row.created_wall_us;
    expected.insert(index::by_time(&row.tenant, created, id), ());
    expected.insert(index::by_type(&row.tenant, &row.task_type, created, id), ());
    expected.insert(index::by_status(&row.tenant, status, created, id), ());
    if let Ok(parent) = TaskId::from_slice(&row.parent_id) {
        expected.insert(index::by_parent(parent, row.submit_position, id), ());
    }
    if status.held() {
        expected.insert(index::by_agent(&row.assigned_agent_id, id), ());
    }
    if status.ended() {
        expected.insert(index::by_end(row.completed_wall_us, id), ());
    }
}

/// The state of a new cluster of m1 and m2 that was restored from `old`.
pub fn seeded(old: &Cluster) -> Cluster {
    let member = |n: u64| BootstrapMember { node_id: format!("m{n}"), raft_id: 70 + n, address: format!("host:{n}") };
    let members = (1..=2).map(member).collect();
    let bootstrap = Bootstrap { cluster_id: 7, members, wall_us: old.wall_us + 5, seed: None };
    let mut rows = Rows(old.rows.0.clone());
    rows.write(&Machine::seed_rows(&old.rows, &bootstrap).expect("the rows load"));
    let machine = Machine::load(&rows).expect("the new rows load");
    Cluster { machine, rows, cluster_us: old.cluster_us, wall_us: old.wall_us + 5, sequence: 0, log: Vec::new() }
}

pub fn id(number: u64) -> TaskId {
    let mut bytes = [0; 16];
    bytes[8..].copy_from_slice(&number.to_be_bytes());
    TaskId(bytes)
}

pub fn spec(id: TaskId) -> TaskSpec {
    TaskSpec { id: id.to_vec(), task_type: "work".into(), payload: b"{}".to_vec(), ..TaskSpec::default() }
}

pub fn submit(spec: TaskSpec) -> Body {
    Body::Submit(Submit { tenant: "default".into(), body_hash: spec.id.clone(), tasks: vec![spec], ..Submit::default() })
}

pub fn register(agent: &str, node: &str, slots: u64) -> Body {
    Body::RegisterAgent(RegisterAgent {
        agent_id: agent.into(),
        node_id: node.into(),
        resources: vec![Amount { name: "slots".into(), amount: slots }],
        ..RegisterAgent::default()
    })
}

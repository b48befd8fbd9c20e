//! Random histories. After each: the state hash, the counts, the index rows and each agent's use
//! are what a full scan of the rows says; a machine loaded from the rows equals the live one; a
//! replay of the log gives the same bytes; and what is refused has changed nothing.

mod common;

use codec::command::*;
use codec::row::{Cf, Status};
use codec::{Refusal, TaskId};
use common::{Cluster, id, register, spec, submit};
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Op {
    Submit {
        dependency: Option<u64>,
        policy: i32,
        run_ms: u64,
        not_before_ms: u64,
        attempts: u32,
        slots: u64,
        key: Option<u8>,
    },
    Dag {
        children: usize,
        policy: i32,
        optional: bool,
        chain: bool,
    },
    Resubmit {
        task: u64,
        same: bool,
    },
    Register {
        agent: u8,
        slots: u64,
    },
    Leave {
        agent: u8,
    },
    DrainAgent {
        agent: u8,
        drain: bool,
    },
    DrainNode {
        node: u8,
        drain: bool,
    },
    /// A command on members; `verb` chooses which.
    Member {
        verb: u8,
        node: u8,
        other: u8,
        role: i32,
        raft_id: u64,
    },
    Assign {
        task: u64,
        agent: u8,
        stale: bool,
    },
    Start {
        task: u64,
        stale: bool,
    },
    Progress {
        task: u64,
    },
    Complete {
        task: u64,
        stale: bool,
    },
    Fail {
        task: u64,
        retryable: bool,
    },
    Cancel {
        task: u64,
        kill: bool,
    },
    Reschedule {
        task: u64,
        later: bool,
    },
    Retry {
        task: u64,
    },
    Lose {
        agent: u8,
    },
    /// Every agent takes the task and is lost with it.
    Poison {
        task: u64,
    },
    Wait {
        ms: u64,
    },
    Forget,
    Put {
        key: u8,
        absent: bool,
    },
    Delete {
        key: u8,
    },
    Again,
    NewSession,
}

fn op() -> impl Strategy<Value = Op> {
    let task = 0..40u64;
    let agent = 0..4u8;
    prop_oneof![
        4 => (proptest::option::of(task.clone()), 0..3i32, 0..2_000u64, 0..2u64, 1..3u32, 0..3u64, proptest::option::of(0..3u8)).prop_map(
            |(dependency, policy, run_ms, later, attempts, slots, key)| Op::Submit {
                dependency, policy, run_ms, not_before_ms: later * 500, attempts, slots, key
            }
        ),
        2 => (1..5usize, 0..3i32, any::<bool>(), any::<bool>())
            .prop_map(|(children, policy, optional, chain)| Op::Dag { children, policy, optional, chain }),
        1 => (task.clone(), any::<bool>()).prop_map(|(task, same)| Op::Resubmit { task, same }),
        5 => (agent.clone(), 0..4u64).prop_map(|(agent, slots)| Op::Register { agent, slots }),
        1 => agent.clone().prop_map(|agent| Op::Leave { agent }),
        3 => (agent.clone(), any::<bool>()).prop_map(|(agent, drain)| Op::DrainAgent { agent, drain }),
        1 => (1..4u8, any::<bool>()).prop_map(|(node, drain)| Op::DrainNode { node, drain }),
        8 => (0..7u8, 1..7u8, 1..7u8, 0..3i32, 1..9u64)
            .prop_map(|(verb, node, other, role, raft_id)| Op::Member { verb, node, other, role, raft_id }),
        12 => (task.clone(), agent.clone(), proptest::bool::weighted(0.1))
            .prop_map(|(task, agent, stale)| Op::Assign { task, agent, stale }),
        6 => (task.clone(), proptest::bool::weighted(0.1)).prop_map(|(task, stale)| Op::Start { task, stale }),
        2 => task.clone().prop_map(|task| Op::Progress { task }),
        6 => (task.clone(), proptest::bool::weighted(0.1)).prop_map(|(task, stale)| Op::Complete { task, stale }),
        4 => (task.clone(), any::<bool>()).prop_map(|(task, retryable)| Op::Fail { task, retryable }),
        2 => (task.clone(), any::<bool>()).prop_map(|(task, kill)| Op::Cancel { task, kill }),
        2 => (task.clone(), any::<bool>()).prop_map(|(task, later)| Op::Reschedule { task, later }),
        2 => task.prop_map(|task| Op::Retry { task }),
        2 => agent.prop_map(|agent| Op::Lose { agent }),
        1 => (0..40u64).prop_map(|task| Op::Poison { task }),
        6 => (0..3_000u64).prop_map(|ms| Op::Wait { ms }),
        1 => Just(Op::Forget),
        1 => (0..3u8, any::<bool>()).prop_map(|(key, absent)| Op::Put { key, absent }),
        1 => (0..3u8).prop_map(|key| Op::Delete { key }),
        1 => Just(Op::Again),
        1 => Just(Op::NewSession),
    ]
}

struct History {
    cluster: Cluster,
    next_id: u64,
}

impl History {
    fn fresh(&mut self) -> TaskId {
        self.next_id += 1;
        id(self.next_id)
    }

    /// An existing task near the wanted number, so that most operations meet one.
    fn pick(&self, wanted: u64) -> TaskId {
        id(wanted % self.next_id.max(1) + 1)
    }

    fn holder(&self, task: TaskId, stale: bool) -> (u32, String) {
        let row = self.cluster.row(task).unwrap_or_default();
        (row.epoch + u32::from(stale), row.assigned_agent_id)
    }

    fn submit_body(&mut self, op: &Op) -> Body {
        let Op::Submit { dependency, policy, run_ms, not_before_ms, attempts, slots, key } = op else { unreachable!() };
        let dependencies = dependency.map(|d| self.pick(d).to_vec()).into_iter().collect();
        let task = self.fresh();
        let wall_us = self.cluster.wall_us;
        let spec = TaskSpec {
            dependencies,
            on_dependency_failure: *policy,
            run_ms: *run_ms / 1_000 * 700,
            total_ms: if *run_ms % 5 == 0 { 4_000 } else { 0 },
            queue_ms: if *run_ms % 7 == 0 { 1_500 } else { 0 },
            not_before_wall_us: if *not_before_ms > 0 { wall_us + not_before_ms * 1_000 } else { 0 },
            retry: Some(RetryPolicy {
                max_attempts: *attempts,
                backoff_ms: 100,
                factor_milli: 2_000,
                max_backoff_ms: 500,
                non_retryable: vec![],
            }),
            requirements: Some(Requirements {
                resources: vec![Amount { name: "slots".into(), amount: *slots }],
                ..Requirements::default()
            }),
            ..spec(task)
        };
        let idempotency_key = key.map(|k| format!("key{k}")).unwrap_or_default();
        Body::Submit(Submit {
            tenant: "default".into(),
            idempotency_key,
            body_hash: vec![*attempts as u8; 16],
            tasks: vec![spec],
        })
    }

    fn dag_body(&mut self, children: usize, policy: i32, optional: bool, chain: bool) -> Body {
        let parent = self.fresh();
        let mut tasks = vec![TaskSpec { join: Some(Join { policy, count: 1 }), payload: vec![], ..spec(parent) }];
        for at in 0..children {
            let child = self.fresh();
            let dependencies = if chain && at > 0 { vec![tasks[at].id.clone()] } else { vec![] };
            let on_dependency_failure = at as i32 % 3;
            let parent_id = parent.to_vec();
            tasks.push(TaskSpec { parent_id, dependencies, on_dependency_failure, optional: optional && at == 0, ..spec(child) });
        }
        Body::Submit(Submit { tenant: "default".into(), body_hash: vec![1; 16], tasks, ..Submit::default() })
    }

    /// The leader settles what stands in the row; `raft_id` is also the one that nobody hears.
    fn member_body(&self, verb: u8, node: u8, other: u8, role: i32, raft_id: u64) -> Body {
        let node_id = format!("n{node}");
        let alive = (1..9).filter(|id| *id != raft_id).collect();
        match verb {
            0 => Body::AddMember(AddMember { node_id, address: format!("host:{raft_id}"), role, alive }),
            1 => Body::RemoveMember(RemoveMember { node_id, alive }),
            2 => Body::ReplaceMember(ReplaceMember { node_id, address: String::new(), alive }),
            3 => Body::AdmitMember(AdmitMember { node_id, raft_id, retires: other.into() }),
            4 => Body::SwapVoter(SwapVoter { learner: node_id, voter: format!("n{other}") }),
            _ => {
                let row = self.cluster.machine.members().find(|(id, _)| *id == node_id).map(|(_, row)| row.clone());
                let row = row.unwrap_or_default();
                Body::SettleMember(SettleMember { node_id, raft_id: row.raft_id, state: row.state, role: row.role })
            }
        }
    }

    fn bodies(&mut self, op: &Op) -> Vec<Body> {
        let agent_name = |a: u8| format!("a{a}");
        vec![match op.clone() {
            Op::Submit { .. } => self.submit_body(op),
            Op::Dag { children, policy, optional, chain } => self.dag_body(children, policy, optional, chain),
            Op::Resubmit { task, same } => {
                let task = self.pick(task);
                let body_hash = if same { task.to_vec() } else { vec![0; 16] };
                Body::Submit(Submit { tenant: "default".into(), body_hash, tasks: vec![spec(task)], ..Submit::default() })
            }
            Op::Register { agent, slots } => register(&agent_name(agent), &format!("n{}", agent % 3 + 1), slots),
            Op::Leave { agent } => Body::LeaveAgent(LeaveAgent { agent_id: agent_name(agent) }),
            Op::DrainAgent { agent, drain } => Body::DrainAgent(DrainAgent { agent_id: agent_name(agent), drain }),
            Op::DrainNode { node, drain } => {
                Body::DrainNode(DrainNode { node_id: format!("n{node}"), drain, deadline_ms: 1_000 })
            }
            Op::Member { verb, node, other, role, raft_id } => self.member_body(verb, node, other, role, raft_id),
            Op::Assign { task, agent, stale } => {
                let task = self.pick(task);
                let epoch = self.holder(task, stale).0;
                let agent_epoch = self.cluster.machine.agent(&agent_name(agent)).map_or(0, |a| a.row().agent_epoch);
                let item =
                    Assignment { task_id: task.to_vec(), epoch, agent_id: agent_name(agent), agent_epoch, terms: vec![1, 2] };
                Body::Assign(Assign { items: vec![item.clone(), item] })
            }
            Op::Start { task, stale } => {
                let (epoch, agent_id) = self.holder(self.pick(task), stale);
                Body::Start(Start { task_id: self.pick(task).to_vec(), epoch, agent_id })
            }
            Op::Progress { task } => {
                let (epoch, agent_id) = self.holder(self.pick(task), false);
                let log = vec![LogLine { wall_us: 1, level: "info".into(), text: "line".into() }];
                let (checkpoint, message) = (Some(vec![b'1'; task as usize]), "half".to_owned());
                let task_id = self.pick(task).to_vec();
                Body::Progress(Progress { task_id, epoch, agent_id, progress_bp: Some(5_000), message, checkpoint, log })
            }
            Op::Complete { task, stale } => {
                let (epoch, agent_id) = self.holder(self.pick(task), stale);
                Body::Complete(Complete {
                    task_id: self.pick(task).to_vec(),
                    epoch,
                    agent_id,
                    result: b"1".to_vec(),
                    ..Complete::default()
                })
            }
            Op::Fail { task, retryable } => {
                let (epoch, agent_id) = self.holder(self.pick(task), false);
                let task_id = self.pick(task).to_vec();
                Body::Fail(Fail { task_id, epoch, agent_id, code: "boom".into(), retryable, ..Fail::default() })
            }
            Op::Cancel { task, kill } => Body::Cancel(Cancel { task_id: self.pick(task).to_vec(), kill, grace_ms: 300 }),
            Op::Reschedule { task, later } => {
                let not_before_wall_us = later.then_some(self.cluster.wall_us + 800_000);
                let exclude_agents = if later { vec!["a0".to_owned()] } else { vec![] };
                Body::Reschedule(Reschedule {
                    task_id: self.pick(task).to_vec(),
                    exclude_agents,
                    priority: Some(2),
                    not_before_wall_us,
                })
            }
            Op::Retry { task } => Body::Retry(Retry { task_id: self.pick(task).to_vec() }),
            Op::Lose { agent } => {
                let agent_epoch = self.cluster.machine.agent(&agent_name(agent)).map_or(0, |a| a.row().agent_epoch);
                let agents = vec![ExpiredAgent { agent_id: agent_name(agent), agent_epoch }];
                Body::Expire(Expire { agents, ..Expire::default() })
            }
            Op::Poison { task } => return self.poison(self.pick(task)),
            Op::Wait { ms } => {
                self.cluster.advance_ms(ms);
                let due = self.cluster.machine.due(self.cluster.cluster_us, self.cluster.wall_us, 100);
                due.map_or(Body::ClockAdvance(ClockAdvance {}), Body::Expire)
            }
            Op::Forget => {
                let limits = machine::RetentionLimits {
                    tasks_max: 3,
                    events_max: 20,
                    keys_max: 1,
                    agents_age_us: 0,
                    ..Default::default()
                };
                let retention = self.cluster.machine.retention(&self.cluster.rows, &limits, 50).expect("readable");
                retention.map_or(Body::ClockAdvance(ClockAdvance {}), Body::Retention)
            }
            Op::Put { key, absent } => {
                let condition = absent.then_some(KeyCondition::Absent(true));
                Body::PutKey(PutKey { tenant: "default".into(), key: format!("k{key}"), value: b"1".to_vec(), condition })
            }
            Op::Delete { key } => {
                Body::DeleteKey(DeleteKey { tenant: "default".into(), key: format!("k{key}"), condition: None })
            }
            Op::Again | Op::NewSession => unreachable!("handled by the caller"),
        }]
    }

    fn poison(&self, task: TaskId) -> Vec<Body> {
        let mut epoch = self.holder(task, false).0;
        let mut bodies = Vec::new();
        for (agent_id, agent) in self.cluster.machine.agents() {
            let (agent_id, agent_epoch) = (agent_id.to_string(), agent.row().agent_epoch);
            let item = Assignment { task_id: task.to_vec(), epoch, agent_id: agent_id.clone(), agent_epoch, terms: vec![] };
            bodies.push(Body::Assign(Assign { items: vec![item] }));
            bodies.push(Body::Expire(Expire { agents: vec![ExpiredAgent { agent_id, agent_epoch }], ..Expire::default() }));
            epoch += 2;
        }
        bodies
    }

    fn step(&mut self, ops: &[Op]) {
        let mut commands = Vec::new();
        for op in ops {
            match op {
                Op::Again => {
                    let last = self.cluster.log.iter().rev().flat_map(|p| p.commands.iter().rev()).find(|c| c.sequence > 0);
                    commands.extend(last.cloned());
                }
                Op::NewSession => commands.push(codec::Command {
                    session: common::SESSION,
                    body: Some(Body::OpenSession(OpenSession { node_id: "tester".into() })),
                    ..Default::default()
                }),
                op => {
                    let bodies = self.bodies(op);
                    commands.extend(bodies.into_iter().map(|body| self.cluster.command(body)));
                }
            }
        }
        let before = (commands.len() == 1).then(|| self.cluster.rows.clone());
        let single = commands.len() == 1;
        let applied = self.cluster.apply(commands);
        for outcome in &applied.outcomes {
            assert_ne!(outcome.refusal, Refusal::InternalInvariant as i32, "{}", outcome.detail);
        }
        if let Some(before) = before.filter(|_| single && !applied.outcomes[0].is_accepted()) {
            let touched = |rows: &common::Rows| {
                let mut rows = rows.clone();
                rows.0.retain(|(cf, _), _| !matches!(cf, Cf::Meta | Cf::Session));
                rows
            };
            assert!(touched(&before) == touched(&self.cluster.rows), "a refused command changed rows");
        }
        for (task, row) in self.cluster.rows.tasks() {
            let status = Status::try_from(row.status).expect("a status");
            assert!(row.timeline.len() <= machine::limits::TIMELINE_MAX);
            assert!(status != Status::Parked || row.lost_agents.len() == 3, "{task}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn every_history_keeps_the_invariants(ops in proptest::collection::vec(proptest::collection::vec(op(), 1..4), 1..80)) {
        let mut history = History { cluster: Cluster::new(), next_id: 0 };
        history.cluster.run((0..4).map(|a| register(&format!("a{a}"), &format!("n{}", a % 3 + 1), 2)).collect());
        for (at, entry) in ops.iter().enumerate() {
            history.step(entry);
            if at % 8 == 0 {
                history.cluster.check();
            }
        }
        history.cluster.check();
        history.cluster.check_replay();
        common::seeded(&history.cluster).check();
    }
}

#[test]
fn submits_of_one_entry_see_each_other() {
    let mut cluster = Cluster::new();
    let again = submit(spec(id(1)));
    let dependent = TaskSpec { dependencies: vec![id(1).to_vec()], ..spec(id(2)) };
    let applied = cluster.run(vec![submit(spec(id(1))), again, submit(dependent)]);
    assert!(applied.outcomes.iter().all(codec::Outcome::is_accepted));
    assert!(applied.outcomes[1].replayed);
    assert_eq!(applied.outcomes[2].status, Status::Blocked as i32);
    cluster.check();
}

/// The generator is worth its time only if it gets everywhere.
#[test]
fn random_histories_reach_every_event() {
    use proptest::strategy::ValueTree;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..150 {
        let tree = proptest::collection::vec(proptest::collection::vec(op(), 1..4), 80).new_tree(&mut runner).expect("a history");
        let mut history = History { cluster: Cluster::new(), next_id: 0 };
        history.cluster.run((0..4).map(|a| register(&format!("a{a}"), &format!("n{}", a % 3 + 1), 2)).collect());
        for entry in tree.current() {
            history.step(&entry);
            for (_, value) in history.cluster.rows.family(Cf::Event) {
                let row: codec::row::EventRow = codec::row::decode(value).expect("an event row");
                seen.extend(row.events.iter().filter_map(|e| codec::row::EventKind::try_from(e.kind).ok()));
            }
        }
    }
    let missing: Vec<_> = (0..66).filter_map(|n| codec::row::EventKind::try_from(n).ok()).filter(|k| !seen.contains(k)).collect();
    assert!(missing.is_empty(), "never happened: {missing:?}");
}

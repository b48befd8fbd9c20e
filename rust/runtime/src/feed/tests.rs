//! The feed against a small state in maps.

use std::collections::{BTreeMap, BTreeSet};

use codec::row::{AgentRow, AgentStatus};
use serde_json::{Value, json};

use super::*;

#[derive(Default)]
struct State {
    tasks: BTreeMap<TaskId, TaskRow>,
    agents: BTreeMap<String, AgentRow>,
    draining: BTreeSet<String>,
}

impl Live for State {
    fn task(&self, id: TaskId) -> Option<TaskRow> {
        self.tasks.get(&id).cloned()
    }
    fn graph(&self, parent: TaskId) -> Vec<(TaskId, TaskRow)> {
        self.tasks.iter().filter(|(_, row)| row.parent_id == parent.0).map(|(id, row)| (*id, row.clone())).collect()
    }
    fn each_placeable(&self, visit: &mut dyn FnMut(TaskId, &TaskRow)) {
        self.tasks.iter().for_each(|(id, row)| visit(*id, row));
    }
    fn agent(&self, agent_id: &str) -> Option<AgentRow> {
        self.agents.get(agent_id).cloned()
    }
    fn each_agent(&self, visit: &mut dyn FnMut(&str, &AgentRow)) {
        self.agents.iter().for_each(|(id, row)| visit(id, row));
    }
    fn node_drains(&self, node_id: &str) -> bool {
        self.draining.contains(node_id)
    }
    fn times(&self) -> (u64, u64) {
        (11, 22)
    }
}

fn id(number: u8) -> TaskId {
    TaskId([number; 16])
}

fn task(status: Status, agent: &str) -> TaskRow {
    TaskRow { status: status as i32, assigned_agent_id: agent.into(), task_type: "t".into(), epoch: 3, ..TaskRow::default() }
}

fn state() -> State {
    let mut state = State::default();
    state.agents.insert("a".into(), AgentRow { node_id: "n".into(), agent_epoch: 9, ..AgentRow::default() });
    state.tasks.insert(id(1), task(Status::Ready, ""));
    state.tasks.insert(id(2), task(Status::Running, "a"));
    state.tasks.insert(id(3), task(Status::Blocked, ""));
    state
}

fn now(feed: &Feed) -> Option<Batch> {
    feed.wait(Duration::ZERO)
}

fn ops(batch: &Batch) -> Vec<(u8, u8)> {
    batch.columns.op.iter().copied().zip(batch.columns.task.chunks(16).map(|id| id[0])).collect()
}

fn objects(items: &[String]) -> Vec<Value> {
    items.iter().map(|item| serde_json::from_str(item).expect("JSON")).collect()
}

/// Scenario: leadership → one batch with the whole queue, what runs, and all agents.
#[test]
fn leadership_tells_everything_once() {
    let (feed, state) = (Feed::default(), state());
    feed.applied(&[Signal::Ready { task: id(1) }], &state);
    assert!(now(&feed).is_none(), "a follower gathers nothing");
    feed.role(true, 5, &state);
    let batch = now(&feed).expect("a batch");
    assert_eq!((batch.reset, batch.leader, batch.term, batch.cluster_us, batch.wall_us), (true, true, 5, 11, 22));
    assert_eq!(ops(&batch), [(1, 1), (3, 2)]);
    assert_eq!(batch.columns.epoch, [3, 0, 0, 0, 3, 0, 0, 0]);
    assert_eq!(objects(&batch.columns.classes).len(), 1, "both tasks share a class");
    let agents = objects(&batch.columns.agents);
    assert_eq!((&agents[0]["agent"], &agents[0]["agent_epoch"], &agents[0]["placeable"]), (&json!(0), &json!(9), &json!(true)));
    assert!(now(&feed).is_none());
}

/// Scenario: leadership is lost → one batch says so; regained → everything anew.
#[test]
fn lost_leadership_is_told_and_forgets() {
    let (feed, state) = (Feed::default(), state());
    feed.role(true, 5, &state);
    feed.role(false, 6, &state);
    let batch = now(&feed).expect("the news");
    assert!(!batch.leader && !batch.reset && batch.columns.is_empty());
    feed.applied(&[Signal::Ready { task: id(1) }], &state);
    assert!(now(&feed).is_none());
    feed.role(true, 7, &state);
    assert!(now(&feed).expect("a batch").reset);
}

#[test]
fn deltas_follow_the_log() {
    let (feed, mut state) = (Feed::default(), state());
    feed.role(true, 5, &state);
    now(&feed);
    state.tasks.insert(id(1), task(Status::Assigned, "a"));
    state.tasks.insert(id(4), TaskRow { excluded_agents: vec!["b".into()], ..task(Status::Ready, "") });
    let freed = Signal::Freed {
        task: id(2),
        agent: "a".into(),
        run_us: 70,
        success: Some(true),
        task_type: "t".into(),
        size_hint: 8,
        quality_bp: None,
    };
    let signals = [
        Signal::Taken { task: id(1), agent: "a".into(), waited_us: 0 },
        freed,
        Signal::Ready { task: id(4) },
        Signal::Ready { task: id(99) },
    ];
    feed.applied(&signals, &state);
    let batch = now(&feed).expect("a batch");
    assert!(!batch.reset);
    assert_eq!(ops(&batch), [(3, 1), (4, 2), (1, 4)], "an ended task is not told ready");
    assert_eq!(batch.columns.run_us.chunks(8).map(|c| c[0]).collect::<Vec<_>>(), [0, 70, 0]);
    assert_eq!((&batch.columns.success[..], &batch.columns.size_hint[8..16]), (&[0, 1, 0][..], &[8, 0, 0, 0, 0, 0, 0, 0][..]));
    assert_eq!(objects(&batch.columns.excluded), [json!(["04".repeat(16), ["b"]])]);
    assert!(batch.columns.classes.is_empty(), "the class is known");
}

/// Scenario: graph 9 of 5 → 6, and a lone task of another tenant → the graph is told once and whole, its tasks carry its number.
#[test]
fn a_graph_is_told_whole_with_its_first_task() {
    let (feed, mut state) = (Feed::default(), state());
    feed.role(true, 5, &state);
    now(&feed);
    let child = |position, status| TaskRow { parent_id: vec![9; 16], submit_position: position, ..task(status, "") };
    state.tasks.insert(id(5), child(1, Status::Ready));
    state.tasks.insert(id(6), TaskRow { dependencies: vec![vec![5; 16]], ..child(2, Status::Blocked) });
    state.tasks.insert(id(7), TaskRow { tenant: "other".into(), ..task(Status::Ready, "") });
    feed.applied(&[Signal::Ready { task: id(5) }, Signal::Ready { task: id(7) }], &state);
    let batch = now(&feed).expect("a batch");
    assert_eq!(objects(&batch.columns.graphs), [json!({"unit": 1, "tasks": [[1, 0], [2, 0]], "edges": [[1, 2]]})]);
    assert_eq!(batch.columns.unit, [1, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(batch.columns.tenant, [0, 0, 0, 0, 1, 0, 0, 0]);
    state.tasks.insert(id(6), child(2, Status::Ready));
    feed.applied(&[Signal::Ready { task: id(6) }], &state);
    let batch = now(&feed).expect("a batch");
    assert!(batch.columns.graphs.is_empty(), "the graph is known");
    assert_eq!(batch.columns.unit, [1, 0, 0, 0]);
    // Its parent ends, and a retry brings it back: it is told anew, under another number.
    let ended = |number| Signal::Status { task: id(number), status: Status::Failed };
    feed.applied(&[ended(9), ended(6), Signal::Ready { task: id(6) }], &state);
    let batch = now(&feed).expect("a batch");
    assert_eq!(batch.columns.graphs_ended, [1, 0, 0, 0]);
    assert_eq!((batch.columns.graphs.len(), &batch.columns.unit[..]), (1, &[2, 0, 0, 0][..]));
}

/// Scenario: the policy proposed 1 on `a`, and apply refused it → the reservation is undone and the task is back.
#[test]
fn a_refused_assignment_is_undone() {
    let (feed, mut state) = (Feed::default(), state());
    feed.role(true, 5, &state);
    now(&feed);
    feed.applied(&[Signal::Stale { task: id(1), agent: "a".into() }], &state);
    assert_eq!(ops(&now(&feed).expect("a batch")), [(4, 1), (1, 1)]);
    state.tasks.insert(id(1), task(Status::Running, "a"));
    feed.applied(&[Signal::Stale { task: id(1), agent: "a".into() }], &state);
    assert_eq!(ops(&now(&feed).expect("a batch")), [(2, 1)], "what it holds is not freed");
}

#[test]
fn an_agent_is_told_when_it_or_its_node_changes() {
    let (feed, mut state) = (Feed::default(), state());
    feed.role(true, 5, &state);
    now(&feed);
    feed.applied(&[Signal::AgentChanged { agent: "a".into() }, Signal::Members], &state);
    assert!(now(&feed).is_none(), "nothing changed");
    state.draining.insert("n".into());
    feed.applied(&[Signal::Members], &state);
    assert_eq!(objects(&now(&feed).expect("a batch").columns.agents)[0]["placeable"], json!(false));
    state.agents.get_mut("a").expect("a").status = AgentStatus::Lost as i32;
    feed.applied(&[Signal::AgentChanged { agent: "a".into() }], &state);
    assert_eq!(objects(&now(&feed).expect("a batch").columns.agents)[0]["status"], json!("lost"));
    assert_eq!(feed.agent_ids(&[0, 1]), [Some("a".into()), None]);
}

#[test]
fn loads_ride_with_the_next_operation() {
    let (feed, state) = (Feed::default(), state());
    feed.role(true, 5, &state);
    now(&feed);
    feed.loads(&[("a".into(), [1, 2, 3]), ("unknown".into(), [1, 1, 1])]);
    assert!(now(&feed).is_none());
    feed.applied(&[Signal::Gone { task: id(1) }], &state);
    let batch = now(&feed).expect("a batch");
    assert_eq!((batch.columns.load_agent.len(), batch.columns.load_bp), (4, vec![1, 0, 2, 0, 3, 0]));
}

#[test]
fn a_replaced_state_is_told_anew() {
    let (feed, state) = (Feed::default(), state());
    feed.role(true, 5, &state);
    now(&feed);
    feed.replaced();
    feed.applied(&[], &state);
    assert!(now(&feed).expect("a batch").reset);
}

#[test]
fn stop_ends_a_wait() {
    let feed = Feed::default();
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| feed.wait(Duration::from_secs(60)));
        feed.stop();
        assert!(waiter.join().expect("no panic").is_none());
    });
    assert!(feed.wait(Duration::from_secs(60)).is_none());
}

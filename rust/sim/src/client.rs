//! Clients: one operation at a time each, through any node, sent again when nobody answers.
//!
//! Submits carry an idempotency key and, like requests through the HTTP API without an id of their
//! own, a new task id with every attempt. Other writes are sent once: without an answer their
//! outcome stays unknown, and counts as both.

use codec::command::{Body, Cancel, DeleteKey, Join, KeyCondition, PutKey, RetryPolicy, Submit, TaskSpec};
use codec::command::{Reschedule, Retry};
use codec::row::{Cf, key};
use codec::{Outcome, Refusal, TaskId};
use node::{Event, ProposalEnd};

use crate::clock::WALL_US;
use crate::host::Waiter;
use crate::invariant::Violation;
use crate::queue::Time;
use crate::rng::Rng;
use crate::world::{What, World};

/// How long a node may take for a command.
const DEADLINE_US: u64 = 2_000_000;
/// When a client gives a node up.
const PATIENCE_US: u64 = 2_500_000;
const TENANT: &str = "default";
const KEYS: u64 = 8;

#[derive(Clone, Debug)]
pub enum Operation {
    Submit { key: String, body_hash: Vec<u8>, tasks: Vec<TaskSpec>, ids: Vec<TaskId> },
    Write { body: Body },
    ReadKey { key: String },
    ReadTask { id: TaskId },
}

pub struct Client {
    node: usize,
    /// Grows with every attempt: answers to older ones are void.
    serial: u64,
    operation: Option<Operation>,
    /// An attempt is under way.
    waits: bool,
    /// Revision that a read must show at least.
    floor: u64,
    rng: Rng,
    /// No more operations.
    pub done: bool,
}

impl Client {
    pub fn new(node: usize, rng: Rng) -> Self {
        Self { node, serial: 0, operation: None, waits: false, floor: 0, rng, done: false }
    }

    pub fn busy(&self) -> bool {
        self.operation.is_some()
    }
}

fn task_id(rng: &mut Rng, now: Time) -> TaskId {
    let mut id = [0; 16];
    id[..6].copy_from_slice(&((WALL_US + now) / 1_000).to_be_bytes()[2..]);
    id[6..8].copy_from_slice(&rng.number().to_be_bytes()[..2]);
    id[8..].copy_from_slice(&rng.number().to_be_bytes());
    (id[6], id[8]) = (id[6] & 0x0f | 0x70, id[8] & 0x3f | 0x80);
    TaskId(id)
}

fn spec(rng: &mut Rng) -> TaskSpec {
    TaskSpec {
        task_type: if rng.chance(8_000) { "work".into() } else { "other".into() },
        payload: vec![b'7'; rng.below(40) as usize + 1],
        priority: rng.below(3) as i32 - 1,
        run_ms: if rng.chance(1_000) { rng.range(500, 3_000) } else { 0 },
        queue_ms: if rng.chance(500) { rng.range(1_000, 5_000) } else { 0 },
        total_ms: if rng.chance(300) { rng.range(2_000, 10_000) } else { 0 },
        retry: rng.chance(5_000).then(|| RetryPolicy {
            max_attempts: rng.range(1, 5) as u32,
            backoff_ms: rng.range(10, 300),
            factor_milli: 2_000,
            max_backoff_ms: 1_000,
            non_retryable: Vec::new(),
        }),
        ..TaskSpec::default()
    }
}

impl World {
    pub(crate) fn client_wakes(&mut self, client: usize, serial: u64) -> Result<(), Violation> {
        if self.clients[client].serial != serial {
            return Ok(());
        }
        if self.clients[client].waits {
            // Nobody answered in time.
            return self.attempt_ended(client, None);
        }
        if self.clients[client].operation.is_none() {
            if self.report.operations >= self.options.operations.unwrap_or(self.budget.operations) {
                self.clients[client].done = true;
                return Ok(());
            }
            self.report.operations += 1;
            self.choose(client);
        }
        self.attempt(client);
        Ok(())
    }

    fn choose(&mut self, client: usize) {
        let now = self.now;
        let known = self.invariants.tasks.known();
        let rng = &mut self.clients[client].rng;
        let some_task = rng.pick(known).copied();
        let name = format!("k{}", rng.below(KEYS));
        let operation = match (rng.below(100), some_task) {
            (0..40, _) | (_, None) => {
                let count = if rng.chance(1_200) { rng.range(3, 6) } else { 1 };
                let mut tasks: Vec<TaskSpec> = (0..count).map(|_| spec(rng)).collect();
                if count > 1 {
                    let policy = rng.below(2) as i32;
                    tasks[0] = TaskSpec { join: Some(Join { policy, count: 0 }), ..TaskSpec::default() };
                    tasks[0].task_type = "graph".into();
                    for (at, task) in tasks.iter_mut().enumerate() {
                        task.name = format!("t{at}");
                        task.on_dependency_failure = rng.below(3) as i32;
                    }
                } else if rng.chance(1_000) {
                    tasks[0].not_before_wall_us = WALL_US + now + rng.range(100_000, 2_000_000);
                }
                let body_hash = [rng.number().to_be_bytes(), rng.number().to_be_bytes()].concat();
                Operation::Submit { key: format!("{client}-{}", rng.number()), body_hash, tasks, ids: Vec::new() }
            }
            (40..62, _) => Operation::ReadKey { key: name },
            (62..72, Some(id)) => Operation::ReadTask { id },
            (72..88, _) => {
                let value = format!("{client}.{}", rng.number()).into_bytes();
                let condition = match rng.below(4) {
                    0 => Some(KeyCondition::Absent(true)),
                    1 => Some(KeyCondition::Revision(rng.below(2_000))),
                    _ => None,
                };
                Operation::Write { body: Body::PutKey(PutKey { tenant: TENANT.into(), key: name, value, condition }) }
            }
            (88..91, _) => {
                Operation::Write { body: Body::DeleteKey(DeleteKey { tenant: TENANT.into(), key: name, condition: None }) }
            }
            (91..95, Some(id)) => {
                let (kill, grace_ms) = (rng.chance(5_000), rng.range(10, 1_500));
                Operation::Write { body: Body::Cancel(Cancel { task_id: id.to_vec(), kill, grace_ms }) }
            }
            (95..98, Some(id)) => {
                let priority = rng.chance(5_000).then(|| rng.below(5) as i32 - 2);
                let body = Reschedule { task_id: id.to_vec(), exclude_agents: Vec::new(), priority, not_before_wall_us: None };
                Operation::Write { body: Body::Reschedule(body) }
            }
            (_, Some(id)) => Operation::Write { body: Body::Retry(Retry { task_id: id.to_vec() }) },
        };
        self.clients[client].operation = Some(operation);
    }

    /// Sends the operation to the client's node, or finds that it does not run.
    fn attempt(&mut self, client: usize) {
        let now = self.now;
        let drawn = self.clients[client].rng.number();
        let other = self.some_node(drawn);
        let this = &mut self.clients[client];
        this.serial += 1;
        let serial = this.serial;
        let node = this.node;
        if !self.hosts[node].up() {
            this.node = other;
            let when = now + this.rng.range(20_000, 150_000);
            self.queue.push(when, What::Client { client, serial });
            return;
        }
        let body = match &mut this.operation {
            Some(Operation::Submit { key, body_hash, tasks, ids }) => {
                for task in tasks.iter_mut() {
                    task.id = task_id(&mut this.rng, now).to_vec();
                }
                // A graph's children belong to its parent; some wait for the one before.
                let all: Vec<Vec<u8>> = tasks.iter().map(|t| t.id.clone()).collect();
                for (at, task) in tasks.iter_mut().enumerate().skip(1) {
                    task.parent_id = all[0].clone();
                    let waits = at > 1 && body_hash[at] & 1 == 1;
                    task.dependencies = if waits { vec![all[at - 1].clone()] } else { Vec::new() };
                }
                ids.extend(all.first().and_then(|id| TaskId::from_slice(id).ok()));
                let (tenant, idempotency_key) = (TENANT.into(), key.clone());
                Some(Body::Submit(Submit { tenant, idempotency_key, body_hash: body_hash.clone(), tasks: tasks.clone() }))
            }
            Some(Operation::Write { body }) => Some(body.clone()),
            _ => None,
        };
        this.waits = true;
        this.floor = self.invariants.reads.floor();
        let token = self.token();
        let deadline_us = self.hosts[node].clock.mono_us(now) + DEADLINE_US;
        if let Some(process) = &mut self.hosts[node].process {
            process.waiters.insert(token, Waiter::Client { client, serial });
        }
        let event = match body {
            Some(body) => Event::Propose { token, bodies: vec![body], deadline_us },
            None => Event::ReadIndex { token, deadline_us },
        };
        self.tell(node, event);
        self.queue.push(now + PATIENCE_US, What::Client { client, serial });
    }

    pub(crate) fn proposal_ended(&mut self, waiter: Waiter, end: ProposalEnd, outcomes: &[Outcome]) -> Result<(), Violation> {
        match waiter {
            Waiter::Client { client, serial } if self.clients[client].serial == serial => {
                self.attempt_ended(client, Some((end, outcomes)))
            }
            Waiter::Agent { agent, serial } => self.agent_answered(agent, serial, end, outcomes),
            _ => Ok(()),
        }
    }

    /// An attempt of a write was answered, or (`None`) nobody answered.
    fn attempt_ended(&mut self, client: usize, answer: Option<(ProposalEnd, &[Outcome])>) -> Result<(), Violation> {
        let drawn = self.clients[client].rng.number();
        let elsewhere = self.some_node(drawn);
        let this = &mut self.clients[client];
        this.waits = false;
        this.serial += 1;
        let Some(operation) = this.operation.clone() else { return Ok(()) };
        let submit = matches!(operation, Operation::Submit { .. });
        let mut over = true;
        match answer {
            Some((ProposalEnd::Applied, outcomes)) => self.acknowledged(&operation, &outcomes[0])?,
            other => {
                this.node = elsewhere;
                let read = matches!(operation, Operation::ReadKey { .. } | Operation::ReadTask { .. });
                let not_given = matches!(other, Some((ProposalEnd::NoLeader, _)));
                over = !(submit || read || not_given);
                if over {
                    self.report.unknown += 1;
                }
                // It was given to no leader: that value must never be seen. The client goes on with another.
                if not_given && let Some(Operation::Write { body: Body::PutKey(put) }) = &mut this.operation {
                    let before = put.value.clone();
                    put.value.push(b'+');
                    self.invariants.acknowledged.never_given(before, &self.invariants.keys).map_err(|v| v.at(self.now))?;
                }
            }
        }
        self.next_step(client, over);
        Ok(())
    }

    fn next_step(&mut self, client: usize, over: bool) {
        let drawn = self.clients[client].rng.number();
        let other = self.some_node(drawn);
        let this = &mut self.clients[client];
        let pause = if over {
            this.operation = None;
            this.rng.skewed(5_000, 300_000)
        } else {
            this.rng.range(5_000, 60_000)
        };
        if over && this.rng.chance(1_500) {
            this.node = other;
        }
        let serial = this.serial;
        self.queue.push(self.now + pause, What::Client { client, serial });
    }

    fn acknowledged(&mut self, operation: &Operation, outcome: &Outcome) -> Result<(), Violation> {
        self.report.acknowledged += 1;
        let checked = self.invariants.acknowledged.answered(operation, outcome, &self.invariants.tasks, &self.invariants.keys);
        checked.map_err(|v| v.at(self.now))?;
        if outcome.refusal == Refusal::InternalInvariant as i32 {
            return Err(self.violation("machine's own invariants", outcome.detail.clone()));
        }
        self.invariants.reads.seen(outcome.revision);
        Ok(())
    }

    pub(crate) fn read_ended(&mut self, at: usize, waiter: Waiter, readable: bool) -> Result<(), Violation> {
        let Waiter::Client { client, serial } = waiter else { return Ok(()) };
        if self.clients[client].serial != serial {
            return Ok(());
        }
        if !readable {
            return self.attempt_ended(client, None);
        }
        let floor = self.clients[client].floor;
        let operation = self.clients[client].operation.clone();
        let host = &self.hosts[at];
        let revision = host.process.as_ref().and_then(|p| p.apply.as_ref()).map_or(0, |a| a.machine().revision());
        self.report.reads += 1;
        self.invariants.reads.read(at, revision, floor).map_err(|v| v.at(self.now))?;
        match &operation {
            Some(Operation::ReadKey { key }) => {
                let row = codec::row::StateRead::get(&host.disk.state, Cf::Key, &key::tenant_scoped(TENANT, key));
                let row = row.unwrap_or_default();
                self.invariants.keys.read(key, row.as_deref(), revision).map_err(|v| v.at(self.now))?;
            }
            Some(Operation::ReadTask { id }) => {
                let row = codec::row::StateRead::get(&host.disk.state, Cf::Task, &key::task(*id)).unwrap_or_default();
                self.invariants.tasks.read(*id, row.as_deref(), revision).map_err(|v| v.at(self.now))?;
            }
            _ => {}
        }
        let this = &mut self.clients[client];
        this.waits = false;
        this.serial += 1;
        self.next_step(client, true);
        Ok(())
    }
}

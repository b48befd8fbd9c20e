//! Agents: register, beat, poll, work, report; and what makes them dangerous: they stand still
//! beyond their lease, wake up, and go on as if nothing had been.

use std::collections::BTreeMap;

use codec::command::{Amount, Body, Complete, Fail, RegisterAgent, Start};
use codec::peer::{Beat, BeatAnswer};
use codec::row::{Cf, Status, TaskRow, index};
use codec::{Outcome, Refusal, TaskId};
use node::{Event, ProposalEnd};

use crate::host::Waiter;
use crate::invariant::Violation;
use crate::queue::Time;
use crate::rng::Rng;
use crate::start::node_id;
use crate::world::{What, World};

const BEAT_US: u64 = 500_000;
/// The agent stops its tasks this long after it sent the last answered beat.
pub const SELF_FENCE_US: u64 = 3_000_000;
const DEADLINE_US: u64 = 2_000_000;
const POLL_US: u64 = 400_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AgentStep {
    Register,
    Beat,
    Poll,
    /// The work on a task is done, or its report is sent again.
    Report {
        task: TaskId,
        epoch: u32,
    },
}

#[derive(Clone, Debug)]
struct Held {
    epoch: u32,
    fails: bool,
    /// The result is being told.
    reporting: bool,
}

pub struct Agent {
    pub id: String,
    pub node: usize,
    /// Grows with every life: steps of older ones are void.
    pub serial: u64,
    /// Epoch of the registration; 0 while it has none.
    pub epoch: u64,
    registering: bool,
    held: BTreeMap<TaskId, Held>,
    /// When the last answered beat (or the registration) was sent.
    pub fenced_from: Time,
    pub paused_until: Time,
    /// Reports under way: serial of the request → task and epoch.
    reports: BTreeMap<u64, (TaskId, u32)>,
    next_request: u64,
    register_request: (u64, Time),
    rng: Rng,
}

impl Agent {
    pub fn new(number: usize, node: usize, rng: Rng) -> Self {
        Self {
            id: format!("a{number}"),
            node,
            serial: 0,
            epoch: 0,
            registering: false,
            held: BTreeMap::new(),
            fenced_from: 0,
            paused_until: 0,
            reports: BTreeMap::new(),
            next_request: 1,
            register_request: (0, 0),
            rng,
        }
    }

    /// Until when it works under its lease, as it sees it.
    pub fn fence_at(&self) -> Time {
        if self.epoch == 0 { 0 } else { self.fenced_from + SELF_FENCE_US }
    }

    /// A new process: it knows nothing of the old one's tasks.
    pub fn restart(&mut self) {
        self.serial += 1;
        self.epoch = 0;
        self.registering = false;
        self.held.clear();
        self.reports.clear();
        self.paused_until = 0;
    }
}

impl World {
    pub(crate) fn agent_starts(&mut self, agent: usize) {
        let serial = self.agents[agent].serial;
        for step in [AgentStep::Register, AgentStep::Beat, AgentStep::Poll] {
            let when = self.now + self.agents[agent].rng.range(1_000, 50_000);
            self.queue.push(when, What::Agent { agent, serial, step });
        }
    }

    pub(crate) fn agent_wakes(&mut self, agent: usize, serial: u64, step: AgentStep) -> Result<(), Violation> {
        let now = self.now;
        let this = &mut self.agents[agent];
        if this.serial != serial {
            return Ok(());
        }
        if this.paused_until > now {
            let when = this.paused_until + this.rng.below(2_000);
            self.queue.push(when, What::Agent { agent, serial, step });
            return Ok(());
        }
        match step {
            AgentStep::Register => self.register(agent),
            AgentStep::Beat => self.beat(agent),
            AgentStep::Poll => self.poll(agent),
            AgentStep::Report { task, epoch } => self.report_result(agent, task, epoch),
        }
        Ok(())
    }

    fn propose_for_agent(&mut self, agent: usize, body: Body) -> u64 {
        let this = &mut self.agents[agent];
        let serial = this.next_request;
        this.next_request += 1;
        let node = this.node;
        let token = self.token();
        let deadline_us = self.hosts[node].clock.mono_us(self.now) + DEADLINE_US;
        if let Some(process) = &mut self.hosts[node].process {
            process.waiters.insert(token, Waiter::Agent { agent, serial });
        } else {
            let drawn = self.agents[agent].rng.number();
            self.agents[agent].node = self.some_node(drawn);
        }
        self.tell(node, Event::Propose { token, bodies: vec![body], deadline_us });
        serial
    }

    fn register(&mut self, agent: usize) {
        let now = self.now;
        if self.agents[agent].epoch != 0 {
            return;
        }
        let this = &mut self.agents[agent];
        if this.registering && now < this.register_request.1 + DEADLINE_US {
            return;
        }
        this.registering = true;
        let body = RegisterAgent {
            agent_id: this.id.clone(),
            node_id: node_id(this.node),
            resources: vec![Amount { name: "slots".into(), amount: 1 + agent as u64 % 3 }],
            task_types: if agent % 4 == 3 { vec!["work".into()] } else { Vec::new() },
            ..RegisterAgent::default()
        };
        let request = self.propose_for_agent(agent, Body::RegisterAgent(body));
        let this = &mut self.agents[agent];
        this.register_request = (request, now);
        let (serial, when) = (this.serial, now + DEADLINE_US + 500_000);
        self.queue.push(when, What::Agent { agent, serial, step: AgentStep::Register });
    }

    fn beat(&mut self, agent: usize) {
        let now = self.now;
        let drawn = self.agents[agent].rng.number();
        let other = self.some_node(drawn);
        let this = &mut self.agents[agent];
        let (serial, epoch, node) = (this.serial, this.epoch, this.node);
        let when = now + BEAT_US - 10_000 + this.rng.below(20_000);
        self.queue.push(when, What::Agent { agent, serial, step: AgentStep::Beat });
        if epoch == 0 {
            return;
        }
        if now > this.fence_at() {
            // Fenced: nothing it holds may go on.
            this.held.clear();
            this.node = other;
        }
        let beat_of =
            |token, agent: &Agent| Beat { token, agent_id: agent.id.clone(), agent_epoch: epoch, load_bp: vec![100, 200, 300] };
        let token = self.token();
        let beat = beat_of(token, &self.agents[agent]);
        let deadline_us = self.hosts[node].clock.mono_us(now) + 1_000_000;
        self.invariants.lease.beat_sent(token, &self.agents[agent].id, epoch);
        if let Some(process) = &mut self.hosts[node].process {
            process.waiters.insert(token, Waiter::Beat { agent, registration: epoch, sent: now });
        }
        self.tell(node, Event::Beats { beats: vec![beat], deadline_us });
    }

    pub(crate) fn beaten(&mut self, agent: usize, registration: u64, sent: Time, answer: &BeatAnswer) -> Result<(), Violation> {
        let now = self.now;
        self.invariants.lease.answered(answer).map_err(|v| v.at(now))?;
        let this = &mut self.agents[agent];
        if this.epoch != registration || this.paused_until > now {
            return Ok(());
        }
        if answer.stale || answer.unknown {
            this.epoch = 0;
            this.registering = false;
            this.held.clear();
            this.reports.clear();
            let (serial, when) = (this.serial, now + this.rng.range(1_000, 100_000));
            self.queue.push(when, What::Agent { agent, serial, step: AgentStep::Register });
        } else if answer.lease_ms > 0 {
            this.fenced_from = this.fenced_from.max(sent);
        }
        Ok(())
    }

    /// Reads this node's state, as `runtime::query::assignments` does: what is not held is new.
    fn poll(&mut self, agent: usize) {
        let now = self.now;
        let this = &mut self.agents[agent];
        let (serial, node) = (this.serial, this.node);
        let when = now + POLL_US + this.rng.below(100_000);
        if this.epoch == 0 || now > this.fence_at() || !self.hosts[node].up() {
            self.queue.push(when, What::Agent { agent, serial, step: AgentStep::Poll });
            return;
        }
        let state = &self.hosts[node].disk.state;
        let mut found = Vec::new();
        let prefix = index::by_agent_prefix(&this.id);
        let scanned = codec::row::StateRead::scan(state, Cf::Index, &prefix, &prefix, &mut |key, _| {
            found.extend(key.get(key.len() - 16..).and_then(|id| TaskId::from_slice(id).ok()));
            true
        });
        scanned.expect("a state that works");
        let row_of = |id: &TaskId| {
            let value = codec::row::StateRead::get(state, Cf::Task, &id.0).expect("a state that works")?;
            codec::row::decode::<TaskRow>(&value).ok()
        };
        let (mut to_start, mut begun) = (Vec::new(), Vec::new());
        // (epoch, whether this agent holds it) of what was looked at.
        let mut seen: BTreeMap<TaskId, Option<(u32, bool)>> = BTreeMap::new();
        for id in &found {
            let row = row_of(id);
            seen.insert(*id, row.as_ref().map(|row| (row.epoch, row.assigned_agent_id == this.id)));
            let Some(row) = row.filter(|row| row.assigned_agent_id == this.id) else { continue };
            let status = Status::try_from(row.status).unwrap_or(Status::Ready);
            if status == Status::Assigned && this.held.get(id).is_some_and(|h| h.epoch == row.epoch) {
                to_start.push((*id, row.epoch));
            }
            let to_do = matches!(status, Status::Assigned | Status::Running);
            if to_do && this.held.get(id).is_none_or(|h| h.epoch < row.epoch) {
                let fails = this.rng.chance(1_500);
                this.held.insert(*id, Held { epoch: row.epoch, fails, reporting: false });
                begun.push((now + this.rng.skewed(5_000, 700_000), *id, row.epoch));
                to_start.push((*id, row.epoch));
            }
        }
        // What another attempt has taken over, or has ended, is dropped.
        let look = |id: &TaskId| row_of(id).map(|row| (row.epoch, row.assigned_agent_id == this.id));
        this.held.retain(|id, held| match seen.get(id).copied().unwrap_or_else(|| look(id)) {
            Some((epoch, own)) if epoch == held.epoch => own,
            Some((epoch, _)) => epoch < held.epoch,
            None => true,
        });
        let agent_id = this.id.clone();
        for (when, task, epoch) in begun {
            self.queue.push(when, What::Agent { agent, serial, step: AgentStep::Report { task, epoch } });
        }
        for (id, epoch) in to_start {
            self.propose_for_agent(agent, Body::Start(Start { task_id: id.to_vec(), epoch, agent_id: agent_id.clone() }));
        }
        self.queue.push(when, What::Agent { agent, serial, step: AgentStep::Poll });
    }

    fn report_result(&mut self, agent: usize, task: TaskId, epoch: u32) {
        let this = &mut self.agents[agent];
        let Some(held) = this.held.get_mut(&task).filter(|h| h.epoch == epoch) else { return };
        held.reporting = true;
        let (task_id, agent_id) = (task.to_vec(), this.id.clone());
        let body = if held.fails {
            let retryable = this.rng.chance(8_000);
            let (code, message) = ("error".into(), "it went wrong".into());
            Body::Fail(Fail { task_id, epoch, agent_id, code, message, retryable, retry_after_ms: None, cost: Vec::new() })
        } else {
            let result = format!("\"{}.{epoch}\"", this.id).into_bytes();
            Body::Complete(Complete { task_id, epoch, agent_id, result, cost: Vec::new(), quality_bp: None })
        };
        let request = self.propose_for_agent(agent, body);
        let this = &mut self.agents[agent];
        this.reports.insert(request, (task, epoch));
        // Without an answer it is told again, through whatever node the agent speaks to then.
        let (serial, when) = (this.serial, self.now + DEADLINE_US + 300_000);
        self.queue.push(when, What::Agent { agent, serial, step: AgentStep::Report { task, epoch } });
    }

    pub(crate) fn agent_answered(
        &mut self,
        agent: usize,
        request: u64,
        end: ProposalEnd,
        outcomes: &[Outcome],
    ) -> Result<(), Violation> {
        let now = self.now;
        if let Some(outcome) = outcomes.iter().find(|o| o.refusal == Refusal::InternalInvariant as i32) {
            return Err(self.violation("machine's own invariants", outcome.detail.clone()));
        }
        let this = &mut self.agents[agent];
        if this.paused_until > now {
            return Ok(());
        }
        if this.registering && this.register_request.0 == request {
            this.registering = false;
            if end == ProposalEnd::Applied && outcomes[0].is_accepted() {
                this.epoch = outcomes[0].agent_epoch;
                this.fenced_from = this.register_request.1;
                this.held.clear();
            } else {
                let (serial, when) = (this.serial, now + this.rng.range(10_000, 100_000));
                self.queue.push(when, What::Agent { agent, serial, step: AgentStep::Register });
            }
            return Ok(());
        }
        let Some((task, epoch)) = this.reports.remove(&request) else { return Ok(()) };
        if end == ProposalEnd::Applied && this.held.get(&task).is_some_and(|h| h.epoch == epoch) {
            this.held.remove(&task);
        }
        Ok(())
    }
}

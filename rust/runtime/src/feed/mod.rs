//! What the policy is told: deltas of queue, agents and loads, gathered on the leader.
//!
//! What always holds:
//! * the apply thread alone adds, so the order of operations is the order of the log;
//! * a batch after `reset` holds the whole state; later batches only what changed since;
//! * what is pending is bounded: a policy that does not read gets a reset instead of a backlog;
//! * on a node that does not lead, a batch costs one atomic load.

mod columns;
mod live;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use codec::TaskId;
use codec::row::{Status, TaskRow};
use machine::Signal;
use parking_lot::{Condvar, Mutex};

use columns::{Agents, Classes, Row, Tenants, Units};
pub use columns::{Columns, Op};
pub use live::Live;

/// Operations that wait for the policy; beyond it everything is told anew.
pub const PENDING_MAX: usize = 4_000_000;
/// Classes, tenants, graphs and agents numbered since the last reset; beyond it the numbers start over.
pub const NUMBERED_MAX: usize = 1_000_000;

/// One answer to [`Feed::wait`].
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// Forget everything first; the columns then hold the whole state.
    pub reset: bool,
    /// False once after leadership was lost: decide nothing more.
    pub leader: bool,
    pub term: u64,
    pub cluster_us: u64,
    pub wall_us: u64,
    pub columns: Columns,
}

#[derive(Default)]
struct Inside {
    leader: bool,
    term: u64,
    /// The next [`Feed::applied`] tells everything.
    rebuild: bool,
    reset: bool,
    /// Leadership changed and was not told yet.
    news: bool,
    stopped: bool,
    cluster_us: u64,
    wall_us: u64,
    columns: Columns,
    classes: Classes,
    tenants: Tenants,
    units: Units,
    agents: Agents,
}

/// Shared by the apply thread, which adds, and the policy thread, which waits.
#[derive(Default)]
pub struct Feed {
    leads: AtomicBool,
    inside: Mutex<Inside>,
    changed: Condvar,
}

impl Feed {
    /// Leadership as the raft side established it; called by the apply thread in log order.
    pub fn role(&self, leader: bool, term: u64, live: &dyn Live) {
        let mut inside = self.inside.lock();
        if inside.leader == leader && inside.term == term {
            return;
        }
        let told = inside.leader;
        (inside.leader, inside.term) = (leader, term);
        self.leads.store(leader, Ordering::Release);
        if leader {
            inside.rebuild_from(live);
        } else {
            inside.forget();
            inside.news |= told;
        }
        self.changed.notify_all();
    }

    /// Adds what a batch changed. `live` is the state after the whole batch.
    pub fn applied(&self, signals: &[Signal], live: &dyn Live) {
        if !self.leads.load(Ordering::Acquire) {
            return;
        }
        let mut inside = self.inside.lock();
        let full = inside.columns.len() + signals.len() > PENDING_MAX;
        if inside.rebuild || full || inside.numbered() > NUMBERED_MAX {
            inside.rebuild_from(live);
        } else {
            (inside.cluster_us, inside.wall_us) = live.times();
            for signal in signals {
                inside.signal(signal, live);
            }
        }
        if inside.has_news() {
            self.changed.notify_all();
        }
    }

    /// The state was replaced (an installed snapshot): the next batch tells everything.
    pub fn replaced(&self) {
        self.inside.lock().rebuild = true;
    }

    /// Loads that agents reported to this leader, in basis points.
    pub fn loads(&self, loads: &[(String, [u16; 3])]) {
        if !self.leads.load(Ordering::Acquire) {
            return;
        }
        let mut inside = self.inside.lock();
        for (agent_id, load_bp) in loads {
            // An agent that the policy was not told of is told with its registration first.
            if let Some(number) = inside.agents.known(agent_id)
                && inside.columns.load_agent.len() < PENDING_MAX
            {
                inside.columns.push_load(number, *load_bp);
            }
        }
        // A load alone decides nothing: it rides with the next operation.
    }

    /// Waits until there is something to decide; `None` when the time ran out or after [`Feed::stop`].
    pub fn wait(&self, timeout: Duration) -> Option<Batch> {
        let until = Instant::now() + timeout;
        let mut inside = self.inside.lock();
        while !inside.has_news() && !inside.stopped {
            if self.changed.wait_until(&mut inside, until).timed_out() {
                return None;
            }
        }
        if inside.stopped { None } else { Some(inside.take()) }
    }

    /// Ends every wait, now and later.
    pub fn stop(&self) {
        self.inside.lock().stopped = true;
        self.changed.notify_all();
    }

    /// The ids behind agent numbers of this leadership; an unknown number is `None`.
    pub fn agent_ids(&self, numbers: &[u32]) -> Vec<Option<Arc<str>>> {
        let inside = self.inside.lock();
        numbers.iter().map(|number| inside.agents.id(*number).cloned()).collect()
    }
}

impl Inside {
    fn has_news(&self) -> bool {
        self.news || self.reset || !self.columns.is_empty()
    }

    fn take(&mut self) -> Batch {
        self.news = false;
        Batch {
            reset: std::mem::take(&mut self.reset),
            leader: self.leader,
            term: self.term,
            cluster_us: self.cluster_us,
            wall_us: self.wall_us,
            columns: std::mem::take(&mut self.columns),
        }
    }

    /// The longest list of numbers.
    fn numbered(&self) -> usize {
        self.classes.len().max(self.tenants.len()).max(self.units.given()).max(self.agents.len())
    }

    fn forget(&mut self) {
        (self.columns, self.classes, self.tenants, self.units, self.agents) = Default::default();
        (self.rebuild, self.reset) = (false, false);
    }

    fn rebuild_from(&mut self, live: &dyn Live) {
        self.forget();
        self.reset = true;
        (self.cluster_us, self.wall_us) = live.times();
        let (agents, columns) = (&mut self.agents, &mut self.columns);
        live.each_agent(&mut |agent_id, row| agents.tell(agent_id, row, live.node_drains(&row.node_id), columns));
        live.each_placeable(&mut |id, task| match task.status() {
            Status::Ready => self.ready(id, task, live),
            status if status.held() => self.taken(id, task, &task.assigned_agent_id, live),
            _ => {}
        });
    }

    fn signal(&mut self, signal: &Signal, live: &dyn Live) {
        match signal {
            // A task that has ended since needs no place in the queue: its `Gone` or `Taken` follows.
            Signal::Ready { task } => {
                if let Some(row) = live.task(*task) {
                    self.ready(*task, &row, live);
                }
            }
            Signal::Gone { task } => self.columns.push(Op::Gone, *task, &Row::default()),
            Signal::Taken { task, agent, .. } => match live.task(*task) {
                Some(row) => self.taken(*task, &row, agent, live),
                // It has ended in the same batch: all that counts is that it left the queue.
                None => self.columns.push(Op::Gone, *task, &Row::default()),
            },
            Signal::Freed { task, agent, run_us, success, size_hint, .. } => {
                let row = Row {
                    agent: self.agents.number(agent),
                    run_us: if success.is_some() { (*run_us).max(1) } else { 0 },
                    size_hint: *size_hint,
                    success: success.unwrap_or(false),
                    ..Row::default()
                };
                self.columns.push(Op::Freed, *task, &row);
            }
            Signal::Status { task, status } if status.ended() => self.units.ended(*task, &mut self.columns),
            Signal::Stale { task, agent } => self.stale(*task, agent, live),
            Signal::AgentChanged { agent } => self.agent(agent, live),
            Signal::Members => {
                let (agents, columns) = (&mut self.agents, &mut self.columns);
                live.each_agent(&mut |agent_id, row| agents.tell(agent_id, row, live.node_drains(&row.node_id), columns));
            }
            _ => {}
        }
    }

    fn ready(&mut self, id: TaskId, task: &TaskRow, live: &dyn Live) {
        let row = self.row(task, live);
        self.columns.push(Op::Ready, id, &row);
    }

    fn taken(&mut self, id: TaskId, task: &TaskRow, agent_id: &str, live: &dyn Live) {
        let agent = self.agents.number(agent_id);
        let row = Row { agent, ..self.row(task, live) };
        self.columns.push(Op::Taken, id, &row);
    }

    /// A task with the numbers of its class, tenant and graph; those that are new are told.
    fn row<'t>(&mut self, task: &'t TaskRow, live: &dyn Live) -> Row<'t> {
        let class = self.classes.of(task, &mut self.columns);
        let tenant = self.tenants.of(task);
        let unit = self.units.of(task, live, &mut self.classes, &mut self.columns);
        Row { task: Some(task), class, tenant, unit, ..Row::default() }
    }

    /// A refused assignment: the policy takes back what it had reserved, and sees the task as it is.
    fn stale(&mut self, id: TaskId, agent_id: &str, live: &dyn Live) {
        self.agent(agent_id, live);
        let task = live.task(id);
        let held_by = task.as_ref().filter(|task| task.status().held()).map(|task| task.assigned_agent_id.as_str());
        if held_by != Some(agent_id) {
            let agent = self.agents.number(agent_id);
            self.columns.push(Op::Freed, id, &Row { agent, ..Row::default() });
        }
        match task {
            Some(task) if task.status() == Status::Ready => self.ready(id, &task, live),
            _ => self.columns.push(Op::Gone, id, &Row::default()),
        }
    }

    fn agent(&mut self, agent_id: &str, live: &dyn Live) {
        if let Some(row) = live.agent(agent_id) {
            self.agents.tell(agent_id, &row, live.node_drains(&row.node_id), &mut self.columns);
        }
    }
}

#[cfg(test)]
mod tests;

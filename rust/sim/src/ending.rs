//! The course of a run: faults, then everything heals, then the cluster must converge.

use std::collections::BTreeSet;

use codec::command::{Body, Cancel, Retry};
use codec::row::Status;
use node::Event;

use crate::host::Waiter;
use crate::invariant::{Violation, convergence};
use crate::queue::Time;
use crate::world::{What, World};

/// How often it is looked whether a phase can end.
const LOOK_US: Time = 50_000;
/// Ten election timeouts at their longest: within it one leader must lead.
pub const LEADER_US: Time = 10_000_000;
/// Then all operations and tasks must end within this time.
const WORK_US: Time = 120_000_000;
/// Then all replicas must be equal within this time.
const EQUAL_US: Time = 20_000_000;
/// A task that has not ended this long after the last operation is cancelled by an operator.
const OPERATOR_US: Time = 1_500_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Faults,
    /// Healed; a leader is awaited.
    Leader {
        since: Time,
    },
    /// Clients finish, then tasks do.
    Work {
        since: Time,
        idle_since: Option<Time>,
    },
    /// Nothing is proposed any more: the replicas become equal.
    Equal {
        since: Time,
    },
    Over,
}

impl World {
    pub(crate) fn next_phase(&mut self) -> Result<(), Violation> {
        let now = self.now;
        self.queue.push(now + LOOK_US, What::Phase);
        match self.phase {
            Phase::Faults => {
                if now >= self.budget.fault_us + 700_000 {
                    self.heal()?;
                    self.phase = Phase::Leader { since: now };
                }
            }
            Phase::Leader { since } => {
                if convergence::one_leader(&self.hosts) {
                    self.phase = Phase::Work { since: now, idle_since: None };
                } else if now > since + LEADER_US {
                    return Err(self.violation("one leader after heal", convergence::describe(&self.hosts)));
                }
            }
            Phase::Work { since, idle_since } => {
                let busy = self.clients.iter().any(|c| !c.done || c.busy());
                if busy {
                    self.phase = Phase::Work { since, idle_since: None };
                } else if !self.members_settled() {
                    // The leader takes its steps; a lost node's place is asked for again.
                    let mut idle = idle_since.unwrap_or(now);
                    if self.lost.is_some() && now > idle + OPERATOR_US {
                        self.replace_lost();
                        idle = now;
                    }
                    self.phase = Phase::Work { since, idle_since: Some(idle) };
                } else if self.invariants.tasks.live() == 0 && now > idle_since.unwrap_or(now) {
                    self.dismiss_strangers();
                    self.phase = Phase::Equal { since: now };
                } else {
                    let idle = idle_since.unwrap_or(now);
                    self.phase = Phase::Work { since, idle_since: Some(idle) };
                    if now > idle + OPERATOR_US {
                        self.operate();
                        self.phase = Phase::Work { since, idle_since: Some(now) };
                    }
                }
                if now > since + WORK_US {
                    let text = format!(
                        "{} operations under way, tasks not ended: {}",
                        self.clients.iter().filter(|c| c.busy()).count(),
                        self.invariants.tasks.describe_live()
                    );
                    let text = format!("{text}; {}; {}", self.describe_members(), convergence::describe(&self.hosts));
                    return Err(self.violation("every submitted task ends", text));
                }
            }
            Phase::Equal { since } => {
                if convergence::equal(&self.hosts, &self.invariants.replay) {
                    self.invariants.at_the_end(&self.hosts).map_err(|v| v.at(now))?;
                    self.phase = Phase::Over;
                } else if now > since + EQUAL_US {
                    return Err(self.violation("equal index and hash after heal", convergence::describe(&self.hosts)));
                }
            }
            Phase::Over => {}
        }
        Ok(())
    }

    /// What an operator does with tasks that agents leave behind: parked ones are retried once, and
    /// what waits for ever is cancelled.
    fn operate(&mut self) {
        let Some(leader) = self.leader() else { return };
        let bodies: Vec<Body> = self
            .invariants
            .tasks
            .left_behind()
            .take(64)
            .map(|(id, status)| match status {
                Status::Parked => Body::Retry(Retry { task_id: id.to_vec() }),
                _ => Body::Cancel(Cancel { task_id: id.to_vec(), kill: true, grace_ms: 0 }),
            })
            .collect();
        if bodies.is_empty() {
            return;
        }
        let distinct: BTreeSet<u8> = bodies.iter().map(|b| b.name().len() as u8).collect();
        self.trace.fold(self.now, 12, bodies.len() as u64, distinct.len() as u64);
        let token = self.token();
        let deadline_us = self.hosts[leader].clock.mono_us(self.now) + 2_000_000;
        if let Some(process) = &mut self.hosts[leader].process {
            process.waiters.insert(token, Waiter::Nobody);
        }
        self.tell(leader, Event::Propose { token, bodies, deadline_us });
    }
}

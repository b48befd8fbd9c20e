//! Leases: while an agent works under a lease that was granted, its tasks go to nobody else; and an
//! old registration is never extended.

use std::collections::BTreeMap;

use codec::peer::BeatAnswer;
use codec::row::EventKind;

use super::replay::Executed;
use super::{Check, broken};
use crate::agent::Agent;
use crate::queue::Time;

#[derive(Default)]
pub struct Lease {
    /// Agent → epoch of its newest registration in the log.
    epochs: BTreeMap<String, u64>,
    /// Beat's token → whether its registration was replaced already when it was sent.
    beats: BTreeMap<u64, Option<String>>,
}

impl Lease {
    pub fn command(&mut self, executed: &Executed, agents: &[Agent], now: Time) -> Check {
        for event in &executed.events {
            match EventKind::try_from(event.kind) {
                Ok(EventKind::AgentRegistered) => {
                    let id = String::from_utf8_lossy(&event.id).into_owned();
                    self.epochs.insert(id, executed.outcome.agent_epoch);
                }
                Ok(EventKind::AgentLost) => {
                    let agent = agents.iter().find(|a| a.id.as_bytes() == event.id);
                    let current = |a: &&Agent| self.epochs.get(&a.id) == Some(&a.epoch);
                    if let Some(agent) = agent.filter(current)
                        && agent.fence_at() > now
                    {
                        let text = format!(
                            "{} lost its tasks {} ms before it stops by itself",
                            agent.id,
                            (agent.fence_at() - now) / 1_000
                        );
                        return broken("a granted lease holds", text);
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    pub fn beat_sent(&mut self, token: u64, agent: &str, epoch: u64) {
        let newer = self.epochs.get(agent).filter(|newest| **newest > epoch);
        self.beats.insert(token, newer.map(|newest| format!("{agent} epoch {epoch}, registered again as {newest}")));
    }

    pub fn answered(&mut self, answer: &BeatAnswer) -> Check {
        match self.beats.remove(&answer.token).flatten() {
            Some(text) if answer.lease_ms > 0 => broken("an old registration is not extended", text),
            _ => Ok(()),
        }
    }
}

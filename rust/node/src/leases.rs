//! Leases of agents at the leader (DESIGN §3 "Leases"): beats never enter the log, expiry does.
//!
//! The leader alone extends a lease, and only while a quorum has confirmed a recent round. A new
//! leader grants every live agent one full lease from the first entry of its own term.

use std::collections::{BTreeMap, BTreeSet};

use codec::command::ExpiredAgent;

use crate::event::Micros;

struct Lease {
    agent_epoch: u64,
    expires_us: Micros,
}

/// What the leader knows of a beat's sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    Current,
    /// Registered under another epoch, lost or left.
    Stale,
    Unknown,
}

#[derive(Default)]
pub struct Leases {
    /// Live agents and their epochs, as applied: kept on every node.
    agents: BTreeMap<String, (u64, bool)>,
    leases: BTreeMap<String, Lease>,
    by_expiry: BTreeSet<(Micros, String)>,
    leading: bool,
}

impl Leases {
    /// Agents registered, were lost or left, as applied: id, epoch, whether it lives.
    pub fn agents_changed(&mut self, agents: &[(String, u64, bool)], now_us: Micros, lease_us: u64) {
        for (agent_id, agent_epoch, live) in agents {
            self.agents.insert(agent_id.clone(), (*agent_epoch, *live));
            if self.leading || mutant::active("lease-by-followers-clock") {
                self.drop_lease(agent_id);
                if *live {
                    self.grant(agent_id, *agent_epoch, now_us + lease_us);
                }
            }
        }
    }

    /// The agents of a state that was just loaded; those known before are forgotten.
    pub fn reset_agents(&mut self, agents: &[(String, u64, bool)]) {
        self.agents = agents.iter().map(|(id, epoch, live)| (id.clone(), (*epoch, *live))).collect();
        self.stop_leading();
    }

    /// Begins to lead: one full lease for every live agent.
    pub fn start_leading(&mut self, now_us: Micros, lease_us: u64) {
        self.leading = true;
        if mutant::active("lease-by-followers-clock") {
            return;
        }
        self.leases.clear();
        self.by_expiry.clear();
        let live: Vec<_> =
            self.agents.iter().filter(|(_, (_, live))| *live).map(|(id, (epoch, _))| (id.clone(), *epoch)).collect();
        for (agent_id, epoch) in live {
            self.grant(&agent_id, epoch, now_us + lease_us);
        }
    }

    pub fn stop_leading(&mut self) {
        self.leading = false;
        if mutant::active("lease-by-followers-clock") {
            return;
        }
        self.leases.clear();
        self.by_expiry.clear();
    }

    pub fn live_agents(&self) -> usize {
        self.agents.values().filter(|(_, live)| *live).count()
    }

    pub fn standing(&self, agent_id: &str, agent_epoch: u64) -> Standing {
        match self.agents.get(agent_id) {
            None => Standing::Unknown,
            Some((epoch, true)) if *epoch == agent_epoch || mutant::active("renew-old-epoch") => Standing::Current,
            Some(_) => Standing::Stale,
        }
    }

    /// Extends a current agent's lease; false if it has none (it expired and the expiry is under way).
    pub fn extend(&mut self, agent_id: &str, expires_us: Micros) -> bool {
        let Some(lease) = self.leases.get_mut(agent_id) else { return false };
        if expires_us > lease.expires_us {
            self.by_expiry.remove(&(lease.expires_us, agent_id.to_owned()));
            lease.expires_us = expires_us;
            self.by_expiry.insert((expires_us, agent_id.to_owned()));
        }
        true
    }

    /// Agents whose lease has run out. Their leases are gone: only applied state brings one back.
    pub fn take_expired(&mut self, now_us: Micros, limit: usize) -> Vec<ExpiredAgent> {
        let mut expired = Vec::new();
        while expired.len() < limit {
            let Some((at_us, _)) = self.by_expiry.first() else { break };
            if *at_us > now_us {
                break;
            }
            let Some((_, agent_id)) = self.by_expiry.pop_first() else { break };
            if let Some(lease) = self.leases.remove(&agent_id) {
                expired.push(ExpiredAgent { agent_id, agent_epoch: lease.agent_epoch });
            }
        }
        expired
    }

    fn grant(&mut self, agent_id: &str, agent_epoch: u64, expires_us: Micros) {
        self.leases.insert(agent_id.to_owned(), Lease { agent_epoch, expires_us });
        self.by_expiry.insert((expires_us, agent_id.to_owned()));
    }

    fn drop_lease(&mut self, agent_id: &str) {
        if let Some(lease) = self.leases.remove(agent_id) {
            self.by_expiry.remove(&(lease.expires_us, agent_id.to_owned()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Leases, Standing};

    #[test]
    fn a_new_leader_grants_a_full_lease_and_expires_what_does_not_beat() {
        let mut leases = Leases::default();
        leases.agents_changed(&[("a".to_owned(), 1, true)], 0, 4_000);
        leases.agents_changed(&[("b".to_owned(), 1, true)], 0, 4_000);
        assert!(leases.take_expired(u64::MAX, 10).is_empty(), "a follower expires nobody");
        leases.start_leading(10_000, 4_000);
        assert!(leases.extend("a", 18_000));
        let expired = leases.take_expired(14_000, 10);
        assert_eq!(expired.len(), 1);
        assert_eq!(expired[0].agent_id, "b");
        assert!(!leases.extend("b", 20_000), "an expired lease is not extended");
    }

    #[test]
    fn another_epoch_is_stale() {
        let mut leases = Leases::default();
        leases.agents_changed(&[("a".to_owned(), 2, true)], 0, 4_000);
        assert_eq!(leases.standing("a", 2), Standing::Current);
        assert_eq!(leases.standing("a", 1), Standing::Stale);
        assert_eq!(leases.standing("x", 1), Standing::Unknown);
        leases.agents_changed(&[("a".to_owned(), 2, false)], 0, 4_000);
        assert_eq!(leases.standing("a", 2), Standing::Stale);
    }
}

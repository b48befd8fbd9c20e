//! Handing leadership to another member: on request, and before this node stops.

use consensus::Consensus;

use crate::driver::Driver;
use crate::effect::Effect;
use crate::event::{Micros, Token};

impl Driver {
    pub(crate) fn transfer_leader(&mut self, token: Token, to: Option<&str>, deadline_us: Micros) {
        let refuse = |driver: &mut Self, detail: String| driver.effects.push(Effect::CompleteTask { token, done: false, detail });
        if !self.is_leader() {
            return refuse(self, "this node is not the leader".into());
        }
        let target = match to {
            Some(name) => self.peers.raft_id(name),
            None => self.most_caught_up(),
        };
        match target {
            None => {
                refuse(self, to.map_or("no other member can lead".into(), |name| format!("{name} is no member of the cluster")))
            }
            Some(raft_id) if raft_id == self.identity.raft_id => {
                self.effects.push(Effect::CompleteTask { token, done: true, detail: "it leads already".into() });
            }
            Some(raft_id) => {
                if let Some(consensus) = &mut self.consensus {
                    consensus.transfer_leader(raft_id);
                }
                self.transfers.push((token, raft_id, deadline_us));
            }
        }
    }

    pub(crate) fn most_caught_up(&self) -> Option<u64> {
        self.most_caught_up_of(|_| true)
    }

    /// The voter to hand leadership to, among those that `fits`.
    pub(crate) fn most_caught_up_of(&self, fits: impl Fn(&u64) -> bool) -> Option<u64> {
        let consensus = self.consensus.as_ref()?;
        let voters = &consensus.configuration().voters;
        let mut progress = consensus.progress();
        progress.retain(|p| p.raft_id != self.identity.raft_id && p.recently_active && voters.contains(&p.raft_id));
        progress.retain(|p| fits(&p.raft_id));
        progress.into_iter().max_by_key(|p| p.match_index).map(|p| p.raft_id)
    }

    pub(crate) fn check_transfers(&mut self) {
        let leader = self.consensus.as_ref().map_or(0, Consensus::leader);
        let (now_us, own) = (self.now_us, self.identity.raft_id);
        let mut open = Vec::new();
        for (token, to, deadline_us) in std::mem::take(&mut self.transfers) {
            if leader == to || (leader != 0 && leader != own) {
                self.effects.push(Effect::CompleteTask { token, done: leader == to, detail: String::new() });
            } else if now_us >= deadline_us {
                let detail = "leadership did not move before the deadline".into();
                self.effects.push(Effect::CompleteTask { token, done: false, detail });
            } else {
                open.push((token, to, deadline_us));
            }
        }
        self.transfers = open;
        if self.stopping.is_some() && !self.is_leader() {
            self.stopping = None;
            self.effects.push(Effect::StopReady);
        }
    }

    pub(crate) fn stop(&mut self) {
        self.leave_observers();
        let target = if self.is_leader() { self.most_caught_up() } else { None };
        match target {
            Some(to) => {
                if let Some(consensus) = &mut self.consensus {
                    consensus.transfer_leader(to);
                }
                // Longer than an election needs; then it stops as it is.
                self.stopping = Some(self.now_us + 1_500_000);
            }
            None => self.effects.push(Effect::StopReady),
        }
    }
}

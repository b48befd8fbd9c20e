//! A restored state becomes the first state of a new cluster.
//!
//! What always holds: the same rows and the same first configuration give the same changes on every
//! node; nothing of the old cluster can be taken for something of the new one: its members, sessions,
//! registrations and attempts are over, and no revision, agent_epoch or attempt is used twice.

use codec::log::{Bootstrap, ConfState};
use codec::row::{self, AgentStatus, Cf, Change, EventKind, MemberRow, StateRead, row_hash};

use crate::load::LoadError;
use crate::machine::{Entry, Machine};
use crate::tx::{Effects, Step, Stop, Tx, View};

/// Raft position of the first state: not 0, so that a member that joins later cannot be brought up by
/// the log alone.
pub const SEED_INDEX: u64 = 1;
pub const SEED_TERM: u64 = 1;
/// Revisions that the old cluster may go on to use while the new one lives are passed over, as etcd
/// does on restore (`--bump-revision`).
pub const SEED_REVISION_GAP: u64 = 1_000_000_000;

impl Machine {
    /// What to change in restored rows so that they are the state of `bootstrap`'s cluster at
    /// ([`SEED_INDEX`], [`SEED_TERM`]).
    ///
    /// The attempts of all agents are revoked (epoch + 1, ready again, counted toward nothing), a
    /// cancellation under way ends, the agents are lost until they register again, members are those
    /// of `bootstrap`, sessions are gone. Cluster time goes on where it was.
    ///
    /// # Errors
    /// If the rows cannot be read or contradict each other.
    pub fn seed_rows(rows: &dyn StateRead, bootstrap: &Bootstrap) -> Result<Vec<Change>, LoadError> {
        let mut machine = Self::load(rows)?;
        let mut entry = Entry::default();
        machine.meta.revision += SEED_REVISION_GAP;
        machine.meta.wall_us = machine.meta.wall_us.max(bootstrap.wall_us);
        let effects =
            give_up_agents(Tx::new(&machine, View { rows, pending: &entry.pending }, 0)).map_err(|stop| match stop {
                Stop::Read(error) => LoadError::Read(error),
                Stop::Refused(outcome) => LoadError::Contradiction(outcome.detail),
                Stop::Invariant(reason) => LoadError::Contradiction(reason),
            })?;
        machine.commit(&mut entry, effects);
        for cf in [Cf::Session, Cf::Member] {
            rows.scan(cf, &[], &[], &mut |key, value| {
                machine.hash.remove(row_hash(cf, key, value));
                entry.set(cf, key.to_vec(), None);
                true
            })?;
        }
        for member in &bootstrap.members {
            let row = MemberRow { raft_id: member.raft_id, address: member.address.clone(), ..MemberRow::default() };
            let (key, value) = (member.node_id.as_bytes().to_vec(), row::encode(&row));
            machine.hash.add(row_hash(Cf::Member, &key, &value));
            entry.set(Cf::Member, key, Some(value));
        }
        let mut voters: Vec<u64> = bootstrap.members.iter().map(|m| m.raft_id).collect();
        voters.sort_unstable();
        machine.meta.configuration = Some(ConfState { voters, ..ConfState::default() });
        machine.meta.cluster_id = bootstrap.cluster_id;
        machine.applied(SEED_INDEX, SEED_TERM);
        Ok(entry.into_applied(&machine.meta, Vec::new()).changes)
    }
}

fn give_up_agents(mut tx: Tx<'_>) -> Step<Effects> {
    let machine = tx.machine;
    for (id, agent) in machine.agents() {
        tx.revoke_all(id, "restored")?;
        if matches!(agent.status(), AgentStatus::Up | AgentStatus::Draining) {
            tx.set_agent_status(id, AgentStatus::Lost, EventKind::AgentLost);
        }
    }
    tx.finish()
}

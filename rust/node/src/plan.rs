//! What brings Raft's configuration one step closer to what the member rows want.
//!
//! A pure function of the rows, the configuration and what the leader knows of each member, so that
//! any leader at any moment goes on where the one before it stopped: nothing but the rows and the
//! configuration says how far a change has come. What always holds of its steps:
//! * a joint configuration is left before anything else changes;
//! * a member becomes a voter only from a learner that is caught up, and takes the place of those it
//!   replaces in the same joint change, so that the number of voters is kept;
//! * the voters of the next configuration that are alive are a majority of it;
//! * a leader that is to lose its vote hands leadership over first.

use std::collections::BTreeSet;

use codec::log::ConfState;
use codec::row::{MemberRole, MemberState};
use consensus::{MemberChange, has_member, is_joint};

use crate::event::Member;

/// What the leader knows of the members, by raft id.
#[derive(Default)]
pub struct Known {
    /// Answered lately, the leader itself among them.
    pub alive: BTreeSet<u64>,
    /// Learners that keep up with the log (their own, synced one).
    pub caught_up: BTreeSet<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NextStep {
    /// The configuration is what the rows want, or what is missing for the next step is not there.
    Nothing,
    /// Leave the joint configuration.
    Leave,
    Change(Vec<MemberChange>),
    /// This leader is to lose its vote: another voter must lead.
    HandOver,
}

/// Whether the row says that the member takes part in Raft's configuration.
fn takes_part(member: &Member) -> bool {
    member.raft_id != 0 && member.state != MemberState::Leaving && member.role != MemberRole::Observer
}

/// The row that stands for a raft id, if the id is to stay.
fn row_of(members: &[Member], raft_id: u64) -> Option<&Member> {
    members.iter().find(|m| takes_part(m) && m.raft_id == raft_id)
}

/// Whether the configuration is what the row wants, so that it can be settled.
pub fn is_settled(member: &Member, configuration: &ConfState) -> bool {
    if is_joint(configuration) {
        return false;
    }
    let ids = std::iter::once(&member.raft_id);
    match (member.state, member.role) {
        (MemberState::Leaving, _) => ids.chain(&member.replaces).all(|id| !has_member(configuration, *id)),
        (_, _) if member.raft_id == 0 => false,
        (_, MemberRole::Observer) => true,
        // A lost directory stays only where it became a learner, as another row's.
        (_, MemberRole::Voter) => {
            configuration.voters.contains(&member.raft_id) && !member.replaces.iter().any(|id| configuration.voters.contains(id))
        }
        (_, MemberRole::Learner) => {
            configuration.learners.contains(&member.raft_id) && !member.replaces.iter().any(|id| has_member(configuration, *id))
        }
    }
}

/// The next step of leader `own`.
pub fn next_step(members: &[Member], configuration: &ConfState, known: &Known, own: u64) -> NextStep {
    if is_joint(configuration) {
        return NextStep::Leave;
    }
    if let Some(id) = newcomer(members, configuration) {
        return NextStep::Change(vec![MemberChange::AddLearner(id)]);
    }
    let promoted = promotions(members, configuration, known);
    if !promoted.is_empty() {
        // All that are ready in one joint change; if too few of them all are alive, one by one.
        let each = promoted.iter().map(std::slice::from_ref);
        for group in std::iter::once(promoted.as_slice()).chain(each) {
            let step = change(promote(members, configuration, group), configuration, known, own);
            if step != NextStep::Nothing {
                return step;
            }
        }
    }
    for drop in departures(members, configuration) {
        let step = change(vec![drop], configuration, known, own);
        if step != NextStep::Nothing {
            return step;
        }
    }
    NextStep::Nothing
}

/// A member that the configuration does not know yet: it begins as a learner.
fn newcomer(members: &[Member], configuration: &ConfState) -> Option<u64> {
    let new = |m: &&Member| takes_part(m) && m.state != MemberState::Replacing && !has_member(configuration, m.raft_id);
    members.iter().find(new).map(|m| m.raft_id)
}

/// Wanted voters that are learners, caught up and alive.
fn promotions<'m>(members: &'m [Member], configuration: &ConfState, known: &Known) -> Vec<&'m Member> {
    let ready = |id: u64| configuration.learners.contains(&id) && known.caught_up.contains(&id) && known.alive.contains(&id);
    members.iter().filter(|m| takes_part(m) && m.role == MemberRole::Voter && ready(m.raft_id)).collect()
}

fn promote(members: &[Member], configuration: &ConfState, promoted: &[&Member]) -> Vec<MemberChange> {
    let mut changes: Vec<_> = promoted.iter().map(|m| MemberChange::AddVoter(m.raft_id)).collect();
    let replaced: BTreeSet<u64> = promoted.iter().flat_map(|m| m.replaces.iter().copied()).collect();
    changes.extend(replaced.into_iter().filter(|id| has_member(configuration, *id)).filter_map(|id| match row_of(members, id) {
        None => Some(MemberChange::Remove(id)),
        Some(row) if row.role == MemberRole::Learner => Some(MemberChange::AddLearner(id)),
        Some(_) => None,
    }));
    changes
}

/// Members to remove or to make learners of, unless they keep a place for a voter that is not ready.
fn departures(members: &[Member], configuration: &ConfState) -> Vec<MemberChange> {
    let waits = |m: &&Member| {
        m.state != MemberState::Leaving && m.role == MemberRole::Voter && !configuration.voters.contains(&m.raft_id)
    };
    let held: BTreeSet<u64> = members.iter().filter(waits).flat_map(|m| m.replaces.iter().copied()).collect();
    let ids = configuration.learners.iter().chain(&configuration.voters).filter(|id| !held.contains(id));
    ids.filter_map(|id| match row_of(members, *id) {
        None => Some(MemberChange::Remove(*id)),
        Some(row) if row.role == MemberRole::Learner && configuration.voters.contains(id) => Some(MemberChange::AddLearner(*id)),
        Some(_) => None,
    })
    .collect()
}

/// The step that makes these changes, if a majority of the voters after them is alive.
fn change(changes: Vec<MemberChange>, configuration: &ConfState, known: &Known, own: u64) -> NextStep {
    let mut voters: BTreeSet<u64> = configuration.voters.iter().copied().collect();
    for change in &changes {
        match change {
            MemberChange::AddVoter(id) => voters.insert(*id),
            MemberChange::AddLearner(id) | MemberChange::Remove(id) => voters.remove(id),
        };
    }
    let alive = voters.iter().filter(|id| known.alive.contains(id)).count();
    if alive <= voters.len() / 2 {
        return NextStep::Nothing;
    }
    let hands_over = !mutant::active("removed-leader-leads");
    if configuration.voters.contains(&own) && !voters.contains(&own) && hands_over {
        return NextStep::HandOver;
    }
    NextStep::Change(changes)
}

#[cfg(test)]
mod tests {
    use codec::log::ConfState;
    use codec::row::{DrainState, MemberRole, MemberState};
    use consensus::MemberChange::{AddLearner, AddVoter, Remove};

    use super::{Known, NextStep, is_settled, next_step};
    use crate::event::Member;

    fn row(raft_id: u64, role: MemberRole, state: MemberState) -> Member {
        let (node_id, address) = (format!("n{raft_id}"), format!("n{raft_id}:1"));
        Member { node_id, raft_id, address, drain: DrainState::None, role, state, replaces: Vec::new() }
    }

    fn voter(raft_id: u64) -> Member {
        row(raft_id, MemberRole::Voter, MemberState::Active)
    }

    fn joining(raft_id: u64, replaces: &[u64]) -> Member {
        Member { replaces: replaces.to_vec(), ..row(raft_id, MemberRole::Voter, MemberState::Joining) }
    }

    fn configuration(voters: &[u64], learners: &[u64]) -> ConfState {
        ConfState { voters: voters.to_vec(), learners: learners.to_vec(), ..ConfState::default() }
    }

    fn known(alive: &[u64], caught_up: &[u64]) -> Known {
        Known { alive: alive.iter().copied().collect(), caught_up: caught_up.iter().copied().collect() }
    }

    #[test]
    fn a_new_voter_is_a_learner_until_it_has_caught_up() {
        let rows = [voter(1), voter(2), voter(3), joining(4, &[])];
        let (all, three) = ([1, 2, 3, 4], configuration(&[1, 2, 3], &[]));
        assert_eq!(next_step(&rows, &three, &known(&all, &[]), 1), NextStep::Change(vec![AddLearner(4)]));
        let learning = configuration(&[1, 2, 3], &[4]);
        assert_eq!(next_step(&rows, &learning, &known(&all, &[]), 1), NextStep::Nothing);
        assert_eq!(next_step(&rows, &learning, &known(&[1, 2, 3], &[4]), 1), NextStep::Nothing, "silent");
        assert_eq!(next_step(&rows, &learning, &known(&all, &[4]), 1), NextStep::Change(vec![AddVoter(4)]));
        assert!(!is_settled(&rows[3], &learning));
        assert!(is_settled(&rows[3], &configuration(&[1, 2, 3, 4], &[])));
    }

    #[test]
    fn two_voters_that_are_ready_enter_by_one_joint_change() {
        let rows = [voter(1), voter(2), voter(3), joining(4, &[]), joining(5, &[])];
        let learning = configuration(&[1, 2, 3], &[4, 5]);
        let all = known(&[1, 2, 3, 4, 5], &[4, 5]);
        assert_eq!(next_step(&rows, &learning, &all, 1), NextStep::Change(vec![AddVoter(4), AddVoter(5)]));
        let joint = ConfState { voters_outgoing: vec![1, 2, 3], ..configuration(&[1, 2, 3, 4, 5], &[]) };
        assert_eq!(next_step(&rows, &joint, &all, 1), NextStep::Leave);
        assert!(!is_settled(&rows[3], &joint), "not before the joint configuration is left");
    }

    #[test]
    fn a_replaced_voter_leaves_when_its_place_is_taken_and_not_before() {
        let rows = [voter(1), Member { node_id: "n2".into(), ..joining(22, &[2]) }, voter(3)];
        let (alive, two_lost) = (known(&[1, 3, 22], &[]), configuration(&[1, 2, 3], &[22]));
        assert_eq!(next_step(&rows, &two_lost, &alive, 1), NextStep::Nothing);
        let ready = known(&[1, 3, 22], &[22]);
        assert_eq!(next_step(&rows, &two_lost, &ready, 1), NextStep::Change(vec![AddVoter(22), Remove(2)]));
        assert!(!is_settled(&rows[1], &two_lost));
        assert!(is_settled(&rows[1], &configuration(&[1, 3, 22], &[])));
    }

    #[test]
    fn a_spare_takes_a_silent_voters_place_and_that_one_becomes_a_learner() {
        let silent = row(2, MemberRole::Learner, MemberState::Joining);
        let rows = [voter(1), silent, voter(3), joining(4, &[2])];
        let spare = configuration(&[1, 2, 3], &[4]);
        assert_eq!(next_step(&rows, &spare, &known(&[1, 3, 4], &[4]), 1), NextStep::Change(vec![AddVoter(4), AddLearner(2)]));
        assert_eq!(next_step(&rows, &spare, &known(&[1, 3], &[]), 1), NextStep::Nothing, "the spare is gone too");
        let done = configuration(&[1, 3, 4], &[2]);
        assert!(is_settled(&rows[1], &done) && is_settled(&rows[3], &done));
        assert_eq!(next_step(&rows, &done, &known(&[1, 3, 4], &[]), 1), NextStep::Nothing);
    }

    #[test]
    fn a_removal_waits_for_a_quorum_and_for_another_leader() {
        let leaving = row(1, MemberRole::Voter, MemberState::Leaving);
        let rows = [leaving, voter(2), voter(3)];
        let three = configuration(&[1, 2, 3], &[]);
        assert_eq!(next_step(&rows, &three, &known(&[1, 2], &[]), 1), NextStep::Nothing, "3 is silent");
        assert_eq!(next_step(&rows, &three, &known(&[1, 2, 3], &[]), 1), NextStep::HandOver);
        assert_eq!(next_step(&rows, &three, &known(&[1, 2, 3], &[]), 2), NextStep::Change(vec![Remove(1)]));
        assert!(is_settled(&rows[0], &configuration(&[2, 3], &[])));
    }

    #[test]
    fn two_removals_are_made_one_after_the_other() {
        let leaving = |id| row(id, MemberRole::Voter, MemberState::Leaving);
        let rows = [voter(1), voter(2), voter(3), leaving(4), leaving(5)];
        let five = configuration(&[1, 2, 3, 4, 5], &[]);
        let all = known(&[1, 2, 3, 4, 5], &[]);
        assert_eq!(next_step(&rows, &five, &all, 1), NextStep::Change(vec![Remove(4)]));
        assert_eq!(next_step(&rows, &configuration(&[1, 2, 3, 5], &[]), &all, 1), NextStep::Change(vec![Remove(5)]));
    }

    #[test]
    fn a_learner_whose_place_another_took_is_removed_before_its_row_is_settled() {
        let mut learner = row(44, MemberRole::Learner, MemberState::Joining);
        learner.replaces = vec![4];
        let rows = [voter(1), learner];
        let both = configuration(&[1], &[4, 44]);
        assert!(!is_settled(&rows[1], &both));
        assert_eq!(next_step(&rows, &both, &known(&[1, 44], &[]), 1), NextStep::Change(vec![Remove(4)]));
        assert!(is_settled(&rows[1], &configuration(&[1], &[44])));
    }
}

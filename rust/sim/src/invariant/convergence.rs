//! After the faults heal: one leader within ten election timeouts, then equal index and hash on
//! every replica.

use consensus::has_member;

use crate::host::{Host, Part};

use super::replay::Replay;

/// Nodes whose disk is sound: a damaged one takes no part until it is replaced.
fn sound(hosts: &[Host]) -> impl Iterator<Item = &Host> {
    hosts.iter().filter(|h| !h.disk.is_rotten())
}

/// All nodes run and follow one leader, which has committed in its term.
pub fn one_leader(hosts: &[Host]) -> bool {
    let leaders = hosts.iter().filter_map(|h| h.process.as_ref()).filter(|p| p.driver.is_leader());
    let Some(newest) = leaders.filter_map(|p| p.consensus()).max_by_key(|c| c.term()) else { return false };
    let configuration = newest.configuration().clone();
    let hosts: Vec<&Host> = sound(hosts).filter(|h| h.up() && has_member(&configuration, h.raft_id)).collect();
    let mut leaders = hosts.iter().map(|h| h.process.as_ref().and_then(|p| p.consensus()).map(|c| (c.leader(), c.term())));
    let Some(Some(first)) = leaders.next() else { return false };
    let established = hosts
        .iter()
        .filter_map(|h| h.process.as_ref())
        .any(|p| p.driver.is_leader() && p.consensus().is_some_and(|c| c.raft_id() == first.0 && c.committed_in_term()));
    first.0 != 0 && established && leaders.all(|l| l == Some(first))
}

/// All nodes have applied the whole log, and show the replay's hash.
pub fn equal(hosts: &[Host], replay: &Replay) -> bool {
    let last = replay.last();
    sound(hosts).filter(|h| h.part == Part::Member).all(|host| {
        let Some(process) = &host.process else { return false };
        let Some(apply) = &process.apply else { return false };
        let consensus = process.consensus();
        apply.machine().applied_index() == last
            && (host.observer || consensus.is_some_and(|c| c.last_index() == last))
            && Some(apply.machine().hash()) == replay.entry(last).map(|e| e.state)
    })
}

pub fn describe(hosts: &[Host]) -> String {
    let one = |host: &Host| {
        let Some(process) = &host.process else { return format!("{}: down", host.node_id) };
        let applied = process.apply.as_ref().map_or(0, |a| a.machine().applied_index());
        let Some(c) = process.consensus() else { return format!("{}: observer applied {applied}", host.node_id) };
        format!(
            "{}: {} term {} leader {} last {} commit {} applied {applied}",
            host.node_id,
            c.role().name(),
            c.term(),
            c.leader(),
            c.last_index(),
            c.commit_index()
        )
    };
    // Of many observers the first ones say enough.
    hosts.iter().filter(|h| h.part == Part::Member).take(12).map(one).collect::<Vec<_>>().join("; ")
}

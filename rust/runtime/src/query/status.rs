//! `/cluster/status` and `/cluster/nodes`: what this node can say without asking anybody.

use std::collections::BTreeMap;

use codec::command::Amount;
use codec::row::{AgentRow, AgentStatus, Cf, StateRead, Status};
use node::{MemberView, NodeView};

use super::json::{self, Object};
use super::task::levels;
use super::{Result, meta};
use crate::transfers::{Direction, TransferView, Transfers};

/// The view as one JSON object: the fields of `/cluster/status`, with `nodes` as in `/cluster/nodes`, and
/// this node's own counts. Whatever is unknown is null. `version` is this release's.
pub fn status(rows: &dyn StateRead, view: &NodeView, transfers: &Transfers, version: &str) -> Result<Vec<u8>> {
    let meta = meta(rows)?;
    let mut out = Vec::with_capacity(2048);
    let mut object = Object::new(&mut out);
    match view.cluster_id {
        0 => object.null("cluster_id"),
        id => object.text("cluster_id", &format!("{id:016x}")),
    }
    match &view.leader {
        None => object.null("leader"),
        Some(leader) => object.text("leader", leader),
    }
    object.number("term", view.term);
    object.number("commit_index", view.commit_index);
    object.number("applied_index", view.applied_index);
    let mut quorum = Object::new(object.value("quorum"));
    quorum.number("voters", view.voters.into());
    quorum.number("healthy", view.voters_healthy.into());
    quorum.boolean("has_quorum", view.has_quorum);
    quorum.end();
    membership(&mut object, view);
    state_hash(&mut object, view);
    nodes(&mut object, rows, view)?;
    object.texts("alerts", view.alerts.iter().map(String::as_str));
    object.text("version", version);
    object.text("observed_by", &view.node_id);
    object.time("observed_at", view.wall_us);
    own_fields(&mut object, view);
    snapshot(&mut object, "snapshot", "to", view, transfers.view(Direction::Out));
    snapshot(&mut object, "snapshot_in", "from", view, transfers.view(Direction::In));
    integrity(&mut object, view);
    let mut tasks = Object::new(object.value("tasks"));
    for (status, count) in Status::ALL.iter().zip(&meta.tasks_by_status) {
        tasks.number(status.name(), *count);
    }
    tasks.end();
    object.number("tasks_submitted", meta.tasks_submitted);
    object.number("tasks_forgotten", meta.tasks_forgotten);
    object.number("events_first_revision", meta.events_first_revision);
    object.end();
    Ok(out)
}

/// Raft's configuration by name, and what the member rows wait for.
fn membership(object: &mut Object<'_>, view: &NodeView) {
    let mut membership = Object::new(object.value("membership"));
    membership.texts("voters", view.voter_names.iter().map(String::as_str));
    membership.texts("learners", view.learner_names.iter().map(String::as_str));
    membership.boolean("joint", !view.outgoing_names.is_empty());
    membership.texts("voters_outgoing", view.outgoing_names.iter().map(String::as_str));
    json::array(membership.value("changes"), &view.changes, |out, (node_id, progress)| {
        let mut change = Object::new(out);
        change.text("node_id", node_id);
        change.text("progress", progress);
        change.end();
    });
    membership.end();
}

fn state_hash(object: &mut Object<'_>, view: &NodeView) {
    let mut hash = Object::new(object.value("state_hash"));
    hash.number("index", view.hash_index);
    hash.text("hash", &hex(&view.hash));
    match view.hash_agrees {
        None => hash.null("agrees"),
        Some(agrees) => hash.boolean("agrees", agrees),
    }
    json::array(hash.value("nodes"), &view.members, |out, member| {
        let mut node = Object::new(out);
        node.text("node_id", &member.node_id);
        match member.hash {
            None => ["index", "hash", "agrees"].into_iter().for_each(|name| node.null(name)),
            Some((index, hash, agrees)) => {
                node.number("index", index);
                node.text("hash", &hex(&hash));
                node.boolean("agrees", agrees);
            }
        }
        node.end();
    });
    hash.end();
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What this node knows of its own soundness, and the newest verification.
fn integrity(object: &mut Object<'_>, view: &NodeView) {
    object.text_or_null("fenced", &view.fenced);
    object.text_or_null("writes_stopped", &view.writes_stopped);
    object.texts("kept_aside", view.kept_aside.iter().map(String::as_str));
    let Some(verify) = &view.verify else { return object.null("verification") };
    let mut shown = Object::new(object.value("verification"));
    shown.number("index", verify.round.index);
    shown.boolean("complete", verify.complete);
    shown.boolean("agrees", verify.complete && verify.sound.iter().all(|(_, sound)| *sound));
    let members: Vec<&MemberView> = view.members.iter().collect();
    json::array(shown.value("nodes"), &members, |out, member| {
        let mut node = Object::new(out);
        node.text("node_id", &member.node_id);
        let Some(result) = verify.round.results.get(&member.raft_id) else {
            ["kept", "computed", "rows", "bytes", "error", "agrees"].into_iter().for_each(|name| node.null(name));
            return node.end();
        };
        node.text_or_null("kept", &hex(&result.kept));
        node.text_or_null("computed", &hex(&result.computed));
        node.number("rows", result.rows);
        node.number("bytes", result.bytes);
        node.text_or_null("error", &result.error);
        node.boolean("agrees", verify.sound.iter().any(|(id, sound)| *id == member.raft_id && *sound));
        node.end();
    });
    shown.end();
}

fn own_fields(object: &mut Object<'_>, view: &NodeView) {
    object.text("node_id", &view.node_id);
    object.text("node_role", view.role);
    object.boolean("leader_is_self", view.leader_is_self);
    object.text_or_null("waiting", &view.waiting);
    object.boolean("removed", view.removed);
    object.number("revision", view.revision);
    object.number("last_index", view.last_index);
    object.number("base_index", view.base_index);
    object.number("cluster_us", view.cluster_us);
    object.number("live_agents", view.live_agents as u64);
    object.number("live_tasks", view.live_tasks);
    object.number("proposals_pending", view.proposals_pending as u64);
    object.number("elections", view.elections);
    object.number("leader_changes", view.leader_changes);
}

/// A snapshot on its way; null without one. The other node's id is null until it is a member here.
fn snapshot(object: &mut Object<'_>, name: &str, peer: &str, view: &NodeView, transfer: Option<TransferView>) {
    let Some(transfer) = transfer else { return object.null(name) };
    let mut shown = Object::new(object.value(name));
    match view.members.iter().find(|m| m.raft_id == transfer.peer) {
        None => shown.null(peer),
        Some(member) => shown.text(peer, &member.node_id),
    }
    shown.number("index", transfer.index);
    let done = if peer == "to" { "bytes_sent" } else { "bytes_received" };
    shown.number(done, transfer.bytes_done);
    shown.number("bytes_total", transfer.bytes_total);
    shown.number("rate", transfer.rate);
    shown.text("phase", transfer.phase);
    shown.end();
}

/// What the agents of one node add up to.
#[derive(Default)]
struct Domain {
    /// Highest level per dimension, in basis points.
    levels: BTreeMap<String, u64>,
    agents: u64,
}

/// Agents that can work, by the node whose failure domain they share.
fn domains(rows: &dyn StateRead) -> Result<BTreeMap<String, Domain>> {
    let (mut domains, mut broken) = (BTreeMap::<String, Domain>::new(), Ok(()));
    rows.scan(Cf::Agent, b"", b"", &mut |_, value| {
        match codec::row::decode::<AgentRow>(value) {
            Err(error) => broken = Err(error),
            Ok(agent) if matches!(agent.status(), AgentStatus::Up | AgentStatus::Draining) => {
                let domain = domains.entry(agent.node_id).or_default();
                domain.agents += 1;
                for level in agent.capabilities {
                    let highest = domain.levels.entry(level.name).or_default();
                    *highest = level.amount.max(*highest);
                }
            }
            Ok(_) => {}
        }
        broken.is_ok()
    })?;
    broken?;
    Ok(domains)
}

fn nodes(object: &mut Object<'_>, rows: &dyn StateRead, view: &NodeView) -> Result<()> {
    let domains = domains(rows)?;
    let none = Domain::default();
    json::array(object.value("nodes"), &view.members, |out, member| {
        write_member(out, member, domains.get(&member.node_id).unwrap_or(&none));
    });
    Ok(())
}

fn write_member(out: &mut Vec<u8>, member: &MemberView, domain: &Domain) {
    let mut object = Object::new(out);
    object.text("node_id", &member.node_id);
    object.text("node_role", member.role);
    object.text("status", member.status);
    match &member.parent {
        None => object.null("parent"),
        Some(parent) => object.text("parent", parent),
    }
    object.text_or_null("role", member.wanted_role);
    object.text_or_null("state", member.state);
    object.text_or_null("address", &member.address);
    object.text_or_null("http_address", &member.http_address);
    match member.load_bp {
        None => object.null("load_factor"),
        Some(load_bp) => object.decimal("load_factor", load_bp.into_iter().max().unwrap_or(0).min(10_000).into(), 4),
    }
    let highest: Vec<Amount> =
        domain.levels.iter().map(|(name, amount)| Amount { name: name.clone(), amount: *amount }).collect();
    levels(object.value("capabilities"), &highest);
    object.time("last_heartbeat", member.heard_wall_us);
    for (name, value) in [("match_index", member.match_index), ("lag", member.lag)] {
        match value {
            None => object.null(name),
            Some(value) => object.number(name, value),
        }
    }
    object.number("agents", domain.agents);
    object.text_or_null("version", &member.version);
    match member.clock_skew_us {
        None => object.null("clock_skew_us"),
        Some(skew_us) => object.value("clock_skew_us").extend_from_slice(skew_us.to_string().as_bytes()),
    }
    object.end();
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Rows, parsed};
    use super::*;
    use serde_json::json;

    /// Scenario: a node without a leader, one member heard of, two agents in its domain, one lost.
    #[test]
    fn what_is_unknown_is_null_and_capabilities_are_the_highest() {
        let mut rows = Rows::default();
        for (name, level, status) in
            [("a", 3_000, AgentStatus::Up), ("b", 9_000, AgentStatus::Up), ("c", 10_000, AgentStatus::Lost)]
        {
            let capabilities = vec![Amount { name: "nlp".into(), amount: level }];
            rows.put_agent(name, &AgentRow { node_id: "n".into(), status: status as i32, capabilities, ..AgentRow::default() });
        }
        let member =
            MemberView { node_id: "n".into(), load_bp: Some([100, 2_500, 7]), clock_skew_us: Some(-4), ..MemberView::default() };
        let view = NodeView { members: vec![member], ..NodeView::default() };
        let transfers = Transfers::default();
        transfers.begin(Direction::In, 0, 9, 100, "receiving");
        transfers.moved(Direction::In, 40);
        let object = parsed(&status(&rows, &view, &transfers, "0.1.0").expect("status"));
        for field in ["cluster_id", "leader", "waiting"] {
            assert_eq!(object[field], json!(null), "{field}");
        }
        assert_eq!(object["snapshot"], json!(null));
        let incoming = &object["snapshot_in"];
        assert_eq!(
            (&incoming["index"], &incoming["bytes_received"], &incoming["phase"]),
            (&json!(9), &json!(40), &json!("receiving"))
        );
        assert_eq!(object["quorum"], json!({"voters": 0, "healthy": 0, "has_quorum": false}));
        assert_eq!(object["state_hash"]["agrees"], json!(null));
        let node = &object["nodes"][0];
        assert_eq!(node["capabilities"], json!({"nlp": 0.9}));
        assert_eq!((&node["agents"], &node["load_factor"]), (&json!(2), &json!(0.25)));
        assert_eq!((&node["clock_skew_us"], &node["match_index"]), (&json!(-4), &json!(null)));
    }
}

//! What two nodes must agree on before they exchange anything else.

use codec::peer::{Hello, Lane};
use thiserror::Error;

/// Of this release's frames and messages. A node takes any version from
/// [`PROTOCOL_VERSION_MIN`] on: the newer of two releases decides whether it speaks the older's.
pub const PROTOCOL_VERSION: u32 = 1;
pub const PROTOCOL_VERSION_MIN: u32 = 1;

/// Why a stream was closed at its start.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Refused {
    #[error("node {node_id} belongs to cluster {theirs:016x}, this node to {ours:016x}: check the addresses in --cluster")]
    ForeignCluster { node_id: String, theirs: u64, ours: u64 },
    #[error("node {node_id} speaks protocol version {theirs}, older than {PROTOCOL_VERSION_MIN}: upgrade it")]
    TooOld { node_id: String, theirs: u32 },
    #[error("expected node {expected} at this address, found {found}: check the addresses in --cluster")]
    WrongNode { expected: String, found: String },
    #[error("the address leads to this node itself: check the addresses in --cluster")]
    Itself,
    #[error("another process calls itself {node_id} too (raft id {raft_id:016x}): node ids are unique in a cluster")]
    SameName { node_id: String, raft_id: u64 },
    #[error("raft id {raft_id:016x} was removed from the cluster")]
    Removed { raft_id: u64 },
    #[error("node {node_id} sent a Hello with {what}")]
    Malformed { node_id: String, what: &'static str },
    #[error("expected Hello as the first message")]
    NoHello,
}

/// Checks what a peer says of itself. `expected` is the node that was dialed. Clusters are compared
/// only when both nodes belong to one: the driver decides about empty nodes.
///
/// # Errors
/// [`Refused`], for the stream to be closed and the reason to be shown.
pub fn check(ours: &Hello, theirs: &Hello, expected: Option<&str>) -> Result<Lane, Refused> {
    let node_id = || theirs.node_id.clone();
    let malformed = |what| Err(Refused::Malformed { node_id: node_id(), what });
    let Some(lane) = u8::try_from(theirs.lane).ok().and_then(Lane::from_u8) else { return malformed("an unknown lane") };
    if theirs.node_id.is_empty() || theirs.node_id.len() > 255 {
        return malformed("a node id that is empty or too long");
    }
    if theirs.raft_id == 0 {
        return malformed("raft id 0");
    }
    if theirs.protocol_version < PROTOCOL_VERSION_MIN {
        return Err(Refused::TooOld { node_id: node_id(), theirs: theirs.protocol_version });
    }
    if theirs.raft_id == ours.raft_id {
        return Err(Refused::Itself);
    }
    if theirs.cluster_id != 0 && ours.cluster_id != 0 && theirs.cluster_id != ours.cluster_id {
        return Err(Refused::ForeignCluster { node_id: node_id(), theirs: theirs.cluster_id, ours: ours.cluster_id });
    }
    if let Some(expected) = expected.filter(|e| *e != theirs.node_id) {
        return Err(Refused::WrongNode { expected: expected.to_owned(), found: node_id() });
    }
    if theirs.node_id == ours.node_id {
        return Err(Refused::SameName { node_id: node_id(), raft_id: theirs.raft_id });
    }
    Ok(lane)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello(node_id: &str, raft_id: u64, cluster_id: u64) -> Hello {
        Hello { node_id: node_id.to_owned(), raft_id, cluster_id, protocol_version: PROTOCOL_VERSION, ..Default::default() }
    }

    #[test]
    fn takes_members_and_empty_nodes() {
        let ours = hello("a", 1, 7);
        assert_eq!(check(&ours, &hello("b", 2, 7), Some("b")), Ok(Lane::Control));
        assert_eq!(check(&ours, &hello("b", 2, 0), None), Ok(Lane::Control));
        assert_eq!(check(&hello("a", 1, 0), &hello("b", 2, 7), None), Ok(Lane::Control));
        let later = Hello { protocol_version: PROTOCOL_VERSION + 5, lane: 3, ..hello("b", 2, 7) };
        assert_eq!(check(&ours, &later, None), Ok(Lane::Snapshot));
    }

    #[test]
    fn refuses_with_the_reason() {
        let ours = hello("a", 1, 7);
        let cases = [
            (hello("b", 2, 8), "belongs to cluster"),
            (hello("c", 2, 7), "expected node b"),
            (hello("b", 1, 7), "itself"),
            (Hello { protocol_version: 0, ..hello("b", 2, 7) }, "older than"),
            (Hello { lane: 9, ..hello("b", 2, 7) }, "unknown lane"),
            (hello("b", 0, 7), "raft id 0"),
            (hello("", 2, 7), "node id"),
        ];
        for (theirs, words) in cases {
            let text = check(&ours, &theirs, Some("b")).unwrap_err().to_string();
            assert!(text.contains(words), "{text}");
        }
        assert!(matches!(check(&ours, &hello("a", 2, 7), None), Err(Refused::SameName { .. })));
    }
}

//! Where messages from peers go, and who hears that a peer came or went.

use codec::peer::PeerBody;
use crossbeam_channel::{Sender, TrySendError};
use node::Event;
use transport::{NetEvent, Sink};

use crate::raft_thread::ToRaft;
use crate::snapshot_out::SnapshotNews;

/// Sorts what the net thread hears. Files of snapshots never pass through the raft thread.
pub(crate) struct Router {
    /// Bounded: a full one blocks the net thread, and so pushes back to the peers. The raft thread
    /// never waits for the net thread.
    pub raft: Sender<Event>,
    /// Never full.
    pub raft_inner: Sender<ToRaft>,
    pub snapshots_in: Sender<(u64, PeerBody)>,
    pub snapshots_out: Sender<SnapshotNews>,
}

impl Sink for Router {
    fn deliver(&mut self, event: NetEvent) -> Option<NetEvent> {
        // A receiver that has ended listens no longer: then the node is stopping.
        match event {
            NetEvent::PeerUp { hello } => drop(self.raft_inner.send(ToRaft::event(Event::PeerUp { hello }))),
            NetEvent::PeerDown { raft_id } => {
                drop(self.snapshots_out.send(SnapshotNews::Broken { to: raft_id }));
                drop(self.raft_inner.send(ToRaft::event(Event::PeerDown { raft_id })));
            }
            NetEvent::SnapshotLaneDown { raft_id } => drop(self.snapshots_out.send(SnapshotNews::Broken { to: raft_id })),
            NetEvent::Failed { node_id, address, reason } => {
                eprintln!("taskquorum: node {node_id} at {address}: {reason}");
            }
            NetEvent::Received { from, lane, body } => match body {
                PeerBody::SnapshotOffer(_) | PeerBody::SnapshotChunk(_) => match self.snapshots_in.try_send((from, body)) {
                    Err(TrySendError::Full((from, body))) => return Some(NetEvent::Received { from, lane, body }),
                    _ => return None,
                },
                PeerBody::SnapshotAnswer(answer) => drop(self.snapshots_out.send(SnapshotNews::Answer { from, answer })),
                PeerBody::SnapshotResume(resume) => drop(self.snapshots_out.send(SnapshotNews::Resume { from, resume })),
                body => drop(self.raft.send(Event::Received { from, body })),
            },
        }
        None
    }
}

//! What the driver asks for, carried out: each effect goes to the thread, stream or caller that it is for.
//!
//! Only what must be durable or loaded before the next effect is waited for.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use codec::log::Identity;
use codec::peer::{Lane, PeerBody, SnapshotAnswer};
use crossbeam_channel::bounded;
use node::{ApplyInput, Effect, ProposalEnd, Token};
use transport::{PeerAddress, SendError};

use super::{APPENDS_MAX, Next, RaftThread, ToRaft};
use crate::apply_thread::ApplyRequest;
use crate::backup::seed_base;
use crate::disk_thread::{DiskRequest, Fetch};
use crate::log_writer::LogRequest;
use crate::ring::Notice;
use crate::snapshot_out::SnapshotNews;

impl RaftThread {
    /// A thread behind a closed channel has failed and said why: its `Halt` is on the way.
    pub(super) fn execute(&mut self, effect: Effect) -> Next {
        match effect {
            Effect::Persist { number, entries, hard_state } => {
                if self.work.leads
                    && let Some(last) = entries.last()
                    && self.work.appends.len() < APPENDS_MAX
                {
                    self.work.appends.push_back((last.index, Instant::now()));
                }
                let _ = self.log.send(LogRequest::Persist { number, entries, hard_state });
            }
            Effect::Truncate { base_index } => drop(self.log.send(LogRequest::Truncate { base_index })),
            Effect::FetchEntries { fetch, low, high, bytes_max } => {
                let _ = self.reader.send(Fetch { fetch, low, high, bytes_max });
            }
            Effect::Send { to, lane, body } => self.send(to, lane, body),
            Effect::Apply(input) => {
                self.note_commit(&input);
                let _ = self.apply.send(ApplyRequest::Input(input));
            }
            Effect::CompleteProposal { token, end, outcomes } => self.complete_group(token, end, outcomes),
            Effect::CompleteRead { token, readable } => {
                if let Some(since) = self.work.reads.remove(&token) {
                    self.metrics.read_index_us.record(since.elapsed().as_micros() as u64);
                }
                self.work.notices.push(Notice::Readable { token, readable });
            }
            Effect::CompleteBeats(answers) => self.work.notices.extend(answers.into_iter().map(|a| Notice::Beaten {
                token: a.token,
                lease_ms: a.lease_ms,
                heartbeat_ms: a.heartbeat_ms,
                stale: a.stale,
                unknown: a.unknown,
            })),
            Effect::CompleteTask { token, done, detail } => {
                // What was asked for may show in the view: whoever is told looks there.
                self.work.view_due = true;
                self.work.notices.push(Notice::Done { token, done, detail });
            }
            Effect::LeaderChanged { leader, node_id, term, is_self } => {
                failpoint::point!("runtime::raft_thread::leader_changed");
                (self.work.leads, self.work.view_due) = (is_self, true);
                if leader == 0 {
                    self.work.leaderless.get_or_insert_with(Instant::now);
                } else if let Some(since) = self.work.leaderless.take() {
                    self.metrics.recovery_us.record(since.elapsed().as_micros() as u64);
                }
                self.work.appends.clear();
                self.ring.leader(node_id, term, is_self);
            }
            Effect::AgentLoads(loads) => self.feed.loads(&loads),
            Effect::Bootstrap(identity) => return self.bootstrap(identity),
            Effect::SaveIdentity(identity) => return self.save_identity(identity),
            Effect::MakeSnapshot => drop(self.disk.send(DiskRequest::Checkpoint)),
            Effect::SendSnapshot { to, raft_message } => {
                let _ = self.snapshots_out.send(SnapshotNews::Send { to, raft_message });
            }
            Effect::InstallSnapshot { number, base, hard_state } => {
                let (done, logged) = bounded(1);
                let (state_dir, index) = (base.state_dir.clone(), base.index);
                if state_dir.is_empty() {
                    return Next::Halt("a snapshot is to be installed that was never received".to_owned());
                }
                let _ = self.log.send(LogRequest::Install { number, base, hard_state, done });
                let _ = self.apply.send(ApplyRequest::Install { state_dir, index, logged });
            }
            Effect::DropSnapshot { state_dir } => drop(self.disk.send(DiskRequest::Remove { state_dir })),
            Effect::Flush => drop(self.disk.send(DiskRequest::Flush)),
            Effect::AnswerSnapshot { to, transfer, index, installed, reason } => {
                self.send(to, Lane::Control, PeerBody::SnapshotAnswer(SnapshotAnswer { transfer, index, installed, reason }));
            }
            Effect::DialPeers(peers) => {
                self.net.set_peers(peers.into_iter().map(|(node_id, address)| PeerAddress { node_id, address }).collect());
            }
            Effect::RefusePeer { raft_id } => self.net.refuse(raft_id),
            Effect::Fence { reason } => return self.fence(reason),
            Effect::Retire { reason } => return self.retire(reason),
            Effect::Removed { reason } => {
                self.work.removed = true;
                return Next::Halt(reason);
            }
            Effect::Halt { reason } => return Next::Halt(reason),
            Effect::StopReady => return Next::Ready,
        }
        Next::Go
    }

    /// Durable before the next effect: a restart must not serve this state either.
    fn fence(&mut self, reason: String) -> Next {
        let name = self.state.name();
        eprintln!(
            "taskquorum: this node has fenced itself: {reason}; its files in {name} are kept, and it takes the others' state"
        );
        self.work.view_due = true;
        match self.directory.mark_state(&name, &reason) {
            Ok(()) => Next::Go,
            Err(error) => Next::Halt(format!("the damaged state cannot be marked: {error}")),
        }
    }

    /// The next start goes on under a new identity.
    fn retire(&mut self, reason: String) -> Next {
        let noted = getrandom::u64()
            .map_err(|e| e.to_string())
            .and_then(|id| self.directory.retire(&self.driver.identity().node_id, id.max(1), &reason).map_err(|e| e.to_string()));
        match noted {
            Ok(()) => {
                Next::Halt(format!("{reason}. Start it again: it keeps these files aside and comes back under a new identity"))
            }
            Err(error) => Next::Halt(format!("{reason}. That it must not vote again could not be noted: {error}")),
        }
    }

    /// Synced, written and loaded before the next effect: a vote may follow.
    fn bootstrap(&mut self, identity: Identity) -> Next {
        let cluster_id = identity.cluster_id;
        let Some(bootstrap) = identity.bootstrap.clone() else {
            return Next::Halt("a cluster without a first configuration".to_owned());
        };
        failpoint::point!("runtime::raft_thread::bootstrap_before");
        let (done, saved) = bounded(1);
        let _ = self.log.send(LogRequest::SaveIdentity { identity: Box::new(identity), done });
        if saved.recv().is_err() {
            return self.reason_to_halt();
        }
        failpoint::point!("runtime::raft_thread::bootstrap_saved");
        let (done, written) = bounded(1);
        let _ = self.apply.send(ApplyRequest::Bootstrap { bootstrap: Box::new(bootstrap), done });
        let Ok(seeded) = written.recv() else { return self.reason_to_halt() };
        if let Some(state_dir) = seeded {
            // Entries follow behind it in both queues.
            let (base, hard_state) = seed_base(state_dir.clone());
            let (index, (done, logged)) = (base.index, bounded(1));
            let _ = self.log.send(LogRequest::Install { number: 0, base, hard_state, done });
            let _ = self.apply.send(ApplyRequest::Install { state_dir, index, logged });
        }
        failpoint::point!("runtime::raft_thread::bootstrap_after");
        self.net.set_cluster(cluster_id);
        self.work.view_due = true;
        Next::Go
    }

    /// An observer has met its cluster.
    fn save_identity(&mut self, identity: Identity) -> Next {
        let cluster_id = identity.cluster_id;
        let (done, saved) = bounded(1);
        let _ = self.log.send(LogRequest::SaveIdentity { identity: Box::new(identity), done });
        if saved.recv().is_err() {
            return self.reason_to_halt();
        }
        self.net.set_cluster(cluster_id);
        self.work.view_due = true;
        Next::Go
    }

    fn reason_to_halt(&self) -> Next {
        let reasons = self.inner.try_iter().filter_map(|m| if let ToRaft::Halt(reason) = m { Some(reason) } else { None });
        Next::Halt(reasons.last().unwrap_or_else(|| "the node cannot enter its cluster".to_owned()))
    }

    fn send(&mut self, to: u64, lane: Lane, body: PeerBody) {
        if lane == Lane::Forward && self.work.deferred.contains_key(&to) {
            return self.defer(to, body);
        }
        if lane == Lane::Forward {
            failpoint::point!("runtime::raft_thread::forward");
        }
        match self.net.send(to, lane, body) {
            Ok(()) => {}
            // Commands keep their order and wait for room; proposals_max bounds them.
            Err(SendError::Full(body)) if lane == Lane::Forward => self.defer(to, *body),
            // Raft, reads, beats and reports are sent again or time out.
            Err(_) => drop(self.metrics.raft_dropped.fetch_add(1, Relaxed)),
        }
    }

    fn defer(&mut self, to: u64, body: PeerBody) {
        self.work.deferred.entry(to).or_default().push_back(body);
    }

    pub(super) fn send_deferred(&mut self) {
        let mut deferred = std::mem::take(&mut self.work.deferred);
        deferred.retain(|to, bodies| {
            while let Some(body) = bodies.pop_front() {
                match self.net.send(*to, Lane::Forward, body) {
                    Ok(()) => {}
                    Err(SendError::Full(body)) => {
                        bodies.push_front(*body);
                        return true;
                    }
                    Err(_) => return false,
                }
            }
            false
        });
        self.work.deferred = deferred;
    }

    fn note_commit(&mut self, input: &ApplyInput) {
        let ApplyInput::Entries { entries, .. } = input else { return };
        let Some((first, last)) = entries.first().zip(entries.last()) else { return };
        if self.work.leads {
            self.trace.record("commit", &self.node_id, first.index, last.index);
        }
        while let Some((_, since)) = self.work.appends.front().filter(|(index, _)| *index <= last.index) {
            self.metrics.commit_us.record(since.elapsed().as_micros() as u64);
            self.work.appends.pop_front();
        }
    }

    fn complete_group(&mut self, token: Token, end: ProposalEnd, outcomes: Vec<codec::Outcome>) {
        if let Some(waiting) = self.work.groups.remove(&token) {
            self.metrics.proposal_us.record(waiting.since.elapsed().as_micros() as u64);
            self.shared.pending.fetch_sub(waiting.commands, Relaxed);
            self.shared.pending_bytes.fetch_sub(waiting.bytes, Relaxed);
        }
        if end == ProposalEnd::OutcomeUnknown {
            self.metrics.proposals_unknown.fetch_add(1, Relaxed);
        }
        let revision = self.shared.revision.load(Relaxed);
        self.work.notices.push(Notice::Proposed { token, end, revision, outcomes });
    }
}

//! [`Follow`]: the side of a child. Whom it follows, whether it hears it, and where it goes instead.
//!
//! What always holds: entries are taken in order and without a gap, from the one subscription that
//! stands; a placement never goes back to an older (term, version); a parent that is silent, that
//! refuses, or whose branch has lost its voter is left, and is not tried again for a while.

use std::collections::BTreeMap;

use codec::log::LogEntry;
use codec::peer::{Lane, PeerBody};
use codec::tail::{Placement, TailAck, TailBatch, TailEnd, TailReason, TailSubscribe};

use crate::event::Micros;
use crate::tree::candidates;

/// A parent that says nothing for this long is left.
pub const SILENCE_US: Micros = 1_000_000;
/// A parent that is there, but whose branch has lost its voter, gets so long to find another one: its
/// children need not all move with it.
const STALLED_US: Micros = 2_500_000;
/// A parent that fell silent is not tried again for this long, unless nobody else is there; one that
/// had no room, or was not ready, for the shorter time.
const AVOID_US: Micros = 5_000_000;
const FULL_US: Micros = 1_000_000;
/// While nobody takes this node it asks the next one after this pause.
const RETRY_US: Micros = 100_000;
/// Says what it has applied after so much time, or so many entries.
const ACK_US: Micros = 250_000;
const ACK_BYTES: usize = 512 << 10;
/// A child that was taken only to catch up goes to its own parent when it is this close.
const CAUGHT_UP_ENTRIES: u64 = 64;

/// Where the node stands: what it has applied and its state hash there.
#[derive(Clone, Copy, Debug, Default)]
pub struct Position {
    pub index: u64,
    pub term: u64,
    pub hash: [u8; 16],
}

#[derive(Clone, Debug)]
struct Parent {
    raft_id: u64,
    subscription: u64,
    /// When it said something, and when its pulse moved last; at first when it was asked.
    heard_us: Micros,
    pulse_us: Micros,
    /// It has answered with a batch.
    taken: bool,
}

/// What a batch brought.
#[derive(Debug, Default, PartialEq)]
pub struct Taken {
    pub entries: Vec<LogEntry>,
    pub leader_changed: bool,
}

#[derive(Debug, Default)]
pub struct Follow {
    own: u64,
    parent: Option<Parent>,
    next_subscription: u64,
    ask_at_us: Micros,
    avoid: BTreeMap<u64, Micros>,
    placement: Option<Placement>,
    /// The parent that the placement gives this node; 0 for none.
    home: u64,
    root: u64,
    pulse: u64,
    pub depth: u32,
    pub leader: u64,
    pub term: u64,
    pub commit_index: u64,
    /// The last entry that was taken in.
    received: u64,
    acked: u64,
    acked_us: Micros,
    unacked_bytes: usize,
    /// The parent's (index, hash), to be compared once that much is applied.
    check: Option<(u64, Vec<u8>)>,
    /// The state must be replaced: it differs from a voter's, or there is none.
    needs_snapshot: bool,
    /// A parent could not help: only voters are asked until this node has caught up.
    behind: bool,
    sends: Vec<(u64, Lane, PeerBody)>,
}

impl Follow {
    /// `first_subscription` keeps subscriptions of different processes apart.
    pub fn new(own: u64, position: Position, first_subscription: u64) -> Self {
        Self {
            own,
            received: position.index,
            acked: position.index,
            next_subscription: first_subscription,
            needs_snapshot: position.index == 0,
            ..Self::default()
        }
    }

    /// Raft id of the parent that feeds this node; 0 for none.
    pub fn parent(&self) -> u64 {
        self.parent.as_ref().filter(|p| p.taken).map_or(0, |p| p.raft_id)
    }

    /// Whom it follows or asks at the moment.
    pub fn asked(&self) -> Option<u64> {
        self.parent.as_ref().map(|p| p.raft_id)
    }

    pub fn placement(&self) -> Option<&Placement> {
        self.placement.as_ref()
    }

    /// The voter at the root of this branch and its pulse: what children are told.
    pub fn pulse(&self) -> (u64, u64) {
        (self.root, self.pulse)
    }

    /// Whether the cluster was heard lately through the parent.
    pub fn hears(&self, now_us: Micros) -> bool {
        self.parent.as_ref().is_some_and(|p| p.taken && now_us < p.pulse_us + SILENCE_US)
    }

    pub fn received(&self) -> u64 {
        self.received
    }

    pub fn needs_snapshot(&self) -> bool {
        self.needs_snapshot
    }

    // ---- inputs ----------------------------------------------------------------------------

    /// Takes a newer placement; false for one that is not.
    pub fn placed(&mut self, placement: &Placement) -> bool {
        let newer = |p: &Placement| (placement.term, placement.version) > (p.term, p.version);
        if !self.placement.as_ref().is_none_or(newer) {
            return false;
        }
        self.home = placement.observers.iter().find(|s| s.raft_id == self.own).map_or(0, |s| s.parent);
        self.placement = Some(placement.clone());
        true
    }

    /// A batch of the parent; the entries are new and in order.
    pub fn batch(&mut self, from: u64, batch: TailBatch, now_us: Micros) -> Taken {
        let mut taken = Taken::default();
        let Some(parent) = self.parent.as_mut().filter(|p| p.raft_id == from && p.subscription == batch.subscription) else {
            return taken;
        };
        let before = std::mem::replace(&mut parent.taken, true);
        parent.heard_us = now_us;
        if batch.leader != 0 && (batch.root != self.root || batch.pulse > self.pulse || !before) {
            (self.root, self.pulse) = (batch.root, batch.pulse);
            parent.pulse_us = now_us;
        }
        self.depth = batch.depth + 1;
        self.commit_index = self.commit_index.max(batch.commit_index);
        if batch.leader != 0 && batch.term >= self.term && (batch.leader, batch.term) != (self.leader, self.term) {
            (self.leader, self.term) = (batch.leader, batch.term);
            taken.leader_changed = true;
        }
        if batch.hash_index > 0 {
            self.check = Some((batch.hash_index, batch.hash));
        }
        for entry in batch.entries {
            if entry.index <= self.received {
                continue;
            }
            let expected = self.received + 1;
            match entry.into_entry() {
                Ok(entry) if entry.index == expected => {
                    self.received = expected;
                    self.unacked_bytes += entry.data.len();
                    taken.entries.push(entry);
                }
                // A gap, or a kind that is unknown here: this subscription is of no more use.
                _ => {
                    self.leave(now_us, None);
                    break;
                }
            }
        }
        taken
    }

    /// The parent ended the subscription, or did not take it.
    pub fn ended(&mut self, from: u64, end: &TailEnd, now_us: Micros) {
        let Some(parent) = self.parent.as_ref().filter(|p| p.raft_id == from && p.subscription == end.subscription) else {
            return;
        };
        let by_voter = self.depth <= 1 && parent.taken || self.is_root(from);
        match TailReason::try_from(end.reason) {
            // One that is itself an observer may be the one that differs: a voter decides.
            Ok(TailReason::Diverged) if by_voter => self.needs_snapshot = true,
            Ok(TailReason::Diverged | TailReason::Behind) => self.behind = true,
            _ => {}
        }
        self.leave(now_us, Some(FULL_US));
        self.ask_at_us = now_us + if self.needs_snapshot { 0 } else { RETRY_US };
    }

    /// The parent's streams are down.
    pub fn down(&mut self, raft_id: u64, now_us: Micros) {
        // It may be back at once (a restart of its process): silence decides, not this.
        if let Some(parent) = self.parent.as_mut().filter(|p| p.raft_id == raft_id)
            && parent.taken
        {
            parent.heard_us = parent.heard_us.min(now_us.saturating_sub(SILENCE_US / 2));
        }
    }

    /// Streams to a node are up: if it is the one to follow, it is asked (again).
    pub fn up(&mut self, raft_id: u64, position: Position, now_us: Micros) {
        if self.parent.as_ref().is_some_and(|p| p.raft_id == raft_id) {
            self.subscribe(raft_id, position, now_us);
        }
    }

    /// The state was replaced by a snapshot: it goes on behind it.
    pub fn installed(&mut self, position: Position, now_us: Micros) {
        self.received = position.index;
        self.acked = position.index;
        self.unacked_bytes = 0;
        self.needs_snapshot = false;
        self.check = None;
        if let Some(parent) = self.parent.clone() {
            self.subscribe(parent.raft_id, position, now_us);
        }
    }

    /// Compares with what the parent said of its state. False: they differ at an equal index.
    pub fn compare(&mut self, applied: u64, hash_at: impl Fn(u64) -> Option<[u8; 16]>) -> bool {
        let Some((index, hash)) = self.check.take_if(|(index, _)| *index <= applied) else { return true };
        hash_at(index).is_none_or(|own| own.as_slice() == hash.as_slice())
    }

    /// This node's state differs from its parent's.
    pub fn diverged(&mut self, now_us: Micros) {
        match self.depth <= 1 {
            true => self.needs_snapshot = true,
            false => self.behind = true,
        }
        self.leave(now_us, None);
        self.ask_at_us = now_us;
    }

    // ---- what follows ------------------------------------------------------------------------

    /// Whether the next tick looks for a parent.
    pub fn searches(&self, now_us: Micros) -> bool {
        let silent = |p: &Parent| now_us >= (p.heard_us + SILENCE_US).min(p.pulse_us + STALLED_US);
        self.parent.as_ref().is_none_or(silent)
    }

    /// Leaves a silent parent, asks the next one, and says what was applied. `roots` are the voters; they
    /// may be missing while this node does not [`Follow::searches`].
    pub fn tick(&mut self, position: Position, roots: &[u64], now_us: Micros) {
        if self.parent.is_some() && self.searches(now_us) {
            self.leave(now_us, Some(AVOID_US));
            self.ask_at_us = now_us;
        }
        self.go_home(position, now_us);
        if self.parent.is_none()
            && now_us >= self.ask_at_us
            && let Some(next) = self.next(roots, now_us)
        {
            self.subscribe(next, position, now_us);
        }
        self.acknowledge(position, now_us);
    }

    /// Goes to the parent that the leader gave it, if that is another one and it was not left lately.
    fn go_home(&mut self, position: Position, now_us: Micros) {
        let Some(parent) = self.parent.as_ref().filter(|p| p.taken) else { return };
        if self.behind && position.index + CAUGHT_UP_ENTRIES >= self.commit_index && self.commit_index > 0 {
            self.behind = false;
        }
        if self.home == 0 || self.home == parent.raft_id {
            return;
        }
        let home = self.home;
        if self.behind || self.needs_snapshot || self.avoid.get(&home).is_some_and(|until| now_us < *until) {
            return;
        }
        self.leave(now_us, None);
        self.subscribe(home, position, now_us);
    }

    fn candidates(&self, roots: &[u64]) -> Vec<u64> {
        candidates(self.own, self.placement.as_ref(), roots)
    }

    /// Voters, as the placement or the member rows name them.
    fn is_root(&self, raft_id: u64) -> bool {
        self.placement.as_ref().is_none_or(|p| p.observers.iter().all(|s| s.raft_id != raft_id))
    }

    fn next(&mut self, roots: &[u64], now_us: Micros) -> Option<u64> {
        self.avoid.retain(|_, until| now_us < *until);
        let mut order = self.candidates(roots);
        if self.behind || self.needs_snapshot {
            order.retain(|id| roots.contains(id));
        }
        let fresh = order.iter().copied().find(|id| !self.avoid.contains_key(id));
        // Everybody refused: the one whose refusal is oldest.
        fresh.or_else(|| order.into_iter().min_by_key(|id| self.avoid.get(id).copied().unwrap_or(0)))
    }

    fn subscribe(&mut self, to: u64, position: Position, now_us: Micros) {
        let catch_up = self.behind || self.needs_snapshot;
        let subscription = self.next_subscription;
        self.next_subscription += 1;
        self.parent = Some(Parent { raft_id: to, subscription, heard_us: now_us, pulse_us: now_us, taken: false });
        self.check = None;
        let asked = TailSubscribe {
            subscription,
            index: position.index,
            term: position.term,
            hash: position.hash.to_vec(),
            snapshot: self.needs_snapshot,
            catch_up,
        };
        // What was taken in and is not applied yet comes again and is passed over.
        self.sends.push((to, Lane::Control, PeerBody::TailSubscribe(asked)));
    }

    fn leave(&mut self, now_us: Micros, avoid_us: Option<Micros>) {
        let Some(parent) = self.parent.take() else { return };
        let left = TailEnd { subscription: parent.subscription, reason: TailReason::Left as i32 };
        self.sends.push((parent.raft_id, Lane::Control, PeerBody::TailEnd(left)));
        if let Some(avoid_us) = avoid_us {
            self.avoid.insert(parent.raft_id, now_us + avoid_us);
        }
    }

    /// Says good-bye before this node stops.
    pub fn stop(&mut self, now_us: Micros) {
        self.leave(now_us, None);
        self.ask_at_us = Micros::MAX;
    }

    fn acknowledge(&mut self, position: Position, now_us: Micros) {
        let Some(parent) = self.parent.as_ref().filter(|p| p.taken) else { return };
        let due = now_us >= self.acked_us + ACK_US || self.unacked_bytes >= ACK_BYTES;
        if position.index > self.acked && due {
            (self.acked, self.acked_us, self.unacked_bytes) = (position.index, now_us, 0);
            let ack = TailAck { subscription: parent.subscription, index: position.index };
            self.sends.push((parent.raft_id, Lane::Control, PeerBody::TailAck(ack)));
        }
    }

    pub fn take_sends(&mut self) -> Vec<(u64, Lane, PeerBody)> {
        std::mem::take(&mut self.sends)
    }
}

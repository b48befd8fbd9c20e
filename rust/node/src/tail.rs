//! [`Tail`]: the side of a parent, on voters and observers alike. It feeds children the committed log.
//!
//! What always holds:
//! * a child gets every committed entry behind its position, in order and without a gap;
//! * at most [`FLIGHT_BYTES_MAX`] are on their way to a child that has not said that it applied them;
//! * at most [`CHILDREN_MAX`] children are there for good, and [`CATCH_UP_MAX`] more to catch up;
//! * a child whose state differs from this node's at an equal index is told so and gets nothing;
//! * the window in memory is bounded by count and bytes. What is older comes from the log where there
//!   is one; behind that a voter sends a snapshot, and an observer says that it cannot help.

use std::collections::{BTreeMap, VecDeque};

use codec::log::LogEntry;
use codec::peer::{Lane, PeerBody};
use codec::tail::{ObserverReport, TailAck, TailBatch, TailEnd, TailEntry, TailReason, TailSubscribe};

use crate::event::Micros;
use crate::tree::CHILDREN_MAX;

/// Children beside those that are there for good, until they have caught up.
pub const CATCH_UP_MAX: usize = 4;
/// Committed entries kept in memory, and their bytes.
const WINDOW_ENTRIES_MAX: usize = 8_192;
const WINDOW_BYTES_MAX: usize = 8 << 20;
/// Entries on their way to one child.
pub const FLIGHT_BYTES_MAX: usize = 4 << 20;
/// Entries of one batch.
const BATCH_BYTES_MAX: usize = 512 << 10;
/// A child of a voter with nothing but a few entries to get waits this long after the batch before: what a batch costs its
/// members is then shared by more commands.
const PACE_US: Micros = 28_000;
/// A child of an observer waits only so long: what comes down the tree is paced already, and a wait at each level would add up.
const RELAY_PACE_US: Micros = 1_000;
/// Without entries a child hears from its parent this often: four times before it counts as silence.
const HEARTBEAT_US: Micros = 250_000;
/// A child that says nothing for this long has gone.
const CHILD_SILENT_US: Micros = 5_000_000;
/// A snapshot that did not arrive is sent again after this pause.
const SNAPSHOT_RETRY_US: Micros = 1_000_000;
/// Fetches of the tail have numbers of their own, so that they are not taken for Raft's.
pub const FETCH_BIT: u64 = 1 << 63;
/// Observers below one node whose reports are kept: as many as a cluster takes.
const REPORTS_MAX: usize = 1_024;
/// What an entry costs beside its data.
const ENTRY_OVERHEAD_BYTES: usize = 64;

/// What the parent knows and its children are told.
#[derive(Clone, Debug, Default)]
pub struct Source {
    /// 0 while the node follows nobody: children then hear nothing that counts.
    pub leader: u64,
    pub term: u64,
    pub root: u64,
    pub pulse: u64,
    pub depth: u32,
    pub commit_index: u64,
    pub applied_index: u64,
    pub hash: [u8; 16],
    /// Base of the log; `None` on an observer, which has none.
    pub base_index: Option<u64>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum TailEffect {
    Send {
        to: u64,
        lane: Lane,
        body: PeerBody,
    },
    /// Load entries `[low, high)`; the answer is [`Tail::fetched`].
    Fetch {
        fetch: u64,
        low: u64,
        high: u64,
        bytes_max: u64,
    },
    /// Make a checkpoint; the answer is [`Tail::snapshot_made`] or `snapshot_failed`.
    MakeSnapshot,
    /// Send the checkpoint at this index; the answer is [`Tail::snapshot_sent`].
    SendSnapshot {
        to: u64,
        index: u64,
        term: u64,
    },
}

#[derive(Debug, PartialEq)]
enum Feeding {
    Entries,
    /// Since when (0: at once) it may be sent; `None` while it is being sent.
    Snapshot {
        retry_us: Option<Micros>,
    },
}

#[derive(Debug)]
struct Child {
    subscription: u64,
    next: u64,
    flight: VecDeque<(u64, usize)>,
    flight_bytes: usize,
    sent_us: Micros,
    heard_us: Micros,
    catch_up: bool,
    feeding: Feeding,
    fetch: Option<u64>,
    /// The child's position, to be compared once this node has applied so much.
    check: Option<(u64, Vec<u8>)>,
}

#[derive(Debug)]
pub struct Tail {
    window: VecDeque<LogEntry>,
    window_bytes: usize,
    children: BTreeMap<u64, Child>,
    reports: BTreeMap<u64, (ObserverReport, Micros)>,
    next_fetch: u64,
    /// (index, term) of the newest checkpoint, and whether one is being made.
    snapshot: Option<(u64, u64)>,
    making: bool,
    /// The highest index that children can have from here, as of the last serve.
    last: u64,
    pace_us: Micros,
    effects: Vec<TailEffect>,
}

fn size(entry: &LogEntry) -> usize {
    entry.data.len() + ENTRY_OVERHEAD_BYTES
}

impl Default for Tail {
    /// The tail of a voter: of a root of the tree.
    fn default() -> Self {
        Self::paced(PACE_US)
    }
}

impl Tail {
    /// The tail of an observer, which passes on what it is fed.
    pub fn of_observer() -> Self {
        Self::paced(RELAY_PACE_US)
    }

    fn paced(pace_us: Micros) -> Self {
        Self {
            window: VecDeque::new(),
            window_bytes: 0,
            children: BTreeMap::new(),
            reports: BTreeMap::new(),
            next_fetch: 0,
            snapshot: None,
            making: false,
            last: 0,
            pace_us,
            effects: Vec::new(),
        }
    }

    pub fn children(&self) -> impl Iterator<Item = u64> + '_ {
        self.children.keys().copied()
    }

    /// Entries were committed: they follow those of before, or a snapshot came between.
    pub fn committed(&mut self, entries: &[LogEntry]) {
        let Some(first) = entries.first() else { return };
        if self.window.back().is_some_and(|last| last.index + 1 != first.index) {
            self.forget_window();
        }
        for entry in entries {
            self.window_bytes += size(entry);
            self.window.push_back(entry.clone());
        }
        while self.window.len() > WINDOW_ENTRIES_MAX || (self.window_bytes > WINDOW_BYTES_MAX && self.window.len() > 1) {
            let Some(oldest) = self.window.pop_front() else { break };
            self.window_bytes -= size(&oldest);
        }
    }

    /// A snapshot was installed: the entries kept are not those before the next ones.
    pub fn forget_window(&mut self) {
        self.window.clear();
        self.window_bytes = 0;
    }

    fn term_at(&self, index: u64) -> Option<u64> {
        let first = self.window.front()?.index;
        self.window.get(usize::try_from(index.checked_sub(first)?).ok()?).map(|e| e.term)
    }

    // ---- what children say -----------------------------------------------------------------

    pub fn subscribe(&mut self, from: u64, asked: TailSubscribe, source: &Source, now_us: Micros) {
        if let Some(reason) = self.refusal(from, &asked, source) {
            self.effects.push(end_of(from, asked.subscription, reason));
            return;
        }
        let snapshot = asked.snapshot || asked.index == 0;
        let feeding = if snapshot { Feeding::Snapshot { retry_us: Some(0) } } else { Feeding::Entries };
        let child = Child {
            subscription: asked.subscription,
            next: asked.index + 1,
            flight: VecDeque::new(),
            flight_bytes: 0,
            sent_us: 0,
            heard_us: now_us,
            catch_up: asked.catch_up,
            feeding,
            fetch: None,
            check: (!snapshot).then_some((asked.index, asked.hash)),
        };
        self.children.insert(from, child);
    }

    /// Why a child is not taken, if it is not.
    fn refusal(&self, from: u64, asked: &TailSubscribe, source: &Source) -> Option<TailReason> {
        if source.leader == 0 || (source.base_index.is_none() && source.applied_index == 0) {
            return Some(TailReason::NotReady);
        }
        let others = self.children.iter().filter(|(id, c)| **id != from && c.catch_up == asked.catch_up).count();
        if others >= if asked.catch_up { CATCH_UP_MAX } else { CHILDREN_MAX } {
            return Some(TailReason::Full);
        }
        if self.term_at(asked.index).is_some_and(|term| term != asked.term) && !asked.snapshot {
            return Some(TailReason::Diverged);
        }
        ((asked.snapshot || asked.index == 0) && source.base_index.is_none()).then_some(TailReason::Behind)
    }

    pub fn acknowledged(&mut self, from: u64, ack: &TailAck, now_us: Micros) {
        let Some(child) = self.children.get_mut(&from).filter(|c| c.subscription == ack.subscription) else { return };
        child.heard_us = now_us;
        while let Some((_, bytes)) = child.flight.front().filter(|(last, _)| *last <= ack.index) {
            child.flight_bytes -= bytes;
            child.flight.pop_front();
        }
    }

    /// The child has gone to another parent, or its streams are down.
    pub fn left(&mut self, from: u64, subscription: Option<u64>) {
        if self.children.get(&from).is_some_and(|c| subscription.is_none_or(|s| s == c.subscription)) {
            self.children.remove(&from);
        }
    }

    /// Tells all children to look for another parent.
    pub fn end_all(&mut self, reason: TailReason) {
        for (to, child) in std::mem::take(&mut self.children) {
            self.effects.push(end_of(to, child.subscription, reason));
        }
    }

    pub fn reported(&mut self, from: u64, reports: Vec<ObserverReport>, now_us: Micros) {
        if let Some(child) = self.children.get_mut(&from) {
            child.heard_us = now_us;
        }
        for report in reports {
            let made_us = now_us.saturating_sub(report.age_us);
            let newer = self.reports.get(&report.raft_id).is_none_or(|(_, before)| made_us > *before);
            if newer && (self.reports.len() < REPORTS_MAX || self.reports.contains_key(&report.raft_id)) {
                self.reports.insert(report.raft_id, (report, made_us));
            }
        }
    }

    /// The newest report of each observer below this node, with its age now. Those older than
    /// `age_us_max` are forgotten.
    pub fn reports(&mut self, now_us: Micros, age_us_max: u64) -> Vec<ObserverReport> {
        self.reports.retain(|_, (_, made_us)| now_us < *made_us + age_us_max);
        let aged = |(report, made_us): &(ObserverReport, Micros)| ObserverReport { age_us: now_us - made_us, ..report.clone() };
        self.reports.values().map(aged).collect()
    }

    // ---- answers to effects ------------------------------------------------------------------

    /// The answer to a fetch; without entries the log was cut meanwhile, and a snapshot follows.
    pub fn fetched(&mut self, fetch: u64, entries: Vec<LogEntry>, source: &Source, now_us: Micros) {
        let Some((to, child)) = self.children.iter_mut().find(|(_, c)| c.fetch == Some(fetch)) else { return };
        child.fetch = None;
        if entries.first().is_none_or(|e| e.index != child.next) {
            child.feeding = Feeding::Snapshot { retry_us: Some(0) };
            return;
        }
        let effect = child.batch(*to, source, entries.iter(), now_us);
        self.effects.push(effect);
    }

    pub fn snapshot_made(&mut self, index: u64, term: u64) {
        self.making = false;
        self.snapshot = Some((index, term)).max(self.snapshot);
    }

    /// The checkpoint is gone: the next child that needs one has a new one made.
    pub fn checkpoint_dropped(&mut self, index: u64) {
        self.snapshot.take_if(|(at, _)| *at == index);
    }

    pub fn snapshot_failed(&mut self, now_us: Micros) {
        self.making = false;
        for child in self.children.values_mut() {
            if let Feeding::Snapshot { retry_us: Some(at) } = &mut child.feeding {
                *at = now_us + SNAPSHOT_RETRY_US;
            }
        }
    }

    /// Whether the transfer was to a child. One that has it subscribes anew.
    pub fn snapshot_sent(&mut self, to: u64, installed: bool, now_us: Micros) -> bool {
        let Some(child) = self.children.get_mut(&to) else { return false };
        if !installed && matches!(child.feeding, Feeding::Snapshot { .. }) {
            child.feeding = Feeding::Snapshot { retry_us: Some(now_us + SNAPSHOT_RETRY_US) };
            // The checkpoint may be gone: the next one will do.
            self.snapshot = None;
        }
        true
    }

    // ---- output ------------------------------------------------------------------------------

    /// Feeds every child as far as its window and pace allow. `hash_at` is this node's state hash
    /// after an index, where it is still known.
    pub fn serve(&mut self, source: &Source, hash_at: impl Fn(u64) -> Option<[u8; 16]>, now_us: Micros) -> Vec<TailEffect> {
        // What is applied is in the log, if there is one.
        self.last = self.window.back().map_or(0, |e| e.index).max(source.applied_index);
        let ids: Vec<u64> = self.children.keys().copied().collect();
        for to in ids {
            if let Some(reason) = self.serve_one(to, source, &hash_at, now_us)
                && let Some(child) = self.children.remove(&to)
            {
                self.effects.push(end_of(to, child.subscription, reason));
            }
        }
        std::mem::take(&mut self.effects)
    }

    /// Why the child must go, if it must.
    fn serve_one(
        &mut self,
        to: u64,
        source: &Source,
        hash_at: &impl Fn(u64) -> Option<[u8; 16]>,
        now_us: Micros,
    ) -> Option<TailReason> {
        let child = self.children.get_mut(&to)?;
        if now_us >= child.heard_us + CHILD_SILENT_US {
            return Some(TailReason::Left);
        }
        if let Some((index, hash)) = child.check.take_if(|(index, _)| *index <= source.applied_index)
            && hash_at(index).is_some_and(|own| own.as_slice() != hash.as_slice())
        {
            return Some(TailReason::Diverged);
        }
        if let Feeding::Snapshot { retry_us } = child.feeding {
            self.serve_snapshot(to, retry_us, source, now_us);
        } else if child.next <= self.last {
            let reason = self.serve_entries(to, source, now_us);
            if reason.is_some() {
                return reason;
            }
        }
        let child = self.children.get_mut(&to)?;
        if now_us >= child.sent_us + HEARTBEAT_US {
            let effect = child.batch(to, source, std::iter::empty(), now_us);
            self.effects.push(effect);
        }
        None
    }

    /// Why the child must go, if it must.
    fn serve_entries(&mut self, to: u64, source: &Source, now_us: Micros) -> Option<TailReason> {
        let child = self.children.get_mut(&to)?;
        if child.fetch.is_some() || child.flight_bytes >= FLIGHT_BYTES_MAX {
            return None;
        }
        let first = self.window.front().map_or(self.last + 1, |e| e.index);
        let Some(skip) = child.next.checked_sub(first) else {
            match source.base_index {
                Some(base) if child.next > base => {
                    let fetch = FETCH_BIT | self.next_fetch;
                    self.next_fetch += 1;
                    child.fetch = Some(fetch);
                    let (low, high, bytes_max) = (child.next, first, BATCH_BYTES_MAX as u64);
                    self.effects.push(TailEffect::Fetch { fetch, low, high, bytes_max });
                }
                Some(_) => child.feeding = Feeding::Snapshot { retry_us: Some(0) },
                None => return Some(TailReason::Behind),
            }
            return None;
        };
        let waiting = self.window.range(usize::try_from(skip).ok()?..);
        let paced = now_us < child.sent_us + self.pace_us;
        if paced && waiting.clone().map(size).sum::<usize>() < BATCH_BYTES_MAX {
            return None;
        }
        let mut bytes = 0;
        let batch = waiting.take_while(|entry| {
            let fits = bytes == 0 || bytes + size(entry) <= BATCH_BYTES_MAX;
            bytes += size(entry);
            fits
        });
        let effect = child.batch(to, source, batch, now_us);
        self.effects.push(effect);
        None
    }

    fn serve_snapshot(&mut self, to: u64, retry_us: Option<Micros>, source: &Source, now_us: Micros) {
        if retry_us.is_none_or(|at| now_us < at) {
            return;
        }
        let Some(base) = source.base_index else { return };
        // Behind the base nothing could follow it; at 0 there is no state to copy.
        match self.snapshot.filter(|(index, _)| *index >= base && *index > 0) {
            Some((index, term)) => {
                if let Some(child) = self.children.get_mut(&to) {
                    child.feeding = Feeding::Snapshot { retry_us: None };
                }
                self.effects.push(TailEffect::SendSnapshot { to, index, term });
            }
            None if self.making || source.applied_index == 0 => {}
            None => {
                self.making = true;
                self.effects.push(TailEffect::MakeSnapshot);
            }
        }
    }

    /// When [`Tail::serve`] has something to do although nothing happens; `None` without children.
    pub fn due_us(&self) -> Option<Micros> {
        let due = |child: &Child| {
            let entries = child.feeding == Feeding::Entries && child.next <= self.last && child.fetch.is_none();
            let room = child.flight_bytes < FLIGHT_BYTES_MAX;
            child.sent_us + if entries && room { self.pace_us } else { HEARTBEAT_US }
        };
        self.children.values().map(due).min()
    }
}

impl Child {
    fn batch<'e>(&mut self, to: u64, source: &Source, entries: impl Iterator<Item = &'e LogEntry>, now_us: Micros) -> TailEffect {
        let mut bytes = 0;
        let entries: Vec<TailEntry> = entries.inspect(|e| bytes += size(e)).map(TailEntry::from).collect();
        if let (Some(first), Some(last)) = (entries.first(), entries.last()) {
            assert_eq!(first.index, self.next, "a child is fed without a gap");
            self.next = last.index + 1;
            self.flight.push_back((last.index, bytes));
            self.flight_bytes += bytes;
        }
        self.sent_us = now_us;
        let batch = TailBatch {
            subscription: self.subscription,
            entries,
            commit_index: source.commit_index,
            leader: source.leader,
            term: source.term,
            root: source.root,
            pulse: source.pulse,
            depth: source.depth,
            hash_index: source.applied_index,
            hash: source.hash.to_vec(),
        };
        TailEffect::Send { to, lane: Lane::Append, body: PeerBody::TailBatch(batch) }
    }
}

fn end_of(to: u64, subscription: u64, reason: TailReason) -> TailEffect {
    let body = PeerBody::TailEnd(TailEnd { subscription, reason: reason as i32 });
    TailEffect::Send { to, lane: Lane::Append, body }
}

#[cfg(test)]
mod tests;

//! One parent and made-up children: what each is fed, and when it is told to go.

use codec::log::{EntryKind, LogEntry};
use codec::peer::PeerBody;
use codec::tail::{TailAck, TailBatch, TailReason, TailSubscribe};

use super::{CATCH_UP_MAX, FLIGHT_BYTES_MAX, HEARTBEAT_US, PACE_US, RELAY_PACE_US, Source, Tail, TailEffect};
use crate::tree::CHILDREN_MAX;

fn entries(range: std::ops::Range<u64>, bytes: usize) -> Vec<LogEntry> {
    range.map(|index| LogEntry { index, term: 1, kind: EntryKind::Normal, data: vec![7; bytes].into() }).collect()
}

fn source(applied_index: u64, base_index: Option<u64>) -> Source {
    Source { leader: 1, term: 1, root: 1, pulse: 1, commit_index: applied_index, applied_index, base_index, ..Source::default() }
}

fn ask(subscription: u64, index: u64) -> TailSubscribe {
    TailSubscribe { subscription, index, term: 1, hash: vec![0; 16], ..TailSubscribe::default() }
}

fn no_hash(_: u64) -> Option<[u8; 16]> {
    None
}

fn batches(effects: &[TailEffect]) -> Vec<&TailBatch> {
    let batch = |e| match e {
        &TailEffect::Send { body: PeerBody::TailBatch(ref batch), .. } => Some(batch),
        _ => None,
    };
    effects.iter().filter_map(batch).collect()
}

fn ends(effects: &[TailEffect]) -> Vec<(u64, TailReason)> {
    let end = |e: &TailEffect| match e {
        TailEffect::Send { to, body: PeerBody::TailEnd(end), .. } => TailReason::try_from(end.reason).ok().map(|r| (*to, r)),
        _ => None,
    };
    effects.iter().filter_map(end).collect()
}

/// 16 children for good, 4 more to catch up, and nobody beyond; one that asks again is no other one.
#[test]
fn children_are_bounded() {
    let mut tail = Tail::default();
    let here = source(10, Some(0));
    for child in 0..=CHILDREN_MAX as u64 {
        tail.subscribe(100 + child, ask(1, 5), &here, 0);
    }
    assert_eq!(ends(&tail.serve(&here, no_hash, 0)), [(100 + CHILDREN_MAX as u64, TailReason::Full)]);
    tail.subscribe(100, ask(2, 6), &here, 0);
    for child in 0..=CATCH_UP_MAX as u64 {
        tail.subscribe(200 + child, TailSubscribe { catch_up: true, ..ask(1, 5) }, &here, 0);
    }
    assert_eq!(ends(&tail.serve(&here, no_hash, 0)), [(200 + CATCH_UP_MAX as u64, TailReason::Full)]);
}

/// a child that says nothing is sent no more than the bound → it says what it has → the rest comes, in order.
#[test]
fn what_is_on_its_way_is_bounded_and_leaves_no_gap() {
    let mut tail = Tail::default();
    let here = source(100, Some(0));
    tail.committed(&entries(1..101, 100 << 10));
    tail.subscribe(9, ask(1, 20), &here, 0);
    let (mut next, mut sent, mut now_us) = (21, 0, 0);
    let mut take = |tail: &mut Tail, now_us| {
        for batch in batches(&tail.serve(&here, no_hash, now_us)) {
            for entry in &batch.entries {
                assert_eq!(entry.index, next);
                (next, sent) = (next + 1, sent + entry.data.len());
            }
        }
        (next, sent)
    };
    for _ in 0..100 {
        now_us += PACE_US;
        take(&mut tail, now_us);
    }
    let (reached, bytes) = take(&mut tail, now_us);
    assert!(bytes <= FLIGHT_BYTES_MAX + (1 << 20), "{bytes}");
    assert!(reached < 100);
    for _ in 0..100 {
        now_us += PACE_US;
        let (reached, _) = take(&mut tail, now_us);
        tail.acknowledged(9, &TailAck { subscription: 1, index: reached - 1 }, now_us);
    }
    assert_eq!(take(&mut tail, now_us).0, 101);
}

#[test]
fn an_observer_passes_on_at_once_what_was_paced_above() {
    let mut tail = Tail::of_observer();
    let here = source(3, None);
    tail.committed(&entries(2..3, 10));
    tail.subscribe(9, ask(1, 1), &here, 1_000_000);
    assert_eq!(batches(&tail.serve(&here, no_hash, 1_000_000))[0].entries.len(), 1);
    tail.committed(&entries(3..4, 10));
    assert_eq!(batches(&tail.serve(&here, no_hash, 1_000_000 + RELAY_PACE_US))[0].entries.len(), 1);
}

#[test]
fn few_entries_wait_for_the_pace_and_none_for_the_heartbeat() {
    let mut tail = Tail::default();
    let here = source(3, Some(0));
    tail.committed(&entries(1..3, 10));
    tail.subscribe(9, ask(1, 1), &here, 1_000_000);
    assert_eq!(batches(&tail.serve(&here, no_hash, 1_000_000))[0].entries.len(), 1);
    tail.committed(&entries(3..4, 10));
    assert!(tail.serve(&here, no_hash, 1_000_000 + PACE_US - 1).is_empty());
    assert_eq!(tail.due_us(), Some(1_000_000 + PACE_US));
    assert_eq!(batches(&tail.serve(&here, no_hash, 1_000_000 + PACE_US))[0].entries.len(), 1);
    assert!(tail.serve(&here, no_hash, 1_000_000 + HEARTBEAT_US).is_empty());
    let effects = tail.serve(&here, no_hash, 1_000_000 + PACE_US + HEARTBEAT_US);
    assert!(batches(&effects)[0].entries.is_empty(), "it only says that it is there");
}

/// behind the window: a node with a log reads it, and one whose log was cut sends a snapshot; an
/// observer says that it cannot help.
#[test]
fn a_child_behind_the_window_is_fed_from_the_log_or_a_snapshot_or_sent_away() {
    let mut tail = Tail::default();
    let here = source(60, Some(10));
    tail.committed(&entries(50..61, 10));
    tail.subscribe(9, ask(1, 20), &here, 0);
    let effects = tail.serve(&here, no_hash, 0);
    let Some(&TailEffect::Fetch { fetch, low, high, .. }) = effects.iter().find(|e| matches!(e, TailEffect::Fetch { .. })) else {
        panic!("{effects:?}");
    };
    assert_eq!((low, high), (21, 50));
    tail.fetched(fetch, entries(21..50, 10), &here, 1);
    let effects = tail.serve(&here, no_hash, PACE_US + 1);
    let seen: Vec<u64> = batches(&effects).iter().flat_map(|b| &b.entries).map(|e| e.index).collect();
    assert_eq!(seen, (21..61).collect::<Vec<_>>());

    tail.subscribe(9, ask(2, 5), &here, 0);
    let effects = tail.serve(&here, no_hash, 0);
    assert!(effects.contains(&TailEffect::MakeSnapshot) || tail.serve(&here, no_hash, 1).contains(&TailEffect::MakeSnapshot));
    tail.snapshot_made(60, 1);
    assert!(tail.serve(&here, no_hash, 2).contains(&TailEffect::SendSnapshot { to: 9, index: 60, term: 1 }));
    assert!(!tail.serve(&here, no_hash, 3).iter().any(|e| matches!(e, TailEffect::SendSnapshot { .. })), "once");
    assert!(tail.snapshot_sent(9, false, 4));
    assert!(tail.serve(&here, no_hash, 5_000_000 - 1).contains(&TailEffect::MakeSnapshot), "and again after a pause");

    let observer = Source { base_index: None, depth: 1, ..here };
    let mut tail = Tail::default();
    tail.committed(&entries(50..61, 10));
    tail.subscribe(9, ask(1, 20), &observer, 0);
    assert_eq!(ends(&tail.serve(&observer, no_hash, 0)), [(9, TailReason::Behind)]);
    tail.subscribe(9, ask(2, 0), &observer, 0);
    assert_eq!(ends(&tail.serve(&observer, no_hash, 0)), [(9, TailReason::Behind)], "it has no checkpoint to give");
}

/// A child that is ahead is compared once this node has come so far.
#[test]
fn another_hash_or_term_at_the_childs_index_is_divergence() {
    let mut tail = Tail::default();
    tail.committed(&entries(1..11, 10));
    let here = source(10, Some(0));
    tail.subscribe(9, TailSubscribe { term: 7, ..ask(1, 5) }, &here, 0);
    assert_eq!(ends(&tail.serve(&here, no_hash, 0)), [(9, TailReason::Diverged)]);
    tail.subscribe(9, ask(2, 12), &here, 0);
    let other = |_| Some([1; 16]);
    assert!(ends(&tail.serve(&here, other, 0)).is_empty(), "not yet comparable");
    assert_eq!(ends(&tail.serve(&source(12, Some(0)), other, 1)), [(9, TailReason::Diverged)]);
    tail.subscribe(9, ask(3, 12), &source(12, Some(0)), 2);
    assert!(ends(&tail.serve(&source(12, Some(0)), |_| Some([0; 16]), 2)).is_empty());
}

/// A node that follows nobody takes no child: else observers could keep each other alive in a circle.
#[test]
fn an_orphan_takes_no_children() {
    let mut tail = Tail::default();
    let orphan = Source { leader: 0, ..source(10, None) };
    tail.subscribe(9, ask(1, 5), &orphan, 0);
    assert_eq!(ends(&tail.serve(&orphan, no_hash, 0)), [(9, TailReason::NotReady)]);
}

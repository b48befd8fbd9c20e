//! Who hangs below whom: the leader's placement of observers, and a child's choice of another parent.
//!
//! What always holds: no node has more than [`CHILDREN_MAX`] children; nobody hangs below itself; an
//! observer that is well where it is stays there. Followers come before the leader, so that the
//! leader's work hardly grows with the number of observers; the nearer to a voter, the better.
//! Everything is a function of its inputs: two leaders that know the same place the same.

use std::collections::{BTreeMap, BTreeSet};

use codec::tail::Placement;

/// Children that one node feeds.
pub const CHILDREN_MAX: usize = 16;
/// Reports older than this do not count: the observer is taken for dead, and nobody is put below it.
pub const REPORT_US_MAX: u64 = 3_000_000;

/// A voter or learner, which has the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Root {
    pub raft_id: u64,
    /// The leader hears it.
    pub alive: bool,
}

/// An observer as the leader knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seat {
    pub raft_id: u64,
    /// It reported lately.
    pub alive: bool,
    /// Whom it should stay with, in this order, as long as they will do; 0 for nobody: whom it was told
    /// to follow, and whom it said that it follows.
    pub wanted: [u64; 2],
}

#[derive(Clone, Copy)]
struct Parent {
    depth: u32,
    load: usize,
    is_leader: bool,
}

/// Places every observer: below a parent that it wants, where that will do; else below the parent with room that is nearest to a voter, then least loaded, then first by id.
/// Without any living root nobody is placed.
pub fn place(leader: u64, roots: &[Root], seats: &[Seat]) -> BTreeMap<u64, u64> {
    let mut parents: BTreeMap<u64, Parent> = BTreeMap::new();
    for root in roots.iter().filter(|r| r.alive) {
        parents.insert(root.raft_id, Parent { depth: 0, load: 0, is_leader: root.raft_id == leader });
    }
    let mut seats: Vec<Seat> = seats.to_vec();
    // The dead come last: they take what the living leave.
    seats.sort_unstable_by_key(|s| (!s.alive, s.raft_id));
    let mut placed = BTreeMap::new();
    // Those that stay, from the roots down.
    loop {
        let before = placed.len();
        for seat in seats.iter().filter(|s| s.alive) {
            let will_do = |parent: &&u64| parents.get(*parent).is_some_and(|p| !p.is_leader && p.load < CHILDREN_MAX);
            if !placed.contains_key(&seat.raft_id)
                && let Some(parent) = seat.wanted.iter().find(will_do).copied()
            {
                attach(&mut parents, &mut placed, seat, parent);
            }
        }
        if placed.len() == before {
            break;
        }
    }
    // A living observer can take children as soon as it has a parent.
    for seat in &seats {
        if !placed.contains_key(&seat.raft_id)
            && let Some(parent) = best(&parents)
        {
            attach(&mut parents, &mut placed, seat, parent);
        }
    }
    placed
}

fn attach(parents: &mut BTreeMap<u64, Parent>, placed: &mut BTreeMap<u64, u64>, seat: &Seat, parent: u64) {
    let Some(above) = parents.get_mut(&parent) else { return };
    above.load += 1;
    let depth = above.depth + 1;
    placed.insert(seat.raft_id, parent);
    if seat.alive {
        parents.insert(seat.raft_id, Parent { depth, load: 0, is_leader: false });
    }
}

fn best(parents: &BTreeMap<u64, Parent>) -> Option<u64> {
    let room = parents.iter().filter(|(_, p)| p.load < CHILDREN_MAX);
    room.min_by_key(|(id, p)| (p.is_leader, p.depth, p.load, **id)).map(|(id, _)| *id)
}

/// Whom `own` may follow, in the order to try: the parent it was given, the voters (the leader last,
/// the others beginning at another one for each child), then observers that do not hang below it.
pub fn candidates(own: u64, placement: Option<&Placement>, roots: &[u64]) -> Vec<u64> {
    let mut order: Vec<u64> = Vec::new();
    let (leader, seats) = placement.map_or((0, &[][..]), |p| (p.leader, p.observers.as_slice()));
    order.extend(seats.iter().find(|s| s.raft_id == own).map(|s| s.parent).filter(|p| *p != 0));
    let followers: Vec<u64> = roots.iter().copied().filter(|id| *id != leader && *id != own).collect();
    let first = if followers.is_empty() { 0 } else { (own % followers.len() as u64) as usize };
    order.extend(followers[first..].iter().chain(&followers[..first]));
    order.extend(roots.iter().filter(|id| **id == leader));
    let below = descendants(own, placement);
    let mut others: Vec<u64> = seats.iter().map(|s| s.raft_id).filter(|id| *id != own && !below.contains(id)).collect();
    if !others.is_empty() {
        let first = (own % others.len() as u64) as usize;
        others.rotate_left(first);
    }
    order.extend(others);
    let mut seen = BTreeSet::new();
    order.retain(|id| seen.insert(*id));
    order
}

/// Observers below `own`, as published.
fn descendants(own: u64, placement: Option<&Placement>) -> BTreeSet<u64> {
    let mut below = BTreeSet::from([own]);
    let Some(placement) = placement else { return below };
    loop {
        let before = below.len();
        below.extend(placement.observers.iter().filter(|s| below.contains(&s.parent)).map(|s| s.raft_id).collect::<Vec<_>>());
        if below.len() == before {
            return below;
        }
    }
}

#[cfg(test)]
mod tests {
    use codec::tail::PlacedObserver;

    use super::*;

    fn roots(alive: &[u64]) -> Vec<Root> {
        (1..=5).map(|raft_id| Root { raft_id, alive: alive.contains(&raft_id) }).collect()
    }

    fn seats(ids: std::ops::Range<u64>, placed: &BTreeMap<u64, u64>) -> Vec<Seat> {
        ids.map(|raft_id| Seat { raft_id, alive: true, wanted: [placed.get(&raft_id).copied().unwrap_or(0), 0] }).collect()
    }

    fn loads(placed: &BTreeMap<u64, u64>) -> BTreeMap<u64, usize> {
        let mut loads = BTreeMap::new();
        placed.values().for_each(|p| *loads.entry(*p).or_default() += 1);
        loads
    }

    fn depth(placed: &BTreeMap<u64, u64>, of: u64) -> usize {
        let mut at = of;
        (0..200)
            .find(|_| match placed.get(&at) {
                Some(parent) => {
                    at = *parent;
                    false
                }
                None => true,
            })
            .expect("no cycle")
    }

    /// 96 observers, five voters: 64 below the four followers, 32 below those, none below the leader.
    #[test]
    fn ninety_six_hang_below_the_followers_two_deep() {
        let placed = place(1, &roots(&[1, 2, 3, 4, 5]), &seats(100..196, &BTreeMap::new()));
        assert_eq!(placed.len(), 96);
        let loads = loads(&placed);
        assert!(loads.values().all(|load| *load <= CHILDREN_MAX));
        assert_eq!(loads.get(&1), None, "the leader feeds nobody while followers have room");
        assert!((2..=5).all(|id| loads[&id] == CHILDREN_MAX));
        assert_eq!((100..196).map(|id| depth(&placed, id)).max(), Some(2));
    }

    #[test]
    fn only_the_children_of_a_dead_parent_move() {
        let all = roots(&[1, 2, 3, 4, 5]);
        let before = place(1, &all, &seats(100..196, &BTreeMap::new()));
        assert_eq!(place(1, &all, &seats(100..196, &before)), before, "the same again");
        let parent = *before.values().find(|p| **p >= 100).expect("an observer with children");
        let mut now = seats(100..196, &before);
        now.iter_mut().filter(|s| s.raft_id == parent).for_each(|s| s.alive = false);
        let after = place(1, &all, &now);
        for (child, above) in &after {
            let moved = before[child] != *above;
            assert!(!moved || before[child] == parent || *child == parent, "{child} moved from {} to {above}", before[child]);
            assert_ne!(*above, parent);
        }
    }

    #[test]
    fn a_new_leader_gives_its_children_away() {
        let all = roots(&[1, 2, 3, 4, 5]);
        let before = place(1, &all, &seats(100..140, &BTreeMap::new()));
        let after = place(2, &all, &seats(100..140, &before));
        assert_eq!(loads(&after).get(&2), None);
        assert!(before.iter().all(|(child, parent)| *parent == 2 || after[child] == *parent), "nobody else moves");
    }

    #[test]
    fn a_cycle_of_orphans_is_broken() {
        let seats = [Seat { raft_id: 10, alive: true, wanted: [0, 11] }, Seat { raft_id: 11, alive: true, wanted: [0, 10] }];
        let placed = place(1, &roots(&[1, 2]), &seats);
        assert!(placed.values().all(|p| *p == 2), "{placed:?}");
    }

    #[test]
    fn the_leader_is_the_last_resort_and_nobody_is_placed_without_a_root() {
        let placed = place(1, &roots(&[1]), &seats(10..12, &BTreeMap::new()));
        assert!(placed.contains_key(&10) && placed.contains_key(&11));
        assert_eq!(placed[&10], 1);
        assert!(place(0, &roots(&[]), &seats(10..12, &BTreeMap::new())).is_empty());
    }

    #[test]
    fn candidates_begin_with_the_given_parent_and_leave_out_those_below() {
        let seat = |raft_id, parent| PlacedObserver { raft_id, parent, report: None };
        let observers = vec![seat(10, 3), seat(11, 10), seat(12, 11), seat(13, 2)];
        let placement = Placement { leader: 1, observers, ..Placement::default() };
        let order = candidates(10, Some(&placement), &[1, 2, 3]);
        assert_eq!(order, [3, 2, 1, 13]);
        assert_eq!(candidates(10, None, &[1, 2, 3]).len(), 3, "without a placement every voter will do");
    }
}

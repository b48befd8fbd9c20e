//! What will happen, in order of time; equal times in order of arrival.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

/// True time of the simulation, in µs since its start.
pub type Time = u64;

struct Timed<T> {
    at: Time,
    number: u64,
    what: T,
}

impl<T> PartialEq for Timed<T> {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.number) == (other.at, other.number)
    }
}

impl<T> Eq for Timed<T> {}

impl<T> PartialOrd for Timed<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Timed<T> {
    /// The earliest is the greatest, because the heap gives the greatest first.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.number).cmp(&(self.at, self.number))
    }
}

pub struct Queue<T> {
    heap: BinaryHeap<Timed<T>>,
    next_number: u64,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self { heap: BinaryHeap::with_capacity(4_096), next_number: 0 }
    }
}

impl<T> Queue<T> {
    pub fn push(&mut self, at: Time, what: T) {
        self.heap.push(Timed { at, number: self.next_number, what });
        self.next_number += 1;
    }

    pub fn pop(&mut self) -> Option<(Time, T)> {
        self.heap.pop().map(|timed| (timed.at, timed.what))
    }
}

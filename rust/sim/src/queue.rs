//! What will happen, in order of time; equal times in order of arrival.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// True time of the simulation, in µs since its start.
pub type Time = u64;

/// The heap moves these about; what will happen stays in its place.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Timed {
    at: Time,
    number: u64,
    place: u32,
}

pub struct Queue<T> {
    heap: BinaryHeap<Reverse<Timed>>,
    places: Vec<Option<T>>,
    free: Vec<u32>,
    next_number: u64,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self { heap: BinaryHeap::with_capacity(4_096), places: Vec::new(), free: Vec::new(), next_number: 0 }
    }
}

impl<T> Queue<T> {
    pub fn push(&mut self, at: Time, what: T) {
        let place = self.free.pop().unwrap_or_else(|| {
            self.places.push(None);
            self.places.len() as u32 - 1
        });
        self.places[place as usize] = Some(what);
        self.heap.push(Reverse(Timed { at, number: self.next_number, place }));
        self.next_number += 1;
    }

    pub fn pop(&mut self) -> Option<(Time, T)> {
        let Reverse(Timed { at, place, .. }) = self.heap.pop()?;
        self.free.push(place);
        self.places[place as usize].take().map(|what| (at, what))
    }
}

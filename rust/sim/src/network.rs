//! Links between nodes: one connection for each pair, which can be up or down, and two directions,
//! each of which can be blocked.
//!
//! A blocked direction swallows what is sent. After a while both ends notice and the connection
//! breaks (`PeerDown`); once nothing blocks it, it is dialled again (`PeerUp` with `Hello`).

use codec::peer::{Lane, PeerBody};

use crate::profile::Budget;
use crate::queue::Time;
use crate::rng::Rng;

#[derive(Clone, Copy, Debug, Default)]
struct Connection {
    up: bool,
    /// Grows with every change: what was on the wire of an older one is lost.
    number: u64,
}

/// Rates and delays of the moment.
#[derive(Clone, Copy, Debug)]
pub struct Weather {
    pub drop_bp: u64,
    pub duplicate_bp: u64,
    pub reorder_bp: u64,
    pub delay_us: (u64, u64),
}

pub struct Network {
    count: usize,
    /// How many rules block a direction, by `from * count + to`.
    blocked: Vec<u32>,
    connections: Vec<Connection>,
    /// Arrival of the newest message by direction and lane: lanes keep their order.
    newest: Vec<[Time; 4]>,
    fair: Weather,
    pub weather: Weather,
    rng: Rng,
}

/// What becomes of a message.
#[derive(Debug, PartialEq, Eq)]
pub enum Fate {
    Lost,
    Arrives { at: Time, again_at: Option<Time>, connection: u64 },
}

impl Network {
    pub fn new(count: usize, budget: &Budget, rng: Rng) -> Self {
        let fair = Weather {
            drop_bp: budget.drop_bp,
            duplicate_bp: budget.duplicate_bp,
            reorder_bp: budget.reorder_bp,
            delay_us: budget.delay_us,
        };
        Self {
            count,
            blocked: vec![0; count * count],
            connections: vec![Connection::default(); count * count],
            newest: vec![[0; 4]; count * count],
            fair,
            weather: fair,
            rng,
        }
    }

    /// The weather of the budget, or better once everything heals.
    pub fn fair_weather(&mut self, healed: bool) {
        self.weather = self.fair;
        if healed {
            (self.weather.drop_bp, self.weather.duplicate_bp, self.weather.reorder_bp) = (0, 0, 0);
        }
    }

    fn pair(&self, a: usize, b: usize) -> usize {
        a.min(b) * self.count + a.max(b)
    }

    pub fn block(&mut self, from: usize, to: usize) {
        self.blocked[from * self.count + to] += 1;
    }

    pub fn unblock(&mut self, from: usize, to: usize) {
        let blocked = &mut self.blocked[from * self.count + to];
        *blocked = blocked.saturating_sub(1);
    }

    pub fn unblock_all(&mut self) {
        self.blocked.fill(0);
    }

    pub fn open(&self, from: usize, to: usize) -> bool {
        self.blocked[from * self.count + to] == 0
    }

    pub fn connected(&self, a: usize, b: usize) -> bool {
        self.connections[self.pair(a, b)].up
    }

    pub fn connection(&self, a: usize, b: usize) -> u64 {
        self.connections[self.pair(a, b)].number
    }

    /// Brings the connection up or down; false if it is so already.
    pub fn set_connected(&mut self, a: usize, b: usize, up: bool) -> bool {
        let at = self.pair(a, b);
        let connection = &mut self.connections[at];
        if connection.up == up {
            return false;
        }
        connection.up = up;
        connection.number += 1;
        for direction in [a * self.count + b, b * self.count + a] {
            self.newest[direction] = [0; 4];
        }
        true
    }

    /// Decides over one message. Only Raft messages, reads, beats and reports may be lost on a
    /// connection that stands (a full queue drops them); commands and answers about snapshots wait.
    pub fn send(&mut self, now: Time, from: usize, to: usize, lane: Lane, body: &PeerBody) -> Fate {
        let connection = self.connections[self.pair(from, to)];
        if !connection.up || !self.open(from, to) {
            return Fate::Lost;
        }
        let weather = self.weather;
        let may_drop = !matches!(body, PeerBody::Forward(_) | PeerBody::SnapshotAnswer(_) | PeerBody::Bootstrap(_));
        if may_drop && self.rng.chance(weather.drop_bp) {
            return Fate::Lost;
        }
        let mut at = now + self.rng.skewed(weather.delay_us.0, weather.delay_us.1);
        let newest = &mut self.newest[from * self.count + to][lane as usize];
        if self.rng.chance(weather.reorder_bp) {
            at += self.rng.below(30_000);
        } else {
            at = at.max(*newest);
            *newest = at;
        }
        let again_at = self.rng.chance(weather.duplicate_bp).then(|| at + self.rng.below(50_000));
        Fate::Arrives { at, again_at, connection: connection.number }
    }
}

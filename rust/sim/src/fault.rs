//! Faults: planned before the run from the profile's budget, each with a number, so that a failing
//! seed can be shrunk by leaving some out.

use std::collections::BTreeSet;

use node::Event;

use crate::disk::Crash;
use crate::host::Part;
use crate::invariant::Violation;
use crate::profile::{Budget, Kind};
use crate::queue::Time;
use crate::rng::Rng;
use crate::world::{What, World};

/// When both ends of a blocked link notice.
const NOTICE_US: (u64, u64) = (100_000, 2_500_000);
const FLAP_US: Time = 500_000;

/// A fault that will happen.
#[derive(Clone, Debug)]
pub struct Planned {
    pub number: u32,
    pub kind: Kind,
    pub at: Time,
    pub lasts: Time,
    /// Chooses the nodes that it hits.
    dice: u64,
    /// Directions blocked by it.
    blocked: BTreeSet<(usize, usize)>,
    over: bool,
}

/// The plan of a seed: `faults` spread over the first phase.
pub fn plan(budget: &Budget, rng: &mut Rng) -> Vec<Planned> {
    let step = budget.fault_us / budget.faults;
    let mut plan = Vec::new();
    for number in 0..budget.faults {
        let kind = rng.weighted(budget.kinds);
        let at = 600_000 + number * step + rng.below(step);
        let longest = if matches!(kind, Kind::Pause | Kind::PauseLeader | Kind::StallDisk | Kind::StallApply) {
            3_000_000
        } else {
            2_500_000
        };
        let lasts = rng.skewed(50_000, longest);
        let (dice, blocked) = (rng.number(), BTreeSet::new());
        plan.push(Planned { number: number as u32, kind, at, lasts, dice, blocked, over: false });
    }
    plan
}

/// In one of four runs this happens once, beside the plan.
pub fn once(kind: Kind, lasts: (Time, Time), budget: &Budget, rng: &mut Rng) -> Option<Planned> {
    let at = 2_000_000 + rng.below(budget.fault_us - 2_000_000);
    let (number, lasts, dice) = (budget.faults as u32, rng.range(lasts.0, lasts.1), rng.number());
    let planned = Planned { number, kind, at, lasts, dice, blocked: BTreeSet::new(), over: false };
    rng.chance(2_500).then_some(planned)
}

impl World {
    pub(crate) fn inject(&mut self, planned: usize) -> Result<(), Violation> {
        let Planned { number, kind, lasts, dice, .. } = self.plan[planned].clone();
        let now = self.now;
        let mut dice = Rng::new(dice, 0);
        let hosts = self.hosts.len();
        let some = self.some_node(dice.number());
        let leader = self.leader().unwrap_or(some);
        let agent = dice.below(self.agents.len() as u64) as usize;
        self.report.faults += 1;
        self.report.planned.push(number);
        self.trace.fold(now, 10, planned as u64, leader as u64);
        self.trace
            .say(now, || format!("fault {number}: {kind:?} (n{} or leader n{}) for {} ms", some + 1, leader + 1, lasts / 1_000));
        let mut recovers = true;
        match kind {
            Kind::Split | Kind::IsolateLeader | Kind::OneWay | Kind::Bridge | Kind::Ring => {
                let blocked = shape(kind, hosts, if kind == Kind::Split { some } else { leader }, &mut dice);
                self.block(planned, blocked);
            }
            Kind::Flap => self.queue.push(now, What::Flap { planned, blocked: true }),
            Kind::LossyNet => {
                let weather = &mut self.network.weather;
                weather.drop_bp = dice.range(100, 2_500);
                weather.duplicate_bp = dice.range(100, 2_500);
                weather.reorder_bp = dice.range(500, 5_000);
            }
            Kind::SlowNet => self.network.weather.delay_us = (dice.range(1_000, 50_000), dice.range(60_000, 300_000)),
            Kind::Reset => {
                let other = self.some_node(dice.number());
                if other != some {
                    self.disconnect(some, other);
                }
            }
            Kind::Kill => self.crash(some, Crash::Kill, lasts),
            Kind::KillLeader => self.crash(leader, Crash::Kill, lasts),
            Kind::Power => self.crash(some, Crash::Power, lasts),
            Kind::KillAll | Kind::PowerAll => {
                let how = if kind == Kind::KillAll { Crash::Kill } else { Crash::Power };
                for at in 0..hosts {
                    let down_us = dice.range(50_000, 600_000);
                    self.crash(at, how, down_us);
                }
            }
            Kind::Pause | Kind::PauseLeader => {
                let at = if kind == Kind::Pause { some } else { leader };
                if let Some(process) = &mut self.hosts[at].process {
                    process.paused_until = now + lasts;
                }
            }
            Kind::WriteError => self.hosts[some].fail_next_write = true,
            Kind::SlowDisk => self.hosts[some].slow_disk = (dice.range(100_000, 2_000_000), now + lasts),
            Kind::StallDisk => self.hosts[leader].slow_disk = (dice.range(300_000, 3_000_000), now + 1 + lasts / 20),
            Kind::TransferLeader | Kind::TakeSnapshot => {
                let token = self.token();
                let at = if kind == Kind::TakeSnapshot { some } else { leader };
                let deadline_us = self.hosts[at].clock.mono_us(now) + 2_000_000;
                let to = dice.chance(5_000).then(|| crate::start::node_id(some));
                let event = match kind {
                    Kind::TakeSnapshot => Event::TakeSnapshot { token },
                    _ => Event::TransferLeader { token, to, deadline_us },
                };
                self.tell(at, event);
            }
            Kind::BreakTransfers => {
                for from in 0..hosts {
                    let sending = self.hosts[from].process.as_ref().and_then(|p| p.sending.as_ref()).map(|t| t.number);
                    if let Some(transfer) = sending {
                        let number = self.hosts[from].number;
                        self.transfer_ended(from, number, transfer, false);
                    }
                }
            }
            Kind::SlowMinority => {
                let with = (leader + 1 + dice.below(hosts as u64 - 1) as usize) % hosts;
                let off = |at: usize| at == leader || at == with;
                let all = (0..hosts).flat_map(|a| (0..hosts).map(move |b| (a, b)));
                let blocked = all.filter(|(a, b)| off(*a) != off(*b)).collect();
                self.block(planned, blocked);
                self.hosts[with].slow_disk = (2 * (lasts + dice.range(200_000, 1_500_000)), now + lasts);
            }
            Kind::Rot => {
                if self.hosts[some].up() && self.hosts[some].disk.rot(&mut dice) {
                    self.crash(some, Crash::Power, lasts);
                }
            }
            Kind::StallApply => self.hosts[some].apply_stalled_until = now + lasts,
            Kind::ClockJump => {
                let jump_us = dice.range(1_000, 3_600_000_000) as i64;
                self.hosts[some].clock.wall_off_us = if dice.chance(5_000) { jump_us } else { -jump_us };
            }
            Kind::PauseAgent => {
                let beyond_us = if dice.chance(7_000) { dice.range(3_500_000, 6_000_000) } else { lasts };
                self.agents[agent].paused_until = now + beyond_us;
                recovers = false;
            }
            Kind::CrashAgent => {
                self.agents[agent].restart();
                self.agent_starts(agent);
                recovers = false;
            }
            Kind::MoveAgent => self.agents[agent].node = some,
            Kind::AddMember => self.add_member(&mut dice)?,
            Kind::RemoveMember => self.remove_member(some),
            Kind::ReplaceMember => self.lose_for_good(some)?,
        }
        if recovers {
            self.queue.push(now + lasts, What::Recover { planned });
        }
        Ok(())
    }

    fn block(&mut self, planned: usize, blocked: BTreeSet<(usize, usize)>) {
        for &(from, to) in &blocked {
            self.network.block(from, to);
            let notice_us = self.fault_rng.skewed(NOTICE_US.0, NOTICE_US.1);
            let connection = self.network.connection(from, to);
            self.queue.push(self.now + notice_us, What::Break { a: from, b: to, connection });
        }
        self.plan[planned].blocked = blocked;
    }

    fn unblock(&mut self, planned: usize) {
        for (from, to) in std::mem::take(&mut self.plan[planned].blocked) {
            self.network.unblock(from, to);
            if !self.network.connected(from, to) {
                self.dial_soon(from, to);
            }
        }
    }

    pub(crate) fn flap(&mut self, planned: usize, blocked: bool) {
        if self.plan[planned].over {
            return;
        }
        if blocked {
            let (hosts, dice) = (self.hosts.len(), self.plan[planned].dice);
            let at = (dice % hosts as u64) as usize;
            let links = (0..hosts).filter(|other| *other != at).flat_map(|other| [(at, other), (other, at)]).collect();
            self.block(planned, links);
        } else {
            self.unblock(planned);
        }
        self.queue.push(self.now + FLAP_US, What::Flap { planned, blocked: !blocked });
    }

    pub(crate) fn recover(&mut self, planned: usize) -> Result<(), Violation> {
        let kind = self.plan[planned].kind;
        self.plan[planned].over = true;
        self.trace.fold(self.now, 11, planned as u64, 0);
        self.unblock(planned);
        match kind {
            Kind::LossyNet | Kind::SlowNet => self.network.fair_weather(false),
            _ => {}
        }
        Ok(())
    }

    /// Everything works again from here on.
    pub(crate) fn heal(&mut self) -> Result<(), Violation> {
        self.trace.say(self.now, || "everything heals".to_owned());
        for planned in 0..self.plan.len() {
            self.plan[planned].over = true;
            self.plan[planned].blocked.clear();
        }
        self.network.unblock_all();
        self.network.fair_weather(true);
        let now = self.now;
        for at in 0..self.hosts.len() {
            let host = &mut self.hosts[at];
            (host.slow_disk, host.fail_next_write, host.apply_stalled_until) = ((0, 0), false, 0);
            if let Some(process) = &mut host.process {
                process.paused_until = process.paused_until.min(now + 1);
                self.wake(at, now + 2);
            } else if host.part == Part::Member {
                self.start(at)?;
            }
            for other in 0..at {
                if !self.network.connected(at, other) {
                    self.dial_soon(at, other);
                }
            }
        }
        for agent in &mut self.agents {
            agent.paused_until = agent.paused_until.min(now + 1);
        }
        Ok(())
    }
}

/// Directions that a partition blocks.
fn shape(kind: Kind, hosts: usize, center: usize, dice: &mut Rng) -> BTreeSet<(usize, usize)> {
    let mut order: Vec<usize> = (0..hosts).collect();
    dice.shuffle(&mut order);
    let all = || (0..hosts).flat_map(|a| (0..hosts).filter(move |b| a != *b).map(move |b| (a, b)));
    match kind {
        Kind::IsolateLeader => all().filter(|(a, b)| *a == center || *b == center).collect(),
        Kind::OneWay => {
            let out = dice.chance(5_000);
            let one = dice.chance(3_000).then(|| dice.below(hosts as u64) as usize);
            let hit = |a: usize, b: usize| {
                if out { a == center && one.is_none_or(|o| o == b) } else { b == center && one.is_none_or(|o| o == a) }
            };
            all().filter(|(a, b)| hit(*a, *b)).collect()
        }
        Kind::Ring => {
            let place = |n: usize| order.iter().position(|o| *o == n).unwrap_or(0);
            let far = |a: usize, b: usize| {
                let apart = place(a).abs_diff(place(b));
                apart.min(hosts - apart) > 1
            };
            // Three nodes in a ring all see each other: there it is a line.
            all().filter(|(a, b)| if hosts <= 3 { place(*a).abs_diff(place(*b)) > 1 } else { far(*a, *b) }).collect()
        }
        Kind::Bridge => {
            let (bridge, rest) = (order[0], &order[1..]);
            let side: BTreeSet<usize> = rest[..rest.len() / 2].iter().copied().collect();
            all().filter(|(a, b)| *a != bridge && *b != bridge && side.contains(a) != side.contains(b)).collect()
        }
        _ => {
            let size = 1 + dice.below(hosts as u64 - 1) as usize;
            let side: BTreeSet<usize> = order[..size].iter().copied().collect();
            all().filter(|(a, b)| side.contains(a) != side.contains(b)).collect()
        }
    }
}

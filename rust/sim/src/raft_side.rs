//! The raft thread of a node (`runtime::raft_thread`): drain the inbox, step the driver, carry out
//! its effects in order.

use codec::peer::{Lane, PeerBody, SnapshotAnswer};
use machine::Machine;
use node::{ApplyDriver, Effect, Event};
use store::{LogStore, StateStore};

use crate::disk::{Crash, Writing};
use crate::host::{ApplyRequest, DiskRequest, LogRequest, Part, Transfer, Waiter};
use crate::invariant::Violation;
use crate::network::Fate;
use crate::world::{Delivery, What, World};

/// Events taken before effects are executed.
const DRAIN_MAX: usize = 1_024;
/// A process that stopped because its disk failed is started again after about this long.
const RESTART_US: u64 = 400_000;

impl World {
    pub(crate) fn turn(&mut self, at: usize, number: u64) -> Result<(), Violation> {
        let now = self.now;
        let Some(process) = self.hosts[at].process(number) else { return Ok(()) };
        if process.turn_at != Some(now) {
            return Ok(());
        }
        process.turn_at = None;
        if process.paused_until > now {
            self.wake(at, now);
            return Ok(());
        }
        let host = &mut self.hosts[at];
        let (mono_us, wall_us) = (host.clock.mono_us(now), host.clock.wall_us(now));
        let Some(process) = &mut host.process else { return Ok(()) };
        let mut events = std::mem::take(&mut process.inbox);
        if events.len() > DRAIN_MAX {
            process.inbox = events.split_off(DRAIN_MAX);
        }
        if mono_us >= process.driver.next_wake_us() {
            process.driver.step(Event::Tick { now_us: mono_us, wall_us });
        } else {
            process.driver.observe_time(mono_us, wall_us);
        }
        for event in events {
            process.driver.step(event);
        }
        let effects = process.driver.ready();
        self.trace.fold(now, 1, at as u64, effects.len() as u64);
        for effect in effects {
            self.invariants.before_effect(&self.hosts, at, &effect).map_err(|v| v.at(now))?;
            self.effect(at, effect)?;
            if self.hosts[at].number != number || !self.hosts[at].up() {
                return Ok(());
            }
        }
        self.invariants.after_turn(&self.hosts, at).map_err(|v| v.at(now))?;
        let host = &mut self.hosts[at];
        let Some(process) = &host.process else { return Ok(()) };
        let more = !process.inbox.is_empty();
        let next = host.clock.when(process.driver.next_wake_us(), now + 1);
        self.wake(at, if more { now + 10 } else { next });
        Ok(())
    }

    fn effect(&mut self, at: usize, effect: Effect) -> Result<(), Violation> {
        let now = self.now;
        let Some(process) = &mut self.hosts[at].process else { return Ok(()) };
        match effect {
            Effect::Persist { number, entries, hard_state } => {
                process.shadow.append(&entries);
                process.log_queue.push_back(LogRequest::Persist(Writing { number, entries, hard_state }));
                self.start_log(at);
            }
            Effect::Truncate { base_index } => {
                process.shadow.truncate(base_index);
                process.log_queue.push_back(LogRequest::Truncate { base_index });
                self.start_log(at);
            }
            Effect::FetchEntries { fetch, low, high, bytes_max } => {
                let number = self.hosts[at].number;
                let when = now + self.rng.range(50, 3_000) + self.slowness(at);
                self.queue.push(when, What::Fetched { at, number, fetch, low, high, bytes_max });
            }
            Effect::Send { to, lane, body } => self.send(at, to, lane, body),
            Effect::Apply(input) => {
                process.apply_queue.push_back(ApplyRequest::Input(input));
                self.start_apply(at);
            }
            Effect::CompleteProposal { token, end, outcomes } => {
                if let Some(waiter) = process.waiters.remove(&token) {
                    self.proposal_ended(waiter, end, &outcomes)?;
                }
            }
            Effect::CompleteRead { token, readable } => {
                if let Some(waiter) = process.waiters.remove(&token) {
                    self.read_ended(at, waiter, readable)?;
                }
            }
            Effect::CompleteBeats(answers) => {
                for answer in answers {
                    let process = self.hosts[at].process.as_mut();
                    if let Some(Waiter::Beat { agent, registration, sent }) =
                        process.and_then(|p| p.waiters.remove(&answer.token))
                    {
                        self.beaten(agent, registration, sent, &answer)?;
                    }
                }
            }
            Effect::LeaderChanged { leader, term, .. } => {
                self.trace.say(now, || format!("n{}: leader {leader} of term {term}", at + 1));
            }
            Effect::Bootstrap(identity) => self.bootstrap(at, identity)?,
            Effect::MakeSnapshot => self.ask_disk(at, DiskRequest::Checkpoint),
            Effect::Flush => self.ask_disk(at, DiskRequest::Flush),
            Effect::SendSnapshot { to, raft_message } => {
                self.next_transfer += 1;
                let index = consensus::snapshot_index(&raft_message).unwrap_or_default();
                let transfer = Transfer { number: self.next_transfer, to, index, raft_message };
                process.to_send.push_back(transfer);
                self.start_transfer(at);
            }
            Effect::InstallSnapshot { number, base, hard_state } => {
                if base.state_dir.is_empty() {
                    return Err(self.violation("halt", "a snapshot is to be installed that was never received".to_owned()));
                }
                process.shadow.install(base.index, base.term);
                // An observer has no log: a record of its own names the directory.
                let number = if number == 0 { process.install_logged + 1 } else { number };
                let (state_dir, index) = (base.state_dir.clone(), base.index);
                process.log_queue.push_back(LogRequest::Install { number, base, hard_state });
                process.apply_queue.push_back(ApplyRequest::Install { number, state_dir, index });
                self.start_log(at);
            }
            Effect::AnswerSnapshot { to, transfer, index, installed, reason } => {
                let answer = SnapshotAnswer { transfer, index, installed, reason };
                self.send(at, to, Lane::Control, PeerBody::SnapshotAnswer(answer));
            }
            Effect::Halt { reason } => return Err(self.violation("halt", format!("n{} stops: {reason}", at + 1))),
            // Nothing damages a state or a synced log here: whoever says so is wrong.
            Effect::Fence { reason } | Effect::Retire { reason } => {
                return Err(self.violation("no fence without damage", format!("n{}: {reason}", at + 1)));
            }
            Effect::Removed { .. } => {
                self.trace.say(now, || format!("n{}: was removed, and stops for good", at + 1));
                self.stop(at, Crash::Kill);
                self.hosts[at].part = Part::Gone;
            }
            Effect::RefusePeer { raft_id } => {
                process.refused.insert(raft_id);
                if let Some(other) = self.host_of(raft_id) {
                    self.disconnect(at, other);
                    self.dial_soon(at, other);
                }
            }
            Effect::SaveIdentity(identity) => {
                self.hosts[at].disk.log.save_identity(&identity).expect("a log that works");
            }
            // All but observers are dialled here: what a node does not dial it only hears more often.
            Effect::DialPeers(peers) => self.dials(at, peers),
            // The next start deletes what nothing names.
            Effect::DropSnapshot { .. } => {}
            Effect::AgentLoads(_) | Effect::CompleteTask { .. } | Effect::StopReady => {}
        }
        Ok(())
    }

    /// Saved and written before the next effect: a vote may follow. The process may end in between.
    fn bootstrap(&mut self, at: usize, identity: codec::log::Identity) -> Result<(), Violation> {
        let bootstrap = identity.bootstrap.clone().expect("a cluster with a first configuration");
        self.invariants.bootstrapped(&bootstrap);
        let host = &mut self.hosts[at];
        host.disk.log.save_identity(&identity).expect("a log that works");
        if self.fault_rng.chance(500) {
            self.trace.say(self.now, || format!("n{}: killed between its identity and its first rows", at + 1));
            self.crash(at, Crash::Kill, RESTART_US);
            return Ok(());
        }
        host.disk.state.write(&Machine::bootstrap_rows(&bootstrap)).expect("a state that works");
        host.disk.state.flush().expect("a state that works");
        let Some(process) = &mut host.process else { return Ok(()) };
        let limits = crate::start::retention();
        process.apply = Some(ApplyDriver::load(&host.disk.state, process.incarnation, limits).expect("first rows load"));
        Ok(())
    }

    pub(crate) fn send(&mut self, at: usize, to: u64, lane: Lane, body: PeerBody) {
        let Some(to) = self.host_of(to).filter(|to| *to != at) else { return };
        if let PeerBody::Raft(bytes) = &body {
            self.trace.fold_bytes(bytes);
        }
        if let Fate::Arrives { at: when, again_at, connection } = self.network.send(self.now, at, to, lane, &body) {
            if let Some(again) = again_at {
                let body = body.clone();
                self.queue.push(again, What::Deliver(Box::new(Delivery { from: at, to, connection, body })));
            }
            self.queue.push(when, What::Deliver(Box::new(Delivery { from: at, to, connection, body })));
        }
    }

    /// A disk that failed stops the node; the supervisor starts it again.
    pub(crate) fn halt_on_disk(&mut self, at: usize, reason: &str) {
        self.trace.say(self.now, || format!("n{}: {reason}: stops", at + 1));
        let down_us = RESTART_US + self.rng.below(RESTART_US);
        self.crash(at, Crash::Kill, down_us);
    }
}

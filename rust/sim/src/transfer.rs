//! Snapshots on their way: sent one at a time (`runtime::snapshot_out`), received into a directory
//! of their own and checked (`runtime::snapshot_in`), installed by log and apply side together.

use std::path::PathBuf;

use codec::peer::SnapshotAnswer;
use machine::Machine;
use node::{ApplyDriver, Event};
use store::memory::MemoryState;
use store::meta_of;

use crate::disk::Disk;
use crate::host::Transfer;
use crate::invariant::Violation;
use crate::world::{What, World};

/// Time for the receiver to verify and install what it has.
const INSTALL_TIMEOUT_US: u64 = 20_000_000;

impl World {
    pub(crate) fn start_transfer(&mut self, at: usize) {
        let number = self.hosts[at].number;
        let Some(process) = &mut self.hosts[at].process else { return };
        if process.sending.is_some() {
            return;
        }
        let Some(transfer) = process.to_send.pop_front() else { return };
        process.sending = Some(transfer.clone());
        let to = self.host_of(transfer.to);
        let sendable = self.hosts[at].disk.checkpoints.contains(&transfer.index)
            && to.is_some_and(|to| self.network.connected(at, to) && self.network.open(at, to));
        let Some(to) = to.filter(|_| sendable) else {
            let when = self.now + self.rng.range(1_000, 20_000);
            self.queue.push(when, What::TransferTimeout { from: at, number, transfer: transfer.number });
            return;
        };
        self.queue.push(self.now + INSTALL_TIMEOUT_US, What::TransferTimeout { from: at, number, transfer: transfer.number });
        let connection = self.network.connection(at, to);
        let when = self.now + self.rng.skewed(5_000, 1_500_000);
        self.queue.push(when, What::SnapshotArrives { from: at, number, transfer: Box::new(transfer), connection });
    }

    /// The transfer of this number, if it is still under way, has ended.
    pub(crate) fn transfer_ended(&mut self, from: usize, number: u64, transfer: u64, installed: bool) {
        let Some(process) = self.hosts[from].process(number) else { return };
        let Some(sending) = process.sending.take_if(|t| t.number == transfer) else { return };
        self.trace
            .say(self.now, || format!("n{}: snapshot {} for {}: installed {installed}", from + 1, sending.index, sending.to));
        self.tell(from, Event::SnapshotSent { to: sending.to, installed });
        self.start_transfer(from);
    }

    pub(crate) fn snapshot_answered(&mut self, at: usize, answer: &SnapshotAnswer) {
        let number = self.hosts[at].number;
        self.transfer_ended(at, number, answer.transfer, answer.installed);
    }

    /// All transfers of a node to a peer break with the connection.
    pub(crate) fn break_transfer(&mut self, from: usize, to: u64) {
        let number = self.hosts[from].number;
        let Some(process) = &self.hosts[from].process else { return };
        if let Some(sending) = process.sending.as_ref().filter(|t| t.to == to) {
            let transfer = sending.number;
            self.transfer_ended(from, number, transfer, false);
        }
    }

    pub(crate) fn snapshot_arrives(
        &mut self,
        from: usize,
        number: u64,
        transfer: Transfer,
        connection: u64,
    ) -> Result<(), Violation> {
        let sending =
            self.hosts[from].process(number).and_then(|p| p.sending.as_ref()).is_some_and(|t| t.number == transfer.number);
        let Some(to) = self.host_of(transfer.to).filter(|_| sending) else { return Ok(()) };
        if self.network.connection(from, to) != connection || !self.hosts[to].up() {
            self.transfer_ended(from, number, transfer.number, false);
            return Ok(());
        }
        let state_dir = self.hosts[to].disk.new_state_dir();
        let path = PathBuf::from(&state_dir);
        let source = self.hosts[from].disk.directories.clone();
        if !source.copy(&Disk::checkpoint_path(transfer.index), &self.hosts[to].disk.directories, &path) {
            self.transfer_ended(from, number, transfer.number, false);
            return Ok(());
        }
        self.verify(to, &path, transfer.index)?;
        self.report.snapshots += 1;
        self.trace.fold(self.now, 4, to as u64, transfer.index);
        self.trace.say(self.now, || format!("n{}: received snapshot {} from n{}", to + 1, transfer.index, from + 1));
        let from = self.hosts[from].raft_id;
        let raft_message = transfer.raft_message;
        self.tell(to, Event::SnapshotReceived { from, transfer: transfer.number, state_dir, raft_message });
        Ok(())
    }

    fn verify(&self, to: usize, path: &std::path::Path, index: u64) -> Result<(), Violation> {
        let bad = |text: String| Err(self.violation("snapshot equals replay", text));
        let Ok(state) = MemoryState::open(&self.hosts[to].disk.directories, path) else {
            return bad(format!("snapshot {index} cannot be opened"));
        };
        let Ok(Some(meta)) = meta_of(&state) else { return bad(format!("snapshot {index} holds no meta row")) };
        if meta.applied_index != index {
            return bad(format!("the snapshot holds the state at {}, not at {index}", meta.applied_index));
        }
        match Machine::hash_of_rows(&state) {
            Ok(hash) if hash.as_slice() == meta.hash => {}
            _ => return bad(format!("the rows of snapshot {index} do not add up to its hash")),
        }
        self.invariants.snapshot(&meta).map_err(|v| v.at(self.now))
    }

    /// The log names the new directory: the apply side uses it from here on.
    pub(crate) fn switch_state(&mut self, at: usize, state_dir: &str, index: u64) -> Result<(), Violation> {
        let host = &mut self.hosts[at];
        if let Err(error) = host.disk.switch_state(state_dir) {
            return Err(self.violation("snapshot equals replay", format!("n{}: {error}", at + 1)));
        }
        let Some(process) = &mut host.process else { return Ok(()) };
        let loaded = ApplyDriver::load(&host.disk.state, process.incarnation, crate::start::retention());
        let driver = match loaded {
            Ok(driver) => driver,
            Err(error) => return Err(self.violation("snapshot equals replay", format!("n{}: {error}", at + 1))),
        };
        if driver.machine().applied_index() != index {
            let found = driver.machine().applied_index();
            let text = format!("n{}: the directory holds the state at {found}, but the log was cut at {index}", at + 1);
            return Err(self.violation("snapshot equals replay", text));
        }
        let report = driver.loaded_report();
        process.apply = Some(driver);
        self.invariants.installed(at, index);
        self.tell(at, Event::SnapshotInstalled(report));
        Ok(())
    }
}

//! The observer's state: entries to apply, what was applied, and snapshots that replace it.

use codec::log::{EntryKind, HardState, LogBase, LogEntry};
use codec::row::{MemberRole, MemberState};

use super::{ObserverDriver, position_of};
use crate::driver::Incoming;
use crate::effect::Effect;
use crate::event::{AppliedReport, ApplyInput, InstalledReport, Token};

impl ObserverDriver {
    /// Entries from the parent: children get them at once, the apply side in order.
    pub(super) fn take_entries(&mut self, entries: Vec<LogEntry>) {
        if entries.is_empty() {
            return;
        }
        self.tail.committed(&entries);
        let mut configurations = Vec::new();
        for entry in entries.iter().filter(|e| e.kind == EntryKind::ConfChange) {
            if let Some(after) = consensus::configuration_after(&self.configuration, &entry.data) {
                self.configuration = after.clone();
                configurations.push((entry.index, after));
            }
        }
        self.effects.push(Effect::Apply(ApplyInput::Entries { entries, configurations }));
    }

    pub(super) fn loaded(&mut self, loaded: InstalledReport) {
        let report = loaded.report;
        self.position = position_of(&report);
        self.session_open = loaded.session_known;
        self.leases.reset_agents(&report.agents);
        self.peers.forget_hashes();
        self.peers.remember_hashes([(report.index, report.hash)]);
        self.applied(AppliedReport { agents: Vec::new(), ..report });
    }

    pub(super) fn applied(&mut self, report: AppliedReport) {
        self.position = position_of(&report);
        self.revision = report.revision;
        self.live_tasks = report.live_tasks;
        if report.log_bytes > 0 {
            self.keeping.applied(report.log_bytes, self.now_us);
        }
        self.clock.observe(report.cluster_us, self.now_us);
        self.peers.remember_hashes(report.hashes);
        if let Some(index) = report.hash_mismatch {
            self.differs(index);
        }
        if let Some(members) = report.members {
            self.peers.set_members(members);
            self.check_membership();
        }
        if report.session_opened {
            self.session_open = true;
        }
        self.leases.agents_changed(&report.agents, self.now_us, self.config.lease_ms * 1_000);
        for (sequence, outcome) in report.resolved {
            if let Some(ended) = self.sessions.resolve(sequence, outcome) {
                self.complete(ended);
            }
        }
        self.complete_reads();
        self.compare();
    }

    /// Compares with the parent's state, as far as it said.
    pub(super) fn compare(&mut self) {
        let index = self.position.index;
        if !self.follow.compare(index, |at| self.peers.hash_at(at)) {
            self.differs(index);
        }
    }

    fn differs(&mut self, index: u64) {
        self.alerts.insert(format!("this observer's state differs from its parent's at or below index {index}: it is replaced"));
        self.follow.diverged(self.now_us);
    }

    pub(super) fn is_member(&self) -> bool {
        self.peers
            .members()
            .iter()
            .any(|m| m.raft_id == self.identity.raft_id && m.role == MemberRole::Observer && m.state == MemberState::Active)
    }

    /// One that was a member and is none any more has been removed: it must not go on answering.
    fn check_membership(&mut self) {
        if self.is_member() {
            self.was_member = true;
        } else if std::mem::take(&mut self.was_member) {
            let reason = format!("{} was removed from the cluster", self.config.node_id);
            self.effects.push(Effect::Removed { reason });
        }
    }

    // ---- snapshots -----------------------------------------------------------------------------

    pub(super) fn take_snapshot(&mut self, token: Token) {
        if self.position.index == 0 {
            let detail = "the node has no state yet".into();
            self.effects.push(Effect::CompleteTask { token, done: false, detail });
            return;
        }
        self.snapshot_tokens.push(token);
        if self.keeping.start_snapshot() {
            self.effects.push(Effect::MakeSnapshot);
        }
    }

    pub(super) fn snapshot_made(&mut self, index: u64, term: u64) {
        self.keeping.snapshot_made(index);
        self.tail.snapshot_made(index, term);
        for token in std::mem::take(&mut self.snapshot_tokens) {
            self.effects.push(Effect::CompleteTask { token, done: true, detail: format!("index {index}") });
        }
    }

    pub(super) fn snapshot_failed(&mut self, reason: &str) {
        self.keeping.snapshot_failed();
        for token in std::mem::take(&mut self.snapshot_tokens) {
            self.effects.push(Effect::CompleteTask { token, done: false, detail: reason.to_owned() });
        }
    }

    /// The files of a snapshot are here: they replace the state if it is older, or known to differ.
    pub(super) fn snapshot_received(&mut self, from: u64, transfer: u64, state_dir: String, raft_message: &[u8]) {
        let position = consensus::snapshot_position(raft_message);
        let wanted = |index| self.installing.is_none() && (index > self.position.index || self.follow.needs_snapshot());
        let Some((index, term)) = position.filter(|(index, _)| wanted(*index)) else {
            let index = position.map_or(0, |(index, _)| index);
            let reason = format!("this observer is past index {index}, or installs another snapshot");
            self.effects.push(Effect::DropSnapshot { state_dir });
            self.effects.push(Effect::AnswerSnapshot { to: from, transfer, index, installed: false, reason });
            return;
        };
        self.installing = Some(Incoming { from, transfer, index, state_dir: state_dir.clone() });
        let base = LogBase { index, term, chain: 0, state_dir };
        let hard_state = HardState { term, vote: 0, commit: index };
        self.effects.push(Effect::InstallSnapshot { number: 0, base, hard_state });
    }

    pub(super) fn snapshot_installed(&mut self, installed: InstalledReport) {
        let index = installed.report.index;
        if let Some(configuration) = &installed.report.configuration {
            self.configuration = configuration.clone();
        }
        self.keeping.installed(index);
        self.tail.forget_window();
        self.loaded(installed);
        self.follow.installed(self.position, self.now_us);
        if let Some(Incoming { from, transfer, .. }) = self.installing.take() {
            self.effects.push(Effect::AnswerSnapshot { to: from, transfer, index, installed: true, reason: String::new() });
        }
        self.session_asked_us = None;
        self.sessions.resend_all();
    }
}

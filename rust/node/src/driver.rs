//! [`Driver`]: the raft side of a node, `Event` in, `Effect` out.
//!
//! What it holds and how it starts; `inputs` takes events, `round` gives effects.
//!
//! What always holds:
//! * nothing is sent, applied or answered in another order than the effects stand in;
//! * a proposal is answered only from this node's own applied state, or when its deadline passes;
//! * a node without a cluster neither votes nor campaigns.

mod inputs;
mod round;

use std::collections::{BTreeMap, BTreeSet};

use codec::command::Command;
use codec::log::{ConfState, HardState, Identity, LogBase, LogEntry};
use codec::peer::{Lane, PeerBody};
use consensus::{Consensus, ConsensusError, Role};

use crate::bootstrap::Gathering;
use crate::clock::ClusterClock;
use crate::config::Config;
use crate::effect::Effect;
use crate::event::{AppliedReport, ApplyInput, InstalledReport, Micros, Token};
use crate::guard::Guard;
use crate::housekeeping::Housekeeping;
use crate::leader::Leader;
use crate::leases::Leases;
use crate::membership::Membership;
use crate::observers::Observers;
use crate::peers::Peers;
use crate::reads::Reads;
use crate::sessions::Sessions;

/// What a node starts with, read from its directory.
pub struct Start {
    pub identity: Identity,
    pub hard_state: HardState,
    pub base: LogBase,
    /// The whole log behind the base.
    pub entries: Vec<LogEntry>,
    pub configuration: ConfState,
    /// What the apply side knows after loading; `None` while there is no cluster.
    pub loaded: Option<InstalledReport>,
    pub now_us: Micros,
    pub wall_us: u64,
}

/// A snapshot that has been received and is on its way through Raft.
pub(crate) struct Incoming {
    pub(crate) from: u64,
    pub(crate) transfer: u64,
    pub(crate) index: u64,
    pub(crate) state_dir: String,
}

pub struct Driver {
    pub(crate) config: Config,
    pub(crate) identity: Identity,
    pub(crate) gathering: Gathering,
    pub(crate) consensus: Option<Consensus>,
    pub(crate) peers: Peers,
    pub(crate) sessions: Sessions,
    pub(crate) session_open: bool,
    pub(crate) session_asked_us: Option<Micros>,
    pub(crate) reads: Reads,
    pub(crate) leases: Leases,
    pub(crate) leader: Leader,
    pub(crate) membership: Membership,
    pub(crate) clock: ClusterClock,
    pub(crate) keeping: Housekeeping,
    pub(crate) guard: Guard,
    pub(crate) now_us: Micros,
    pub(crate) wall_us: u64,
    pub(crate) next_tick_us: Micros,
    pub(crate) next_report_us: Micros,
    pub(crate) applied_index: u64,
    pub(crate) revision: u64,
    pub(crate) hash: [u8; 16],
    pub(crate) live_tasks: u64,
    /// Commands to pack (leader) in the order they came.
    pub(crate) incoming_commands: Vec<Command>,
    /// Beats of local agents that wait for an answer: token → deadline.
    pub(crate) local_beats: BTreeMap<Token, Micros>,
    pub(crate) transfers: Vec<(Token, u64, Micros)>,
    pub(crate) snapshot_tokens: Vec<Token>,
    pub(crate) offers: Vec<Incoming>,
    pub(crate) installing: Option<Incoming>,
    pub(crate) told_leader: (u64, u64),
    pub(crate) elections: u64,
    pub(crate) leader_changes: u64,
    pub(crate) alerts: BTreeSet<String>,
    pub(crate) stopping: Option<Micros>,
    pub(crate) own_load_bp: Option<[u32; 3]>,
    pub(crate) observers: Observers,
    pub(crate) effects: Vec<Effect>,
}

impl Driver {
    pub fn new(mut config: Config, start: Start) -> Result<Self, ConsensusError> {
        config.consensus.seed = config.incarnation;
        let mut driver = Self {
            sessions: Sessions::new(config.incarnation),
            reads: Reads::new(config.incarnation),
            keeping: Housekeeping::new(0, 0),
            guard: Guard::default(),
            identity: start.identity,
            gathering: Gathering::default(),
            consensus: None,
            peers: Peers::default(),
            session_open: false,
            session_asked_us: None,
            leases: Leases::default(),
            leader: Leader::default(),
            membership: Membership::default(),
            clock: ClusterClock::default(),
            now_us: start.now_us,
            wall_us: start.wall_us,
            next_tick_us: start.now_us + config.tick_us,
            next_report_us: start.now_us,
            applied_index: 0,
            revision: 0,
            hash: [0; 16],
            live_tasks: 0,
            incoming_commands: Vec::new(),
            local_beats: BTreeMap::new(),
            transfers: Vec::new(),
            snapshot_tokens: Vec::new(),
            offers: Vec::new(),
            installing: None,
            told_leader: (0, 0),
            elections: 0,
            leader_changes: 0,
            alerts: BTreeSet::new(),
            stopping: None,
            own_load_bp: None,
            observers: Observers::default(),
            effects: Vec::new(),
            config,
        };
        if driver.identity.cluster_id != 0 {
            let base = (start.base.index, start.base.term);
            let (hard_state, configuration, entries) = (start.hard_state, start.configuration, start.entries);
            match start.loaded {
                Some(loaded) => driver.start_consensus(hard_state, configuration, base, entries, loaded)?,
                None => driver.start_without_state(hard_state, base, entries)?,
            }
        } else {
            driver.try_bootstrap()?;
        }
        Ok(driver)
    }

    pub(crate) fn start_consensus(
        &mut self,
        hard_state: HardState,
        configuration: ConfState,
        base: (u64, u64),
        entries: Vec<LogEntry>,
        loaded: InstalledReport,
    ) -> Result<(), ConsensusError> {
        let applied_index = loaded.report.index;
        let mut keeping = Housekeeping::new(applied_index, base.0);
        entries.iter().for_each(|e| keeping.appended(e.index, e.data.len() as u64));
        let start = consensus::Start { raft_id: self.identity.raft_id, hard_state, configuration, base, entries, applied_index };
        let mut consensus = Consensus::new(&self.config.consensus, start)?;
        // Nobody to wait for: a single voter leads at once.
        if consensus.configuration().voters == [self.identity.raft_id] {
            consensus.campaign()?;
        }
        self.consensus = Some(consensus);
        self.keeping = keeping;
        // Rows without an entry hold no stamp yet.
        if let Some(bootstrap) = &self.identity.bootstrap {
            self.clock.observe(bootstrap.seed.as_ref().map_or(bootstrap.wall_us, |seed| seed.cluster_us), self.now_us);
        }
        self.effects.push(Effect::Apply(ApplyInput::Session { session: self.sessions.session() }));
        self.loaded(loaded);
        Ok(())
    }

    /// A member whose log is sound and whose state is not: fenced until it has installed another one.
    fn start_without_state(
        &mut self,
        hard_state: HardState,
        base: (u64, u64),
        entries: Vec<LogEntry>,
    ) -> Result<(), ConsensusError> {
        let raft_id = self.identity.raft_id;
        let configuration = ConfState::default();
        let mut keeping = Housekeeping::new(base.0, base.0);
        entries.iter().for_each(|e| keeping.appended(e.index, e.data.len() as u64));
        let start = consensus::Start { raft_id, hard_state, configuration, base, entries, applied_index: base.0 };
        let mut consensus = Consensus::new(&self.config.consensus, start)?;
        consensus.set_fenced(true);
        self.consensus = Some(consensus);
        self.keeping = keeping;
        self.guard = Guard::without_state();
        self.effects.push(Effect::Apply(ApplyInput::Session { session: self.sessions.session() }));
        Ok(())
    }

    pub(crate) fn loaded(&mut self, loaded: InstalledReport) {
        let report = loaded.report;
        self.applied_index = report.index;
        self.session_open = loaded.session_known;
        self.leases.reset_agents(&report.agents);
        let agents_known = AppliedReport { agents: Vec::new(), ..report };
        self.applied(agents_known);
        self.guard_loaded();
    }

    pub(crate) fn send(&mut self, to: u64, lane: Lane, body: PeerBody) {
        self.effects.push(Effect::Send { to, lane, body });
    }

    pub(crate) fn halt(&mut self, reason: String) {
        self.effects.push(Effect::Halt { reason });
    }

    /// The consensus below: term, role, indexes, configuration. `None` without a cluster.
    pub fn consensus(&self) -> Option<&Consensus> {
        self.consensus.as_ref()
    }

    pub fn is_leader(&self) -> bool {
        self.consensus.as_ref().is_some_and(|c| c.role() == Role::Leader)
    }

    pub(crate) fn leader_peer(&self) -> Option<u64> {
        self.consensus.as_ref().map(Consensus::leader).filter(|id| *id != 0 && *id != self.identity.raft_id)
    }

    /// When the driver wants to be ticked next, in monotonic time.
    pub fn next_wake_us(&self) -> Micros {
        self.observers_due_us().map_or(self.next_tick_us, |due| due.clamp(self.now_us, self.next_tick_us))
    }

    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Number of this process's session.
    pub fn session(&self) -> u64 {
        self.sessions.session()
    }
}

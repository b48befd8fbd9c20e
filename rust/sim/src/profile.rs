//! What may go wrong in a run, and how much of it: one budget for each profile.
//!
//! Safety must hold whatever fails. The budgets bound how *often* things fail, so that the cluster
//! makes progress between faults, and name what each profile is about. After the last fault
//! everything heals, and the cluster must converge.

use crate::rng::Rng;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Profile {
    /// Nothing breaks: connections are reset, leadership is handed over, disks and links are slow at times.
    Calm,
    /// Splits, isolated leaders, one-way links, rings, flapping; messages dropped, delayed, doubled, reordered.
    Partition,
    /// Partial connectivity: two sides that see each other only through one node (etcd at Cloudflare, 2020).
    Bridge,
    /// Processes killed, single and all at once; power lost, single and all at once; pauses.
    Crash,
    /// Failing, slow and stalling disks, power loss with torn and lost writes.
    Disk,
    /// Changes of voters and learners under partitions and crashes.
    Membership,
    /// A short log and a small cache: followers live on snapshots and on entries read from disk.
    Snapshot,
    /// Agents paused beyond their lease, zombies, crashes, re-registration, clocks up to an hour off.
    Agents,
    /// All of it.
    Everything,
}

/// One kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// The nodes fall into two sides.
    Split,
    /// The leader alone.
    IsolateLeader,
    /// Messages of one node (mostly the leader) get out, or in, but not both.
    OneWay,
    /// Two sides, and one node that sees both.
    Bridge,
    /// The leader falls off with one follower, whose disk is still at the old leader's entries when
    /// both are back and the new leader's replace them.
    SlowMinority,
    /// Each node sees its two neighbours only.
    Ring,
    /// One node's links go up and down every half second.
    Flap,
    /// Dropped, doubled and reordered messages on all links for a while.
    LossyNet,
    /// Every link slow by up to half a second.
    SlowNet,
    /// A connection breaks and comes back.
    Reset,
    /// The process ends and starts again: memory is gone, the disk is as it was written.
    Kill,
    KillLeader,
    KillAll,
    /// The machine loses power: what was not synced is lost or torn.
    Power,
    PowerAll,
    /// The process stands still (SIGSTOP) for up to 3 s.
    Pause,
    PauseLeader,
    /// The next write of log or state fails: the process stops, and starts again.
    WriteError,
    /// Every write takes 100 ms to 2 s.
    SlowDisk,
    /// One write does not return for a while.
    StallDisk,
    /// A synced record of the log goes bad, and the machine restarts: it must not take part again.
    Rot,
    TransferLeader,
    TakeSnapshot,
    /// Snapshot transfers under way break.
    BreakTransfers,
    /// The apply side stands still.
    StallApply,
    /// The wall clock jumps.
    ClockJump,
    /// An agent stands still beyond its lease, wakes, and goes on as if nothing had been.
    PauseAgent,
    /// An agent's process dies; another one registers under its name.
    CrashAgent,
    /// An agent moves to another node.
    MoveAgent,
    /// An empty directory is started and invited, as a voter or a learner.
    AddMember,
    /// A member is removed, the leader among them; at least three voters stay.
    RemoveMember,
    /// A node is lost for good; an empty directory takes its name and, by one command, its place.
    /// One at a time.
    ReplaceMember,
}

/// How a run of a profile is set up. Drawn from the seed within the profile's bounds.
#[derive(Clone, Debug)]
pub struct Budget {
    pub kinds: &'static [(Kind, u32)],
    /// Faults in the first phase, which lasts `fault_us`.
    pub faults: u64,
    pub fault_us: u64,
    /// Client operations of the whole run.
    pub operations: u32,
    pub clients: usize,
    pub agents: usize,
    /// Basis points of messages, all the time.
    pub drop_bp: u64,
    pub duplicate_bp: u64,
    pub reorder_bp: u64,
    /// One-way delay of a message.
    pub delay_us: (u64, u64),
    /// Duration of a synced write.
    pub sync_us: (u64, u64),
    pub skew_ms_max: u64,
    pub keep_entries: u64,
    pub flush_dirty_ms: u64,
    /// Empty directories that can be taken in.
    pub spares: usize,
    /// Bytes of entries kept in memory; older ones are read back from disk.
    pub tail_bytes_max: usize,
    /// Bytes of entries in one append: small ones make a follower catch up in many steps.
    pub message_bytes_max: u64,
}

use Kind::*;

const CALM: &[(Kind, u32)] = &[(Reset, 4), (TransferLeader, 3), (SlowNet, 1), (SlowDisk, 1), (TakeSnapshot, 1), (MoveAgent, 2)];
const PARTITION: &[(Kind, u32)] = &[
    (Split, 5),
    (IsolateLeader, 4),
    (OneWay, 4),
    (Ring, 2),
    (Flap, 3),
    (LossyNet, 3),
    (SlowNet, 2),
    (Reset, 3),
    (TransferLeader, 1),
];
const BRIDGE: &[(Kind, u32)] =
    &[(Kind::Bridge, 8), (Ring, 3), (OneWay, 3), (Flap, 2), (Reset, 2), (IsolateLeader, 1), (TransferLeader, 1)];
const CRASH: &[(Kind, u32)] = &[
    (Kill, 5),
    (KillLeader, 5),
    (KillAll, 1),
    (Power, 4),
    (PowerAll, 1),
    (Pause, 3),
    (PauseLeader, 2),
    (Reset, 1),
    (TransferLeader, 1),
];
const DISK: &[(Kind, u32)] = &[
    (WriteError, 5),
    (SlowDisk, 4),
    (StallDisk, 4),
    (Power, 4),
    (PowerAll, 2),
    (StallApply, 2),
    (TakeSnapshot, 2),
    (KillLeader, 2),
    (TransferLeader, 1),
];
const SNAPSHOT: &[(Kind, u32)] = &[
    (IsolateLeader, 2),
    (Split, 3),
    (Kill, 3),
    (Power, 2),
    (BreakTransfers, 4),
    (TakeSnapshot, 5),
    (StallDisk, 2),
    (StallApply, 2),
    (Pause, 3),
    (Reset, 2),
];
const AGENTS: &[(Kind, u32)] = &[
    (PauseAgent, 8),
    (CrashAgent, 4),
    (MoveAgent, 3),
    (KillLeader, 2),
    (IsolateLeader, 2),
    (PauseLeader, 2),
    (ClockJump, 3),
    (TransferLeader, 2),
    (Split, 1),
];
const MEMBERSHIP: &[(Kind, u32)] = &[
    (AddMember, 5),
    (RemoveMember, 3),
    (ReplaceMember, 4),
    (Split, 3),
    (IsolateLeader, 3),
    (OneWay, 1),
    (Kill, 2),
    (KillLeader, 3),
    (Power, 1),
    (Reset, 2),
    (TransferLeader, 4),
    (Pause, 1),
];
const EVERYTHING: &[(Kind, u32)] = &[
    (Split, 3),
    (IsolateLeader, 3),
    (OneWay, 2),
    (Kind::Bridge, 2),
    (Ring, 1),
    (Flap, 2),
    (LossyNet, 2),
    (SlowNet, 1),
    (Reset, 2),
    (Kill, 2),
    (KillLeader, 3),
    (KillAll, 1),
    (Power, 2),
    (PowerAll, 1),
    (Pause, 2),
    (PauseLeader, 2),
    (WriteError, 2),
    (SlowDisk, 2),
    (StallDisk, 2),
    (TransferLeader, 2),
    (TakeSnapshot, 2),
    (BreakTransfers, 2),
    (StallApply, 2),
    (ClockJump, 1),
    (PauseAgent, 3),
    (CrashAgent, 2),
    (MoveAgent, 1),
    (AddMember, 1),
    (RemoveMember, 1),
    (ReplaceMember, 1),
];

impl Profile {
    pub const ALL: [Profile; 9] = [
        Profile::Calm,
        Profile::Partition,
        Profile::Bridge,
        Profile::Crash,
        Profile::Disk,
        Profile::Membership,
        Profile::Snapshot,
        Profile::Agents,
        Profile::Everything,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Profile::Calm => "calm",
            Profile::Partition => "partition",
            Profile::Bridge => "bridge",
            Profile::Crash => "crash",
            Profile::Disk => "disk",
            Profile::Membership => "membership",
            Profile::Snapshot => "snapshot",
            Profile::Agents => "agents",
            Profile::Everything => "everything",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|p| p.name() == name)
    }

    /// The budget of one seed.
    pub fn budget(self, rng: &mut Rng) -> Budget {
        let kinds = match self {
            Profile::Calm => CALM,
            Profile::Partition => PARTITION,
            Profile::Bridge => BRIDGE,
            Profile::Crash => CRASH,
            Profile::Disk => DISK,
            Profile::Membership => MEMBERSHIP,
            Profile::Snapshot => SNAPSHOT,
            Profile::Agents => AGENTS,
            Profile::Everything => EVERYTHING,
        };
        let mut budget = Budget {
            kinds,
            faults: rng.range(21, 27),
            fault_us: rng.range(6_000_000, 8_500_000),
            operations: 304,
            clients: 8,
            agents: 4,
            drop_bp: 0,
            duplicate_bp: 0,
            reorder_bp: 0,
            delay_us: (100, 1_000),
            sync_us: (100, 3_000),
            skew_ms_max: 200,
            keep_entries: 2_000,
            flush_dirty_ms: 2_000,
            spares: 0,
            tail_bytes_max: 1 << 20,
            message_bytes_max: 1 << 20,
        };
        let noisy = matches!(self, Profile::Partition | Profile::Bridge | Profile::Membership | Profile::Everything);
        if noisy && rng.chance(5_000) {
            budget.drop_bp = rng.below(300);
            budget.duplicate_bp = rng.below(300);
            budget.reorder_bp = rng.below(1_000);
        }
        if rng.chance(1_500) {
            budget.delay_us = (2_000, 20_000);
        }
        if self == Profile::Snapshot || (self == Profile::Everything && rng.chance(5_000)) {
            budget.keep_entries = rng.range(8, 60);
            budget.flush_dirty_ms = rng.range(100, 1_000);
            budget.tail_bytes_max = rng.range(256, 8_192) as usize;
        } else if rng.chance(2_000) {
            budget.keep_entries = rng.range(20, 200);
            budget.flush_dirty_ms = rng.range(200, 2_000);
            budget.tail_bytes_max = 4_096;
        }
        if self == Profile::Membership || (self == Profile::Everything && rng.chance(3_000)) {
            budget.spares = 5;
        }
        if matches!(self, Profile::Agents | Profile::Everything) {
            budget.agents = 6;
            if rng.chance(3_000) {
                budget.skew_ms_max = 3_600_000;
            }
        }
        budget
    }
}

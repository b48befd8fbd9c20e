//! Text scenarios: what a group of members says and does, step by step, compared with recorded output.
//!
//! A line that begins with `> ` is a command, the lines below it are its output. `UPDATE=1` records
//! the output anew. Messages wait on the wire until they are delivered; a member whose disk is
//! `held` persists only when told to. Time does not pass by itself: timeouts are `campaign`s.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Write as _;
use std::path::Path;

use codec::log::{ConfState, EntryKind, HardState, LogEntry};
use consensus::{Consensus, ConsensusConfig, ConsensusError, MemberChange, Outgoing, Start};
use protobuf::Message as _;
use raft::eraftpb::{Message, MessageType};

#[derive(Default)]
struct Disk {
    hard_state: HardState,
    log: Vec<LogEntry>,
}

/// Number of a round, and what it asked to persist.
type Unsynced = (u64, Vec<LogEntry>, Option<HardState>);

#[derive(Default)]
struct Group {
    members: BTreeMap<u64, Consensus>,
    disks: BTreeMap<u64, Disk>,
    waiting: BTreeMap<u64, Vec<Unsynced>>,
    held: BTreeSet<u64>,
    cut: BTreeSet<(u64, u64)>,
    wire: VecDeque<Message>,
    applied: BTreeMap<u64, Vec<String>>,
    /// Voters of the first configuration.
    first: Vec<u64>,
    out: String,
}

fn id(word: &str) -> u64 {
    word.parse().unwrap_or_else(|_| panic!("{word} is no member"))
}

fn show(message: &Message) -> String {
    let kind = format!("{:?}", message.get_msg_type());
    let mut text = format!("{} -> {} {} term {}", message.from, message.to, kind.trim_start_matches("Msg"), message.term);
    match message.get_msg_type() {
        MessageType::MsgAppend => {
            let entries: Vec<_> = message.entries.iter().map(|e| format!("{}/{}", e.index, e.term)).collect();
            let _ = write!(
                text,
                " after {}/{} entries [{}] commit {}",
                message.index,
                message.log_term,
                entries.join(" "),
                message.commit
            );
        }
        MessageType::MsgAppendResponse if message.reject => {
            let _ = write!(text, " rejects {} hint {}/{}", message.index, message.reject_hint, message.log_term);
        }
        MessageType::MsgAppendResponse => {
            let _ = write!(text, " matches {}", message.index);
        }
        MessageType::MsgRequestVote | MessageType::MsgRequestPreVote => {
            let _ = write!(text, " log {}/{}", message.index, message.log_term);
        }
        MessageType::MsgRequestVoteResponse | MessageType::MsgRequestPreVoteResponse => {
            text.push_str(if message.reject { " no" } else { " yes" });
        }
        _ => {}
    }
    text
}

impl Group {
    fn start(&mut self, member: u64) {
        // Also of one that joins later: it gets to know the others' changes from the log.
        let voters = self.first.clone();
        let disk = &self.disks[&member];
        let start = Start {
            raft_id: member,
            hard_state: disk.hard_state.clone(),
            configuration: ConfState { voters, ..ConfState::default() },
            base: (0, 0),
            entries: disk.log.clone(),
            applied_index: 0,
        };
        // No timeout fires by itself: drawn below 2^40 ticks, none is ever reached.
        let config = ConsensusConfig { election_ticks_max: 1 << 40, ..ConsensusConfig::default() };
        let consensus = Consensus::new(&config, start).expect("starts");
        self.members.insert(member, consensus);
        self.applied.insert(member, Vec::new());
        self.waiting.insert(member, Vec::new());
    }

    fn drain(&mut self, member: u64) {
        loop {
            let Some(round) = self.members.get_mut(&member).and_then(Consensus::ready) else { return };
            for message in round.messages {
                self.put(message);
            }
            for (read, index) in round.readable {
                let _ = writeln!(self.out, "{member} may read round {read} at {index}");
            }
            for entry in round.committed {
                let configuration = round.configurations.iter().find(|(index, _)| *index == entry.index);
                let text = if let Some((_, configuration)) = configuration {
                    shown(configuration)
                } else if entry.kind == EntryKind::ConfChange {
                    "a configuration that was refused".into()
                } else if entry.data.is_empty() {
                    "no-op".into()
                } else {
                    String::from_utf8_lossy(&entry.data).into_owned()
                };
                let _ = writeln!(self.out, "{member} commits {}/{} {text}", entry.index, entry.term);
                self.applied.entry(member).or_default().push(text);
                if let Some(consensus) = self.members.get_mut(&member) {
                    consensus.applied(entry.index);
                }
            }
            if round.persist != 0 {
                self.waiting.entry(member).or_default().push((round.persist, round.entries, round.hard_state));
                if !self.held.contains(&member) {
                    self.persist(member);
                }
            }
        }
    }

    fn persist(&mut self, member: u64) {
        for (number, entries, hard_state) in std::mem::take(self.waiting.entry(member).or_default()) {
            let disk = self.disks.get_mut(&member).expect("a disk");
            if let Some(first) = entries.first() {
                disk.log.retain(|e| e.index < first.index);
                disk.log.extend(entries);
            }
            if let Some(state) = hard_state {
                disk.hard_state = state;
            }
            if let Some(consensus) = self.members.get_mut(&member) {
                consensus.persisted(number);
            }
        }
        self.drain(member);
    }

    fn put(&mut self, message: Outgoing) {
        self.wire.push_back(Message::parse_from_bytes(&message.bytes).expect("a message"));
    }

    fn deliver(&mut self, link: Option<(u64, u64)>) {
        for _ in 0..10_000 {
            let at = self.wire.iter().position(|m| link.is_none_or(|l| l == (m.from, m.to)));
            let Some(message) = at.and_then(|at| self.wire.remove(at)) else { return };
            let (from, to) = (message.from, message.to);
            if self.cut.contains(&(from, to)) || !self.members.contains_key(&to) {
                let _ = writeln!(self.out, "lost: {}", show(&message));
                continue;
            }
            let _ = writeln!(self.out, "{}", show(&message));
            let bytes = message.write_to_bytes().expect("encodes");
            self.members.get_mut(&to).expect("a member").step(&bytes).expect("steps");
            self.drain(to);
        }
        panic!("the group does not settle");
    }

    fn command(&mut self, line: &str) {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["members", count] => {
                self.first = (1..=id(count)).collect();
                self.disks = (1..=id(count)).map(|m| (m, Disk::default())).collect();
                (1..=id(count)).for_each(|m| self.start(m));
            }
            // A member with an empty log, which the configuration does not name yet.
            ["join", member] => {
                self.disks.insert(id(member), Disk::default());
                self.start(id(member));
            }
            // change LEADER voter=N|learner=N|remove=N …
            ["change", member, changes @ ..] => {
                let changes: Vec<_> = changes.iter().map(|c| change(c)).collect();
                let taken = self.members.get_mut(&id(member)).expect("a member").change_members(&changes);
                self.refused(taken);
                self.drain(id(member));
            }
            ["leave-joint", member] => {
                let taken = self.members.get_mut(&id(member)).expect("a member").leave_joint();
                self.refused(taken);
                self.drain(id(member));
            }
            ["campaign", member] => {
                self.members.get_mut(&id(member)).expect("a member").campaign().expect("campaigns");
                self.drain(id(member));
            }
            ["tick", member, ticks] => {
                for _ in 0..id(ticks) {
                    self.members.get_mut(&id(member)).expect("a member").tick();
                    self.drain(id(member));
                }
            }
            ["propose", member, data @ ..] => {
                for text in data {
                    let taken = self.members.get_mut(&id(member)).expect("a member").propose(text.as_bytes().to_vec());
                    if let Err(error) = taken {
                        let _ = writeln!(self.out, "refused: {error}");
                    }
                }
                self.drain(id(member));
            }
            ["read", member, round] => {
                let begun = self.members.get_mut(&id(member)).expect("a member").read_index(id(round));
                if !begun {
                    self.out.push_str("refused: nothing of this term is committed here\n");
                }
                self.drain(id(member));
            }
            ["transfer", member, to] => {
                self.members.get_mut(&id(member)).expect("a member").transfer_leader(id(to));
                self.drain(id(member));
            }
            ["deliver"] => self.deliver(None),
            ["deliver", from, to] => self.deliver(Some((id(from), id(to)))),
            ["cut", a, b] => self.cut.extend([(id(a), id(b)), (id(b), id(a))]),
            ["cut-one-way", from, to] => self.cut.extend([(id(from), id(to))]),
            ["heal"] => self.cut.clear(),
            ["hold", member] => self.held.extend([id(member)]),
            ["sync", member] => self.persist(id(member)),
            ["release", member] => {
                self.held.remove(&id(member));
                self.persist(id(member));
            }
            ["crash", member] => {
                self.members.remove(&id(member));
                self.waiting.remove(&id(member));
                self.wire.retain(|m| m.from != id(member));
            }
            ["restart", member] => self.start(id(member)),
            ["status"] => self.status(),
            _ => panic!("unknown command: {line}"),
        }
    }

    fn refused(&mut self, taken: Result<(), ConsensusError>) {
        if let Err(error) = taken {
            let _ = writeln!(self.out, "refused: {error}");
        }
    }

    fn status(&mut self) {
        for (member, consensus) in &self.members {
            let log: Vec<_> = self.disks[member].log.iter().map(|e| format!("{}/{}", e.index, e.term)).collect();
            let _ = writeln!(
                self.out,
                "{member} {} term {} leader {} commit {} disk [{}]",
                consensus.role().name(),
                consensus.term(),
                consensus.leader(),
                consensus.commit_index(),
                log.join(" ")
            );
        }
    }
}

fn change(word: &str) -> MemberChange {
    match word.split_once('=').expect("kind=member") {
        ("voter", member) => MemberChange::AddVoter(id(member)),
        ("learner", member) => MemberChange::AddLearner(id(member)),
        ("remove", member) => MemberChange::Remove(id(member)),
        (kind, _) => panic!("unknown change: {kind}"),
    }
}

fn shown(configuration: &ConfState) -> String {
    let ConfState { voters, learners, voters_outgoing, learners_next, .. } = configuration;
    let part = |name: &str, ids: &[u64]| if ids.is_empty() { String::new() } else { format!(" {name} {ids:?}") };
    let parts = [("voters", voters), ("learners", learners), ("outgoing", voters_outgoing), ("learners next", learners_next)];
    let parts: String = parts.into_iter().map(|(name, ids)| part(name, ids)).collect();
    format!("configuration:{parts}")
}

fn run(text: &str) -> String {
    let mut group = Group::default();
    let mut record = String::new();
    for line in text.lines() {
        if let Some(command) = line.strip_prefix("> ") {
            group.command(command);
            let output = std::mem::take(&mut group.out);
            let _ = write!(record, "{line}\n{output}");
        } else if line.starts_with('#') || line.is_empty() {
            let _ = writeln!(record, "{line}");
        }
    }
    record
}

#[test]
fn the_election_timeout_is_drawn_anew_for_each_term() {
    let mut group = Group::default();
    group.command("members 3");
    let mut drawn = BTreeSet::new();
    for member in [1, 2].into_iter().cycle().take(20) {
        // Nobody heard of a leader for a whole timeout: the next candidate gets every vote.
        (1..=3).for_each(|m| group.command(&format!("tick {m} 50")));
        group.wire.clear();
        group.command(&format!("campaign {member}"));
        group.command("deliver");
        drawn.insert(group.members[&3].election_timeout_ticks());
    }
    assert!(group.members[&3].term() > 10, "terms have passed");
    assert!(drawn.len() > 1, "one timeout for all terms: {drawn:?}");
}

#[test]
fn scenarios_say_and_do_what_was_recorded() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let mut files: Vec<_> = std::fs::read_dir(&folder).expect("the folder").map(|f| f.expect("a file").path()).collect();
    files.sort();
    assert!(files.len() >= 8, "the scenarios are there");
    for file in files {
        let expected = std::fs::read_to_string(&file).expect("a scenario");
        let record = run(&expected);
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&file, record).expect("recorded");
        } else {
            assert_eq!(record, expected, "{}: run with UPDATE=1 to record it anew", file.display());
        }
    }
}

//! Runs the scenarios in `tests/scenarios/*.txt`: each line is one command in an entry of its own,
//! and the lines with `>` below it record what it came to and the events it raised.
//!
//! `UPDATE=1 cargo test -p machine --test scenarios` records them again; read the difference.
//! The words are explained where they are read, in [`Scenario::line`]. After every line the state
//! is checked against a full scan of its rows, as the property test does.

mod common;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use codec::command::*;
use codec::row::{self, AgentStatus, Cf, DrainState, Event, EventKind, EventRow, MemberRole, MemberState, Status};
use codec::{Outcome, Refusal, TaskId};
use common::{Cluster, id, register, spec};

struct Scenario {
    cluster: Cluster,
    /// Tasks are named in the text; ids follow the order of first mention.
    names: BTreeMap<String, TaskId>,
}

/// One line's words: a verb, plain arguments, `key=value` options and bare flags.
struct Words<'a> {
    plain: Vec<&'a str>,
    options: BTreeMap<&'a str, &'a str>,
}

impl<'a> Words<'a> {
    fn of(line: &'a str) -> Self {
        let (mut plain, mut options) = (Vec::new(), BTreeMap::new());
        for word in line.split_whitespace() {
            match word.split_once('=') {
                Some((key, value)) => {
                    options.insert(key, value);
                }
                None => plain.push(word),
            }
        }
        Self { plain, options }
    }

    fn at(&self, position: usize) -> &'a str {
        self.plain.get(position).copied().unwrap_or_else(|| panic!("word {position} is missing in {:?}", self.plain))
    }

    fn flag(&self, flag: &str) -> bool {
        self.plain.contains(&flag)
    }

    fn number(&self, key: &str) -> Option<u64> {
        self.options.get(key).map(|v| v.parse().unwrap_or_else(|_| panic!("{key} is not a number")))
    }

    fn list(&self, key: &str) -> Vec<&'a str> {
        self.options.get(key).map(|v| v.split(',').collect()).unwrap_or_default()
    }
}

impl Scenario {
    fn task(&mut self, name: &str) -> TaskId {
        let next = id(self.names.len() as u64 + 1);
        *self.names.entry(name.to_owned()).or_insert(next)
    }

    fn name(&self, task: TaskId) -> String {
        self.names.iter().find(|(_, id)| **id == task).map_or_else(|| task.to_string(), |(name, _)| name.clone())
    }

    /// submit NAME [after=A,B] [on=fail|skip|run] [attempts=N] [run_ms= queue_ms= total_ms=] [wait_ms=] [slots=] [key=] [body=]
    fn spec(&mut self, name: &str, words: &Words<'_>) -> TaskSpec {
        let task = self.task(name);
        let dependencies = words.list("after").into_iter().map(|d| self.task(d).to_vec()).collect();
        let not_before_wall_us = words.number("wait_ms").map_or(0, |ms| self.cluster.wall_us + ms * 1_000);
        let slots = Amount { name: "slots".into(), amount: words.number("slots").unwrap_or(1) };
        TaskSpec {
            name: name.into(),
            dependencies,
            not_before_wall_us,
            on_dependency_failure: match words.options.get("on") {
                Some(&"skip") => DependencyFailure::Skip as i32,
                Some(&"run") => DependencyFailure::Run as i32,
                _ => DependencyFailure::Fail as i32,
            },
            run_ms: words.number("run_ms").unwrap_or(0),
            queue_ms: words.number("queue_ms").unwrap_or(0),
            total_ms: words.number("total_ms").unwrap_or(0),
            optional: words.flag("optional"),
            retry: words.number("attempts").map(|n| RetryPolicy {
                max_attempts: n as u32,
                backoff_ms: 200,
                factor_milli: 2_000,
                max_backoff_ms: 60_000,
                non_retryable: vec!["fatal".into()],
            }),
            requirements: Some(Requirements { resources: vec![slots], ..Requirements::default() }),
            ..spec(task)
        }
    }

    /// dag NAME join=all|any|quorum:N then one `child` per `;`: `dag d join=all ; a ; b after=a`
    fn dag(&mut self, line: &str) -> Body {
        let mut parts = line.split(';');
        let words = Words::of(parts.next().unwrap_or_default());
        let parent = self.task(words.at(1));
        let join = match words.options.get("join").copied().unwrap_or("all") {
            "any" => Join { policy: JoinPolicy::Any as i32, count: 0 },
            join if join.starts_with("quorum:") => {
                Join { policy: JoinPolicy::Quorum as i32, count: join[7..].parse().expect("a number") }
            }
            _ => Join { policy: JoinPolicy::All as i32, count: 0 },
        };
        let mut tasks = vec![TaskSpec { join: Some(join), name: words.at(1).into(), ..spec(parent) }];
        for part in parts {
            let words = Words::of(part);
            let child = self.spec(words.at(0), &words);
            tasks.push(TaskSpec { parent_id: parent.to_vec(), ..child });
        }
        Body::Submit(Submit { tenant: "default".into(), body_hash: vec![1; 16], tasks, ..Submit::default() })
    }

    /// Epoch and agent of a claim: as the task stands, unless the line says otherwise.
    fn claim(&mut self, words: &Words<'_>) -> (Vec<u8>, u32, String) {
        let task = self.task(words.at(1));
        let row = self.cluster.row(task).unwrap_or_default();
        let epoch = words.number("epoch").map_or(row.epoch, |e| e as u32);
        let agent = words.options.get("agent").map_or(row.assigned_agent_id, |a| (*a).to_owned());
        (task.to_vec(), epoch, agent)
    }

    fn assign(&mut self, words: &Words<'_>) -> Body {
        let (task_id, epoch, _) = self.claim(words);
        let agent_id = words.at(2).to_owned();
        let agent_epoch = self.cluster.machine.agent(&agent_id).map_or(0, |a| a.row().agent_epoch);
        Body::Assign(Assign { items: vec![Assignment { task_id, epoch, agent_id, agent_epoch, terms: vec![] }] })
    }

    /// Commands on members. `dead=1,2`: raft ids that the leader does not hear.
    fn member(&self, verb: &str, words: &Words<'_>) -> Option<Body> {
        let node_id = words.at(1).to_owned();
        let dead: Vec<u64> = words.list("dead").iter().filter_map(|id| id.parse().ok()).collect();
        let alive = (1..100).filter(|id| !dead.contains(id)).collect();
        let address = words.options.get("at").map(|a| (*a).to_owned()).unwrap_or_default();
        let raft_id = words.number("id").unwrap_or_default();
        Some(match verb {
            // add NODE [at=host:port] [role=learner] [dead=]
            "add" => {
                let name = words.options.get("role").copied().unwrap_or("voter");
                let role = MemberRole::ALL.into_iter().find(|r| r.name() == name).expect("a role");
                Body::AddMember(AddMember { node_id, address, role: role as i32, alive })
            }
            // remove NODE [dead=]; replace NODE [at=] [dead=]
            "remove" => Body::RemoveMember(RemoveMember { node_id, alive }),
            "replace" => Body::ReplaceMember(ReplaceMember { node_id, address, alive }),
            // admit NODE id= [retires=]; swap LEARNER VOTER; settle NODE [state=leaving]
            "admit" => Body::AdmitMember(AdmitMember { node_id, raft_id, retires: words.number("retires").unwrap_or_default() }),
            "swap" => Body::SwapVoter(SwapVoter { learner: node_id, voter: words.at(2).into() }),
            "settle" => {
                let (_, row) = self.cluster.machine.members().find(|(id, _)| *id == node_id)?;
                let state = if words.flag("late") { MemberState::Replacing as i32 } else { row.state };
                Body::SettleMember(SettleMember { raft_id: row.raft_id, state, role: row.role, node_id })
            }
            _ => return None,
        })
    }

    fn line(&mut self, line: &str) -> Body {
        let words = Words::of(line);
        match words.at(0) {
            // agent NAME [node=n1] [slots=1]
            "agent" => {
                register(words.at(1), words.options.get("node").copied().unwrap_or("n1"), words.number("slots").unwrap_or(1))
            }
            "leave" => Body::LeaveAgent(LeaveAgent { agent_id: words.at(1).into() }),
            // drain|resume AGENT
            verb @ ("drain" | "resume") => Body::DrainAgent(DrainAgent { agent_id: words.at(1).into(), drain: verb == "drain" }),
            // drain-node NODE [ms=]; resume-node NODE
            verb @ ("drain-node" | "resume-node") => Body::DrainNode(DrainNode {
                node_id: words.at(1).into(),
                drain: verb == "drain-node",
                deadline_ms: words.number("ms").unwrap_or(3_600_000),
            }),
            "submit" => {
                let spec = self.spec(words.at(1), &words);
                let idempotency_key = words.options.get("key").map(|k| (*k).to_owned()).unwrap_or_default();
                let body_hash = words.options.get("body").map_or(vec![1; 16], |b| b.as_bytes().to_vec());
                Body::Submit(Submit { tenant: "default".into(), idempotency_key, body_hash, tasks: vec![spec] })
            }
            "dag" => self.dag(line),
            // assign TASK AGENT [epoch=]
            "assign" => self.assign(&words),
            // start|complete|fail TASK [epoch= agent=] [code=] [final]
            "start" => {
                let (task_id, epoch, agent_id) = self.claim(&words);
                Body::Start(Start { task_id, epoch, agent_id })
            }
            "progress" => {
                let (task_id, epoch, agent_id) = self.claim(&words);
                Body::Progress(Progress { task_id, epoch, agent_id, progress_bp: Some(5_000), ..Progress::default() })
            }
            "complete" => {
                let (task_id, epoch, agent_id) = self.claim(&words);
                Body::Complete(Complete { task_id, epoch, agent_id, result: b"1".to_vec(), ..Complete::default() })
            }
            "fail" => {
                let (task_id, epoch, agent_id) = self.claim(&words);
                let code = words.options.get("code").copied().unwrap_or("boom").to_owned();
                Body::Fail(Fail { task_id, epoch, agent_id, code, retryable: !words.flag("final"), ..Fail::default() })
            }
            // cancel TASK [kill] [grace_ms=]
            "cancel" => {
                let task_id = self.task(words.at(1)).to_vec();
                Body::Cancel(Cancel { task_id, kill: words.flag("kill"), grace_ms: words.number("grace_ms").unwrap_or(30_000) })
            }
            // reschedule TASK [without=AGENT,…] [wait_ms=]
            "reschedule" => Body::Reschedule(Reschedule {
                task_id: self.task(words.at(1)).to_vec(),
                exclude_agents: words.list("without").into_iter().map(str::to_owned).collect(),
                priority: None,
                not_before_wall_us: words.number("wait_ms").map(|ms| self.cluster.wall_us + ms * 1_000),
            }),
            "retry" => Body::Retry(Retry { task_id: self.task(words.at(1)).to_vec() }),
            // lose AGENT: the leader saw its lease run out
            "lose" => {
                let agent_epoch = self.cluster.machine.agent(words.at(1)).map_or(0, |a| a.row().agent_epoch);
                let agents = vec![ExpiredAgent { agent_id: words.at(1).into(), agent_epoch }];
                Body::Expire(Expire { agents, ..Expire::default() })
            }
            // put KEY VALUE [if=REVISION | absent]; delete KEY
            "put" => {
                let absent = words.flag("absent").then_some(KeyCondition::Absent(true));
                let condition = words.number("if").map(KeyCondition::Revision).or(absent);
                let (key, value) = (words.at(1).into(), words.at(2).as_bytes().to_vec());
                Body::PutKey(PutKey { tenant: "default".into(), key, value, condition })
            }
            "delete" => Body::DeleteKey(DeleteKey { tenant: "default".into(), key: words.at(1).into(), condition: None }),
            // wait MS: time passes, and the leader proposes what is due
            "wait" => {
                self.cluster.advance_ms(words.at(1).parse().expect("milliseconds"));
                let due = self.cluster.machine.due(self.cluster.cluster_us, self.cluster.wall_us, 100);
                due.map_or(Body::ClockAdvance(ClockAdvance {}), Body::Expire)
            }
            // forget: the leader keeps no ended task
            "forget" => {
                let limits = machine::RetentionLimits { tasks_max: 0, ..Default::default() };
                let retention = self.cluster.machine.retention(&self.cluster.rows, &limits, 100).expect("readable");
                retention.map_or(Body::ClockAdvance(ClockAdvance {}), Body::Retention)
            }
            verb => self.member(verb, &words).unwrap_or_else(|| panic!("unknown verb {verb}")),
        }
    }

    /// `show NAME`: the task's row; `show-agent NAME`; `show-node NAME`.
    fn show(&mut self, words: &Words<'_>) -> Option<String> {
        match words.at(0) {
            "show" => {
                let task = self.task(words.at(1));
                let Some(row) = self.cluster.row(task) else { return Some("no row".into()) };
                let error = row.error.map_or(String::new(), |e| format!(" error={}", e.code));
                let status = Status::try_from(row.status).expect("a status").name();
                let counts = format!("failures={} retry_count={} lost={}", row.failures, row.retry_count, row.lost_agents.len());
                let agent = row.assigned_agent_id;
                Some(format!("{status} epoch={} attempts={} {counts} agent={agent:?}{error}", row.epoch, row.attempts))
            }
            "show-agent" => {
                let agent = self.cluster.machine.agent(words.at(1))?;
                let status = AgentStatus::try_from(agent.row().status).expect("a status");
                let held: Vec<String> = agent.held().map(|task| self.name(task)).collect();
                Some(format!("{status:?} used={:?} held={held:?} completed={}", agent.used(), agent.row().completed))
            }
            "show-node" => {
                let (_, row) = self.cluster.machine.members().find(|(node, _)| *node == words.at(1))?;
                let drain = DrainState::try_from(row.drain).expect("a state");
                let (role, state) = (row.role().name(), row.state().name());
                Some(format!("{drain:?} {state} {role} id={} replaces={:?} at={}", row.raft_id, row.replaces, row.address))
            }
            _ => None,
        }
    }

    fn step(&mut self, line: &str) -> String {
        if let Some(shown) = self.show(&Words::of(line)) {
            return format!("> {shown}\n");
        }
        let body = self.line(line);
        let applied = self.cluster.run(vec![body]);
        let mut out = format!("> {}\n", self.outcome(&applied.outcomes[0]));
        for change in applied.changes.iter().filter(|c| c.cf == Cf::Event) {
            let Some(value) = &change.value else { continue };
            let events: EventRow = row::decode(value).expect("an event row");
            for event in &events.events {
                let _ = writeln!(out, ">   {}", self.event(event));
            }
        }
        self.cluster.check();
        out
    }

    fn outcome(&self, outcome: &Outcome) -> String {
        let mut text = match Refusal::try_from(outcome.refusal).expect("a refusal") {
            Refusal::None if outcome.replayed => "replayed".to_owned(),
            Refusal::None => "ok".to_owned(),
            refusal => format!("{refusal:?}"),
        };
        if !outcome.field.is_empty() {
            let _ = write!(text, " at {}", outcome.field);
        }
        if outcome.key_version > 0 {
            let _ = write!(text, " key_revision={} version={}", outcome.key_revision, outcome.key_version);
        }
        if !outcome.detail.is_empty() {
            let detail = self.names.iter().fold(outcome.detail.clone(), |text, (name, id)| text.replace(&id.to_string(), name));
            let _ = write!(text, ": {detail}");
        }
        text
    }

    fn event(&self, event: &Event) -> String {
        let kind = EventKind::try_from(event.kind).expect("a kind");
        if kind.aggregate() != "task" {
            return format!("{} {} {}", kind.aggregate(), String::from_utf8_lossy(&event.id), kind.name());
        }
        let name = self.name(TaskId::from_slice(&event.id).expect("an id"));
        let agent = if event.agent_id.is_empty() { String::new() } else { format!(" agent={}", event.agent_id) };
        format!("{name} {} epoch={}{agent}", kind.name(), event.epoch)
    }
}

fn record(text: &str) -> String {
    let mut scenario = Scenario { cluster: Cluster::new(), names: BTreeMap::new() };
    let mut out = String::new();
    for line in text.lines().filter(|line| !line.starts_with('>')) {
        out.push_str(line);
        out.push('\n');
        if !line.trim().is_empty() && !line.starts_with('#') {
            out.push_str(&scenario.step(line));
        }
    }
    scenario.cluster.check_replay();
    out
}

#[test]
fn scenarios_come_to_what_is_recorded() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let mut paths: Vec<_> = std::fs::read_dir(folder).expect("the folder").map(|e| e.expect("an entry").path()).collect();
    paths.sort();
    assert!(paths.len() >= 8, "the scenarios are missing");
    for path in paths {
        let text = std::fs::read_to_string(&path).expect("a scenario");
        let recorded = record(&text);
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&path, recorded).expect("the scenario can be written");
        } else {
            assert!(recorded == text, "{} came to something else:\n{recorded}", path.display());
        }
    }
}

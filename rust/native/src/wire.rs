//! The JSON form of the commands that Python proposes: the argument of `Node.propose`.
//!
//! The argument is an array; each item is an object with one member, named like the command
//! ([`codec::command::Body::name`]), whose value mirrors the message of `codec::command` with the
//! same field names. A field that is left out has the message's default (0, "", false, none). An
//! unknown field, name or a wrong type is refused: it is a mistake of the caller.
//!
//! Where JSON differs from the message:
//! * a task id (`id`, `parent_id`, `task_id`, items of `dependencies`) is UUID text, "" for none;
//! * `payload`, `result`, `checkpoint` and `value` are any JSON, stored byte for byte as they stand;
//! * `body_hash` is 32 hexadecimal digits;
//! * `labels` is an object of strings; `resources`, `cost`, `cost_estimate` and an agent's
//!   `capabilities` are objects of integers (an agent's level is in basis points);
//! * `requirements.capabilities` is `{dimension: {"min_bp": 0, "weight_milli": 1000}}`
//!   (`weight_milli` is 1000 when left out);
//! * `resources.slots` is 1 when left out;
//! * `on_dependency_failure` is "fail", "skip" or "run"; `join` is
//!   `{"policy": "all" | "any" | "quorum", "count": 0}`;
//! * `condition` is `{"revision": n}` (If-Match), `{"absent": true}` (If-None-Match: *) or left out.
//!
//! ```json
//! [{"submit": {"tenant": "default", "idempotency_key": "", "body_hash": "00112233445566778899aabbccddeeff",
//!    "tasks": [{"id": "0192f3a4-b5c6-7d8e-9fa0-b1c2d3e4f506", "task_type": "summarize", "payload": {"text": "…"},
//!      "priority": 0, "requirements": {"capabilities": {"nlp": {"min_bp": 7000}}, "resources": {"slots": 1}, "labels": {}},
//!      "dependencies": [], "on_dependency_failure": "fail", "retry": {"max_attempts": 3, "backoff_ms": 200,
//!      "factor_milli": 2000, "max_backoff_ms": 60000, "non_retryable": []}, "labels": {"team": "a"}}]}},
//!  {"cancel": {"task_id": "…", "kill": false, "grace_ms": 30000}},
//!  {"reschedule": {"task_id": "…", "exclude_agents": [], "priority": 5, "not_before_wall_us": 0}},
//!  {"retry": {"task_id": "…"}},
//!  {"register_agent": {"agent_id": "a", "node_id": "node-1", "capabilities": {"nlp": 8000}, "resources": {"slots": 4},
//!    "labels": {}, "task_types": [], "version": "1", "via_node_id": "node-1"}},
//!  {"leave_agent": {"agent_id": "a"}}, {"drain_agent": {"agent_id": "a", "drain": true}},
//!  {"start": {"task_id": "…", "epoch": 1, "agent_id": "a"}},
//!  {"progress": {"task_id": "…", "epoch": 1, "agent_id": "a", "progress_bp": 5000, "message": "half", "checkpoint": {},
//!    "log": [{"wall_us": 0, "level": "info", "text": "…"}]}},
//!  {"complete": {"task_id": "…", "epoch": 1, "agent_id": "a", "result": {}, "cost": {"tokens": 5}, "quality_bp": 9000}},
//!  {"fail": {"task_id": "…", "epoch": 1, "agent_id": "a", "code": "c", "message": "m", "retryable": true,
//!    "retry_after_ms": 100, "cost": {}}},
//!  {"put_key": {"tenant": "default", "key": "k", "value": 1, "condition": {"revision": 7}}},
//!  {"delete_key": {"tenant": "default", "key": "k"}},
//!  {"drain_node": {"node_id": "node-1", "drain": true, "deadline_ms": 3600000}},
//!  {"add_member": {"node_id": "node-4", "address": "host:5003", "role": "voter"}},
//!  {"remove_member": {"node_id": "node-4"}},
//!  {"replace_member": {"node_id": "node-4", "address": ""}}]
//! ```

use std::collections::BTreeMap;

use codec::TaskId;
use codec::command::{self, Body};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

/// Decodes the argument of `propose`.
///
/// # Errors
/// The text of serde_json's error, with line and column.
pub fn commands(json: &[u8]) -> Result<Vec<Body>, serde_json::Error> {
    let wire: Vec<Wire<'_>> = serde_json::from_slice(json)?;
    Ok(wire.into_iter().map(Wire::into_body).collect())
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Wire<'a> {
    #[serde(borrow)]
    Submit(Submit<'a>),
    Cancel(Cancel),
    Reschedule(Reschedule),
    Retry(Retry),
    RegisterAgent(RegisterAgent),
    LeaveAgent(LeaveAgent),
    DrainAgent(DrainAgent),
    Start(Start),
    #[serde(borrow)]
    Progress(Progress<'a>),
    #[serde(borrow)]
    Complete(Complete<'a>),
    Fail(Fail),
    #[serde(borrow)]
    PutKey(PutKey<'a>),
    DeleteKey(DeleteKey),
    DrainNode(DrainNode),
    AddMember(AddMember),
    RemoveMember(RemoveMember),
    ReplaceMember(ReplaceMember),
}

impl Wire<'_> {
    fn into_body(self) -> Body {
        match self {
            Wire::Submit(c) => Body::Submit(c.into_command()),
            Wire::Cancel(c) => Body::Cancel(command::Cancel { task_id: c.task_id.0, kill: c.kill, grace_ms: c.grace_ms }),
            Wire::Reschedule(c) => Body::Reschedule(c.into_command()),
            Wire::Retry(c) => Body::Retry(command::Retry { task_id: c.task_id.0 }),
            Wire::RegisterAgent(c) => Body::RegisterAgent(c.into_command()),
            Wire::LeaveAgent(c) => Body::LeaveAgent(command::LeaveAgent { agent_id: c.agent_id }),
            Wire::DrainAgent(c) => Body::DrainAgent(command::DrainAgent { agent_id: c.agent_id, drain: c.drain }),
            Wire::Start(c) => Body::Start(command::Start { task_id: c.task_id.0, epoch: c.epoch, agent_id: c.agent_id }),
            Wire::Progress(c) => Body::Progress(c.into_command()),
            Wire::Complete(c) => Body::Complete(c.into_command()),
            Wire::Fail(c) => Body::Fail(c.into_command()),
            Wire::PutKey(c) => Body::PutKey(c.into_command()),
            Wire::DeleteKey(c) => Body::DeleteKey(command::DeleteKey {
                tenant: c.tenant,
                key: c.key,
                condition: c.condition.map(KeyCondition::into_command),
            }),
            Wire::DrainNode(c) => {
                Body::DrainNode(command::DrainNode { node_id: c.node_id, drain: c.drain, deadline_ms: c.deadline_ms })
            }
            // Who is alive the leader fills in.
            Wire::AddMember(c) => Body::AddMember(command::AddMember {
                node_id: c.node_id,
                address: c.address,
                role: c.role.into_command() as i32,
                alive: Vec::new(),
            }),
            Wire::RemoveMember(c) => Body::RemoveMember(command::RemoveMember { node_id: c.node_id, alive: Vec::new() }),
            Wire::ReplaceMember(c) => {
                Body::ReplaceMember(command::ReplaceMember { node_id: c.node_id, address: c.address, alive: Vec::new() })
            }
        }
    }
}

/// UUID text → 16 bytes, "" → no bytes.
#[derive(Default)]
struct Id(Vec<u8>);

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text.is_empty() {
            return Ok(Id(Vec::new()));
        }
        TaskId::parse(&text).map(|id| Id(id.to_vec())).ok_or_else(|| D::Error::custom("a task id is UUID text"))
    }
}

/// Hexadecimal text → bytes.
#[derive(Default)]
struct Hex(Vec<u8>);

impl<'de> Deserialize<'de> for Hex {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let digit = |c: u8| (c as char).to_digit(16).map(|d| d as u8);
        let pair = |p: &[u8]| Some((digit(p[0])? << 4) | digit(*p.get(1)?)?);
        let bytes: Option<Vec<u8>> = text.as_bytes().chunks(2).map(pair).collect();
        bytes.map(Hex).ok_or_else(|| D::Error::custom("expected pairs of hexadecimal digits"))
    }
}

type Amounts = BTreeMap<String, u64>;
type Labels = BTreeMap<String, String>;

fn amounts(map: Amounts) -> Vec<command::Amount> {
    map.into_iter().map(|(name, amount)| command::Amount { name, amount }).collect()
}

fn amounts_with_slots(mut map: Amounts) -> Vec<command::Amount> {
    map.entry("slots".to_owned()).or_insert(1);
    amounts(map)
}

fn labels(map: Labels) -> Vec<command::Label> {
    map.into_iter().map(|(key, value)| command::Label { key, value }).collect()
}

fn raw(value: Option<&RawValue>) -> Vec<u8> {
    value.map_or_else(|| b"null".to_vec(), |v| v.get().as_bytes().to_vec())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Submit<'a> {
    tenant: String,
    #[serde(default)]
    idempotency_key: String,
    #[serde(default)]
    body_hash: Hex,
    #[serde(borrow)]
    tasks: Vec<TaskSpec<'a>>,
}

impl Submit<'_> {
    fn into_command(self) -> command::Submit {
        command::Submit {
            tenant: self.tenant,
            idempotency_key: self.idempotency_key,
            body_hash: self.body_hash.0,
            tasks: self.tasks.into_iter().map(TaskSpec::into_command).collect(),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TaskSpec<'a> {
    id: Id,
    #[serde(default)]
    name: String,
    #[serde(default)]
    parent_id: Id,
    task_type: String,
    #[serde(default, borrow)]
    payload: Option<&'a RawValue>,
    #[serde(default)]
    priority: i32,
    #[serde(default)]
    requirements: Option<Requirements>,
    #[serde(default)]
    dependencies: Vec<Id>,
    #[serde(default)]
    on_dependency_failure: DependencyFailure,
    #[serde(default)]
    optional: bool,
    #[serde(default)]
    not_before_wall_us: u64,
    #[serde(default)]
    deadline_wall_us: u64,
    #[serde(default)]
    queue_ms: u64,
    #[serde(default)]
    run_ms: u64,
    #[serde(default)]
    total_ms: u64,
    #[serde(default)]
    retry: Option<RetryPolicy>,
    #[serde(default)]
    idempotent: bool,
    #[serde(default)]
    preemptible: bool,
    #[serde(default)]
    size_hint: u64,
    #[serde(default)]
    labels: Labels,
    #[serde(default)]
    cost_estimate: Amounts,
    #[serde(default)]
    join: Option<Join>,
}

impl TaskSpec<'_> {
    fn into_command(self) -> command::TaskSpec {
        command::TaskSpec {
            id: self.id.0,
            name: self.name,
            parent_id: self.parent_id.0,
            task_type: self.task_type,
            payload: raw(self.payload),
            priority: self.priority,
            requirements: Some(self.requirements.unwrap_or_default().into_command()),
            dependencies: self.dependencies.into_iter().map(|id| id.0).collect(),
            on_dependency_failure: self.on_dependency_failure as i32,
            optional: self.optional,
            not_before_wall_us: self.not_before_wall_us,
            deadline_wall_us: self.deadline_wall_us,
            queue_ms: self.queue_ms,
            run_ms: self.run_ms,
            total_ms: self.total_ms,
            retry: self.retry.map(RetryPolicy::into_command),
            idempotent: self.idempotent,
            preemptible: self.preemptible,
            size_hint: self.size_hint,
            labels: labels(self.labels),
            cost_estimate: amounts(self.cost_estimate),
            join: self.join.map(|j| command::Join { policy: j.policy as i32, count: j.count }),
        }
    }
}

/// Discriminants are those of [`command::DependencyFailure`].
#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum DependencyFailure {
    #[default]
    Fail = command::DependencyFailure::Fail as isize,
    Skip = command::DependencyFailure::Skip as isize,
    Run = command::DependencyFailure::Run as isize,
}

/// Discriminants are those of [`command::JoinPolicy`].
#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum JoinPolicy {
    #[default]
    All = command::JoinPolicy::All as isize,
    Any = command::JoinPolicy::Any as isize,
    Quorum = command::JoinPolicy::Quorum as isize,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Join {
    #[serde(default)]
    policy: JoinPolicy,
    #[serde(default)]
    count: u32,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Requirements {
    #[serde(default)]
    capabilities: BTreeMap<String, CapabilityNeed>,
    #[serde(default)]
    resources: Amounts,
    #[serde(default)]
    labels: Labels,
}

impl Requirements {
    fn into_command(self) -> command::Requirements {
        let need = |(dimension, need): (String, CapabilityNeed)| command::CapabilityNeed {
            dimension,
            min_bp: need.min_bp,
            weight_milli: need.weight_milli,
        };
        command::Requirements {
            capabilities: self.capabilities.into_iter().map(need).collect(),
            resources: amounts_with_slots(self.resources),
            labels: labels(self.labels),
        }
    }
}

fn full_weight() -> u32 {
    1000
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CapabilityNeed {
    #[serde(default)]
    min_bp: u32,
    #[serde(default = "full_weight")]
    weight_milli: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RetryPolicy {
    max_attempts: u32,
    #[serde(default)]
    backoff_ms: u64,
    #[serde(default)]
    factor_milli: u32,
    #[serde(default)]
    max_backoff_ms: u64,
    #[serde(default)]
    non_retryable: Vec<String>,
}

impl RetryPolicy {
    fn into_command(self) -> command::RetryPolicy {
        command::RetryPolicy {
            max_attempts: self.max_attempts,
            backoff_ms: self.backoff_ms,
            factor_milli: self.factor_milli,
            max_backoff_ms: self.max_backoff_ms,
            non_retryable: self.non_retryable,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Cancel {
    task_id: Id,
    #[serde(default)]
    kill: bool,
    #[serde(default)]
    grace_ms: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Reschedule {
    task_id: Id,
    #[serde(default)]
    exclude_agents: Vec<String>,
    #[serde(default)]
    priority: Option<i32>,
    #[serde(default)]
    not_before_wall_us: Option<u64>,
}

impl Reschedule {
    fn into_command(self) -> command::Reschedule {
        command::Reschedule {
            task_id: self.task_id.0,
            exclude_agents: self.exclude_agents,
            priority: self.priority,
            not_before_wall_us: self.not_before_wall_us,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Retry {
    task_id: Id,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RegisterAgent {
    agent_id: String,
    #[serde(default)]
    node_id: String,
    #[serde(default)]
    capabilities: Amounts,
    #[serde(default)]
    resources: Amounts,
    #[serde(default)]
    labels: Labels,
    #[serde(default)]
    task_types: Vec<String>,
    #[serde(default)]
    version: String,
    #[serde(default)]
    via_node_id: String,
}

impl RegisterAgent {
    fn into_command(self) -> command::RegisterAgent {
        command::RegisterAgent {
            agent_id: self.agent_id,
            node_id: self.node_id,
            capabilities: amounts(self.capabilities),
            resources: amounts_with_slots(self.resources),
            labels: labels(self.labels),
            task_types: self.task_types,
            version: self.version,
            via_node_id: self.via_node_id,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LeaveAgent {
    agent_id: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DrainAgent {
    agent_id: String,
    drain: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Start {
    task_id: Id,
    epoch: u32,
    agent_id: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Progress<'a> {
    task_id: Id,
    epoch: u32,
    agent_id: String,
    #[serde(default)]
    progress_bp: Option<u32>,
    #[serde(default)]
    message: String,
    #[serde(default, borrow)]
    checkpoint: Option<&'a RawValue>,
    #[serde(default)]
    log: Vec<LogLine>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LogLine {
    wall_us: u64,
    #[serde(default)]
    level: String,
    text: String,
}

impl Progress<'_> {
    fn into_command(self) -> command::Progress {
        let line = |l: LogLine| command::LogLine { wall_us: l.wall_us, level: l.level, text: l.text };
        command::Progress {
            task_id: self.task_id.0,
            epoch: self.epoch,
            agent_id: self.agent_id,
            progress_bp: self.progress_bp,
            message: self.message,
            checkpoint: self.checkpoint.map(|c| c.get().as_bytes().to_vec()),
            log: self.log.into_iter().map(line).collect(),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Complete<'a> {
    task_id: Id,
    epoch: u32,
    agent_id: String,
    #[serde(default, borrow)]
    result: Option<&'a RawValue>,
    #[serde(default)]
    cost: Amounts,
    #[serde(default)]
    quality_bp: Option<u32>,
}

impl Complete<'_> {
    fn into_command(self) -> command::Complete {
        command::Complete {
            task_id: self.task_id.0,
            epoch: self.epoch,
            agent_id: self.agent_id,
            result: raw(self.result),
            cost: amounts(self.cost),
            quality_bp: self.quality_bp,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fail {
    task_id: Id,
    epoch: u32,
    agent_id: String,
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
    #[serde(default)]
    retryable: bool,
    #[serde(default)]
    retry_after_ms: Option<u64>,
    #[serde(default)]
    cost: Amounts,
}

impl Fail {
    fn into_command(self) -> command::Fail {
        command::Fail {
            task_id: self.task_id.0,
            epoch: self.epoch,
            agent_id: self.agent_id,
            code: self.code,
            message: self.message,
            retryable: self.retryable,
            retry_after_ms: self.retry_after_ms,
            cost: amounts(self.cost),
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum KeyCondition {
    Revision(u64),
    Absent(bool),
}

impl KeyCondition {
    fn into_command(self) -> command::KeyCondition {
        match self {
            KeyCondition::Revision(revision) => command::KeyCondition::Revision(revision),
            KeyCondition::Absent(absent) => command::KeyCondition::Absent(absent),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PutKey<'a> {
    tenant: String,
    key: String,
    #[serde(borrow)]
    value: &'a RawValue,
    #[serde(default)]
    condition: Option<KeyCondition>,
}

impl PutKey<'_> {
    fn into_command(self) -> command::PutKey {
        command::PutKey {
            tenant: self.tenant,
            key: self.key,
            value: self.value.get().as_bytes().to_vec(),
            condition: self.condition.map(KeyCondition::into_command),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DeleteKey {
    tenant: String,
    key: String,
    #[serde(default)]
    condition: Option<KeyCondition>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DrainNode {
    node_id: String,
    drain: bool,
    #[serde(default)]
    deadline_ms: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AddMember {
    node_id: String,
    address: String,
    role: Role,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Role {
    Voter,
    Learner,
    Observer,
}

impl Role {
    fn into_command(self) -> codec::row::MemberRole {
        match self {
            Role::Voter => codec::row::MemberRole::Voter,
            Role::Learner => codec::row::MemberRole::Learner,
            Role::Observer => codec::row::MemberRole::Observer,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RemoveMember {
    node_id: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ReplaceMember {
    node_id: String,
    address: String,
}

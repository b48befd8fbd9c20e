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

use codec::command::Body;
use serde::Deserialize;

mod agent;
mod key;
mod member;
mod task;
mod value;

use agent::{Complete, DrainAgent, DrainNode, Fail, LeaveAgent, Progress, RegisterAgent, Start};
use key::{DeleteKey, PutKey};
use member::{AddMember, RemoveMember, ReplaceMember};
use task::{Cancel, Reschedule, Retry, Submit};

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
            Wire::Cancel(c) => Body::Cancel(c.into_command()),
            Wire::Reschedule(c) => Body::Reschedule(c.into_command()),
            Wire::Retry(c) => Body::Retry(c.into_command()),
            Wire::RegisterAgent(c) => Body::RegisterAgent(c.into_command()),
            Wire::LeaveAgent(c) => Body::LeaveAgent(c.into_command()),
            Wire::DrainAgent(c) => Body::DrainAgent(c.into_command()),
            Wire::Start(c) => Body::Start(c.into_command()),
            Wire::Progress(c) => Body::Progress(c.into_command()),
            Wire::Complete(c) => Body::Complete(c.into_command()),
            Wire::Fail(c) => Body::Fail(c.into_command()),
            Wire::PutKey(c) => Body::PutKey(c.into_command()),
            Wire::DeleteKey(c) => Body::DeleteKey(c.into_command()),
            Wire::DrainNode(c) => Body::DrainNode(c.into_command()),
            Wire::AddMember(c) => Body::AddMember(c.into_command()),
            Wire::RemoveMember(c) => Body::RemoveMember(c.into_command()),
            Wire::ReplaceMember(c) => Body::ReplaceMember(c.into_command()),
        }
    }
}

//! Commands as JSON, for `/cluster/raft-log`: the fields of `codec::command`, users' JSON verbatim.

use codec::command::{self, Body, ExpireReason, KeyCondition, TaskSpec};

use super::json::{self, Object};
use super::task::{amounts, dependency_failure, join_policy, labels, levels, requirements, retry_policy};

/// Writes a command's fields as one object.
pub(super) fn write(out: &mut Vec<u8>, body: &Body) {
    let mut object = Object::new(out);
    match body {
        Body::OpenSession(c) => object.text("node_id", &c.node_id),
        Body::Submit(c) => submit(&mut object, c),
        Body::Cancel(c) => {
            object.id("task_id", &c.task_id);
            object.text("mode", if c.kill { "kill" } else { "cooperative" });
            object.number("grace_ms", c.grace_ms);
        }
        Body::Reschedule(c) => reschedule(&mut object, c),
        Body::Retry(c) => object.id("task_id", &c.task_id),
        Body::RegisterAgent(c) => register(&mut object, c),
        Body::LeaveAgent(c) => object.text("agent_id", &c.agent_id),
        Body::DrainAgent(c) => {
            object.text("agent_id", &c.agent_id);
            object.boolean("drain", c.drain);
        }
        Body::Start(c) => attempt(&mut object, &c.task_id, c.epoch, &c.agent_id),
        Body::Progress(c) => progress(&mut object, c),
        Body::Complete(c) => complete(&mut object, c),
        Body::Fail(c) => fail(&mut object, c),
        Body::PutKey(c) => {
            key(&mut object, &c.tenant, &c.key, c.condition.as_ref());
            object.raw("value", &c.value);
        }
        Body::DeleteKey(c) => key(&mut object, &c.tenant, &c.key, c.condition.as_ref()),
        Body::DrainNode(c) => {
            object.text("node_id", &c.node_id);
            object.boolean("drain", c.drain);
            object.number("deadline_ms", c.deadline_ms);
        }
        Body::Assign(c) => assign(&mut object, c),
        Body::Expire(c) => expire(&mut object, c),
        Body::Retention(c) => retention(&mut object, c),
        Body::HashCheck(c) => {
            object.number("index", c.index);
            object.text("hash", &hex(&c.hash));
            if c.verify != 0 {
                object.text("verify", &format!("{:016x}", c.verify));
            }
        }
        Body::ClockAdvance(_) => {}
        Body::AddMember(c) => {
            member(&mut object, &c.node_id, &c.address);
            object.text("role", c.role().name());
        }
        Body::RemoveMember(c) => object.text("node_id", &c.node_id),
        Body::ReplaceMember(c) => member(&mut object, &c.node_id, &c.address),
        Body::AdmitMember(c) => {
            object.text("node_id", &c.node_id);
            object.text("raft_id", &format!("{:016x}", c.raft_id));
        }
        Body::SettleMember(c) => {
            object.text("node_id", &c.node_id);
            object.text("raft_id", &format!("{:016x}", c.raft_id));
            object.text("state", c.state().name());
            object.text("role", c.role().name());
        }
        Body::SwapVoter(c) => {
            object.text("learner", &c.learner);
            object.text("voter", &c.voter);
        }
    }
    object.end();
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn member(object: &mut Object<'_>, node_id: &str, address: &str) {
    object.text("node_id", node_id);
    object.text_or_null("address", address);
}

fn attempt(object: &mut Object<'_>, task_id: &[u8], epoch: u32, agent_id: &str) {
    object.id("task_id", task_id);
    object.number("epoch", epoch.into());
    object.text("agent_id", agent_id);
}

fn submit(object: &mut Object<'_>, c: &command::Submit) {
    object.text("tenant", &c.tenant);
    object.text_or_null("idempotency_key", &c.idempotency_key);
    json::array(object.value("tasks"), &c.tasks, task);
}

fn task(out: &mut Vec<u8>, spec: &TaskSpec) {
    let mut object = Object::new(out);
    object.id("id", &spec.id);
    object.text_or_null("name", &spec.name);
    object.id("parent_task_id", &spec.parent_id);
    object.text("task_type", &spec.task_type);
    object.raw("task_data", &spec.payload);
    object.signed("priority", spec.priority);
    requirements(object.value("requirements"), spec.requirements.as_ref());
    object.ids("dependencies", spec.dependencies.iter().map(Vec::as_slice));
    object.text("on_dependency_failure", dependency_failure(spec.on_dependency_failure()));
    object.boolean("optional", spec.optional);
    object.time("not_before", spec.not_before_wall_us);
    object.time("deadline", spec.deadline_wall_us);
    object.number("queue_ms", spec.queue_ms);
    object.number("run_ms", spec.run_ms);
    object.number("total_ms", spec.total_ms);
    match &spec.retry {
        None => object.null("retry"),
        Some(policy) => retry_policy(object.value("retry"), policy),
    }
    labels(object.value("labels"), &spec.labels);
    if let Some(join) = &spec.join {
        object.text("join", join_policy(join.policy()));
    }
    object.end();
}

fn reschedule(object: &mut Object<'_>, c: &command::Reschedule) {
    object.id("task_id", &c.task_id);
    object.texts("exclude_agents", c.exclude_agents.iter().map(String::as_str));
    match c.priority {
        None => object.null("priority"),
        Some(priority) => object.signed("priority", priority),
    }
    object.time("not_before", c.not_before_wall_us.unwrap_or(0));
}

fn register(object: &mut Object<'_>, c: &command::RegisterAgent) {
    object.text("agent_id", &c.agent_id);
    object.text_or_null("node_id", &c.node_id);
    levels(object.value("capabilities"), &c.capabilities);
    amounts(object.value("resources"), &c.resources);
    labels(object.value("labels"), &c.labels);
    object.texts("task_types", c.task_types.iter().map(String::as_str));
    object.text_or_null("version", &c.version);
    object.text_or_null("via_node_id", &c.via_node_id);
}

fn progress(object: &mut Object<'_>, c: &command::Progress) {
    attempt(object, &c.task_id, c.epoch, &c.agent_id);
    match c.progress_bp {
        None => object.null("progress"),
        Some(progress_bp) => object.decimal("progress", progress_bp.into(), 4),
    }
    object.text_or_null("message", &c.message);
    object.raw_or_null("checkpoint", c.checkpoint.as_deref());
    object.number("log_lines", c.log.len() as u64);
}

fn complete(object: &mut Object<'_>, c: &command::Complete) {
    attempt(object, &c.task_id, c.epoch, &c.agent_id);
    object.raw("result", &c.result);
    amounts(object.value("cost"), &c.cost);
}

fn fail(object: &mut Object<'_>, c: &command::Fail) {
    attempt(object, &c.task_id, c.epoch, &c.agent_id);
    object.text("code", &c.code);
    object.text("message", &c.message);
    object.boolean("retryable", c.retryable);
    amounts(object.value("cost"), &c.cost);
}

fn key(object: &mut Object<'_>, tenant: &str, name: &str, condition: Option<&KeyCondition>) {
    object.text("tenant", tenant);
    object.text("key", name);
    match condition {
        None => object.null("condition"),
        Some(KeyCondition::Revision(revision)) => object.number("if_match", *revision),
        Some(KeyCondition::Absent(_)) => object.text("if_none_match", "*"),
    }
}

fn assign(object: &mut Object<'_>, c: &command::Assign) {
    json::array(object.value("items"), &c.items, |out, item| {
        let mut object = Object::new(out);
        attempt(&mut object, &item.task_id, item.epoch, &item.agent_id);
        object.number("agent_epoch", item.agent_epoch);
        json::array(object.value("terms"), &item.terms, |out, term| out.extend_from_slice(term.to_string().as_bytes()));
        object.end();
    });
}

fn expire(object: &mut Object<'_>, c: &command::Expire) {
    json::array(object.value("tasks"), &c.tasks, |out, task| {
        let mut object = Object::new(out);
        object.id("task_id", &task.task_id);
        object.number("epoch", task.epoch.into());
        object.text("reason", expire_reason(task.reason()));
        object.end();
    });
    json::array(object.value("agents"), &c.agents, |out, agent| {
        let mut object = Object::new(out);
        object.text("agent_id", &agent.agent_id);
        object.number("agent_epoch", agent.agent_epoch);
        object.end();
    });
    object.texts("drained_nodes", c.drained_nodes.iter().map(String::as_str));
}

fn expire_reason(reason: ExpireReason) -> &'static str {
    match reason {
        ExpireReason::Delay => "delay",
        ExpireReason::Unclaimed => "unclaimed",
        ExpireReason::RunTimeout => "run_timeout",
        ExpireReason::Deadline => "deadline",
        ExpireReason::CancelGrace => "cancel_grace",
    }
}

fn retention(object: &mut Object<'_>, c: &command::Retention) {
    object.ids("task_ids", c.task_ids.iter().map(Vec::as_slice));
    object.number("idempotency_keys", c.idempotency_keys.len() as u64);
    object.number("events_below_revision", c.events_below_revision);
    object.number("events_max", c.events_max.into());
    object.texts("agent_ids", c.agent_ids.iter().map(String::as_str));
}

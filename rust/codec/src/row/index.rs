//! Keys of the index column family: what lists and polls scan. A leading byte names the index;
//! times are stored inverted, so that a forward scan is newest first.

use super::{Status, key};
use crate::id::TaskId;

pub const BY_TIME: u8 = b't';
pub const BY_STATUS: u8 = b's';
pub const BY_PARENT: u8 = b'p';
pub const BY_AGENT: u8 = b'a';
pub const BY_TYPE: u8 = b'y';
/// Ended tasks of all tenants, oldest end first: what retention forgets.
pub const BY_END: u8 = b'e';
/// Idempotency rows of all tenants, oldest first.
pub const BY_KEY_AGE: u8 = b'i';

/// An empty key of index `name`, with room for the parts of these lengths behind it.
fn begin(name: u8, room: usize) -> Vec<u8> {
    let mut key = Vec::with_capacity(1 + room);
    key.push(name);
    key
}

/// What follows a prefix in the longest keys: a time or position, and an id.
const REST_BYTES: usize = 8 + 16;

fn newest_first(key: &mut Vec<u8>, created_wall_us: u64, id: TaskId) {
    key.extend_from_slice(&(!created_wall_us).to_be_bytes());
    key.extend(id.0.map(|b| !b));
}

/// The id at the end of a `BY_TIME`, `BY_STATUS` or `BY_TYPE` key.
pub fn id_at_end(index_key: &[u8]) -> Option<TaskId> {
    let tail: [u8; 16] = index_key.get(index_key.len().checked_sub(16)?..)?.try_into().ok()?;
    Some(TaskId(tail.map(|b| !b)))
}

pub fn by_time_prefix(tenant: &str) -> Vec<u8> {
    let mut out = begin(BY_TIME, 1 + tenant.len() + REST_BYTES);
    key::tenant(tenant, &mut out);
    out
}

pub fn by_time(tenant: &str, created_wall_us: u64, id: TaskId) -> Vec<u8> {
    let mut out = by_time_prefix(tenant);
    newest_first(&mut out, created_wall_us, id);
    out
}

pub fn by_status_prefix(tenant: &str, status: Status) -> Vec<u8> {
    let mut out = begin(BY_STATUS, 1 + tenant.len() + 1 + REST_BYTES);
    key::tenant(tenant, &mut out);
    out.push(status as i32 as u8);
    out
}

pub fn by_status(tenant: &str, status: Status, created_wall_us: u64, id: TaskId) -> Vec<u8> {
    let mut out = by_status_prefix(tenant, status);
    newest_first(&mut out, created_wall_us, id);
    out
}

pub fn by_type_prefix(tenant: &str, task_type: &str) -> Vec<u8> {
    let mut out = begin(BY_TYPE, 2 + tenant.len() + task_type.len() + REST_BYTES);
    key::tenant(tenant, &mut out);
    key::tenant(task_type, &mut out);
    out
}

pub fn by_type(tenant: &str, task_type: &str, created_wall_us: u64, id: TaskId) -> Vec<u8> {
    let mut out = by_type_prefix(tenant, task_type);
    newest_first(&mut out, created_wall_us, id);
    out
}

/// Children in the order they were submitted: parent, position, child.
pub fn by_parent_prefix(parent: TaskId) -> Vec<u8> {
    let mut out = begin(BY_PARENT, 16 + REST_BYTES);
    out.extend_from_slice(&parent.0);
    out
}

pub fn by_parent(parent: TaskId, position: u32, child: TaskId) -> Vec<u8> {
    let mut out = by_parent_prefix(parent);
    out.extend_from_slice(&position.to_be_bytes());
    out.extend_from_slice(&child.0);
    out
}

/// Tasks that an agent holds now (assigned, running, cancelling).
pub fn by_agent_prefix(agent_id: &str) -> Vec<u8> {
    let mut out = begin(BY_AGENT, 1 + agent_id.len() + REST_BYTES);
    key::tenant(agent_id, &mut out);
    out
}

pub fn by_agent(agent_id: &str, id: TaskId) -> Vec<u8> {
    let mut out = by_agent_prefix(agent_id);
    out.extend_from_slice(&id.0);
    out
}

pub fn by_end(completed_wall_us: u64, id: TaskId) -> Vec<u8> {
    let mut out = begin(BY_END, REST_BYTES);
    out.extend_from_slice(&completed_wall_us.to_be_bytes());
    out.extend_from_slice(&id.0);
    out
}

/// Creation in cluster time, then the row's key in the idempotency column family.
pub fn by_key_age(created_cluster_us: u64, idempotency_key: &[u8]) -> Vec<u8> {
    let mut out = begin(BY_KEY_AGE, 8 + idempotency_key.len());
    out.extend_from_slice(&created_cluster_us.to_be_bytes());
    out.extend_from_slice(idempotency_key);
    out
}

/// The time in a `BY_END` or `BY_KEY_AGE` key, and what follows it.
pub fn time_and_rest(index_key: &[u8]) -> Option<(u64, &[u8])> {
    let time: [u8; 8] = index_key.get(1..9)?.try_into().ok()?;
    Some((u64::from_be_bytes(time), index_key.get(9..)?))
}

/// The id at the end of a `BY_PARENT`, `BY_AGENT` or `BY_END` key.
pub fn plain_id_at_end(index_key: &[u8]) -> Option<TaskId> {
    TaskId::from_slice(index_key.get(index_key.len().checked_sub(16)?..)?).ok()
}

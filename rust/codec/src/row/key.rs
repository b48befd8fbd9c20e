//! Keys of the rows: made here and nowhere else, big-endian, so that byte order is the order of the domain.

use super::BlobKind;
use crate::id::TaskId;

/// Length-prefixed tenant. Tenants are at most 255 bytes long.
pub fn tenant(tenant: &str, out: &mut Vec<u8>) {
    let length = u8::try_from(tenant.len()).expect("tenants are at most 255 bytes");
    out.push(length);
    out.extend_from_slice(tenant.as_bytes());
}

/// Task ids are unique over all tenants, so the row is found by id alone.
pub fn task(id: TaskId) -> Vec<u8> {
    id.to_vec()
}

pub fn blob(id: TaskId, kind: BlobKind, attempt: u32) -> Vec<u8> {
    let mut key = Vec::with_capacity(16 + 1 + 4);
    key.extend_from_slice(&id.0);
    key.push(kind as u8);
    if kind == BlobKind::Log {
        key.extend_from_slice(&attempt.to_be_bytes());
    }
    key
}

pub fn session(session: u64) -> Vec<u8> {
    session.to_be_bytes().to_vec()
}

pub fn session_outcomes(session: u64, entry_index: u64) -> Vec<u8> {
    [session.to_be_bytes(), entry_index.to_be_bytes()].concat()
}

pub fn tenant_scoped(tenant_name: &str, name: &str) -> Vec<u8> {
    let mut key = Vec::with_capacity(1 + tenant_name.len() + name.len());
    tenant(tenant_name, &mut key);
    key.extend_from_slice(name.as_bytes());
    key
}

pub fn event(revision: u64) -> Vec<u8> {
    revision.to_be_bytes().to_vec()
}

//! Events of the watch stream, read by revision.

use codec::row::{AgentStatus, Cf, Event, EventKind, EventRow, StateRead, key};

use super::json::{self, Object};
use super::task::labels;
use super::{Result, limits, meta};

/// A piece of the stream.
#[derive(Debug)]
pub struct Events {
    /// Newest applied revision of this view: nothing up to it is missing once `rows` was read.
    pub newest: u64,
    /// Oldest revision that can still be read.
    pub oldest: u64,
    /// Revisions that have events, ascending, each with a JSON array of `{kind, type, id, object}`.
    pub rows: Vec<(u64, Vec<u8>)>,
}

/// Events from `from_revision` (included) on, of at most `limit` revisions and
/// [`limits::EVENTS_BYTES_MAX`] bytes. A caller that gets any reads on after the last one.
pub fn events(rows: &dyn StateRead, from_revision: u64, limit: usize) -> Result<Events> {
    let meta = meta(rows)?;
    let (mut found, mut bytes, mut broken) = (Vec::new(), 0, Ok(()));
    let limit = limit.clamp(1, limits::PAGE_ITEMS_MAX);
    rows.scan(Cf::Event, b"", &key::event(from_revision), &mut |key, value| {
        let revision = <[u8; 8]>::try_from(key).map_or(0, u64::from_be_bytes);
        match codec::row::decode::<EventRow>(value) {
            Ok(row) => {
                let mut out = Vec::new();
                json::array(&mut out, &row.events, |out, event| write(out, event, revision, row.wall_us));
                bytes += out.len();
                found.push((revision, out));
            }
            Err(error) => broken = Err(error),
        }
        broken.is_ok() && found.len() < limit && bytes < limits::EVENTS_BYTES_MAX
    })?;
    broken?;
    Ok(Events { newest: meta.revision, oldest: meta.events_first_revision, rows: found })
}

fn write(out: &mut Vec<u8>, event: &Event, revision: u64, wall_us: u64) {
    let Ok(kind) = EventKind::try_from(event.kind) else {
        // Of a newer release: it has a place in the stream, and nothing else is known of it.
        let mut object = Object::new(out);
        object.text("kind", "unknown");
        return object.end();
    };
    let aggregate = kind.aggregate();
    let mut out = Object::new(out);
    out.text("kind", aggregate);
    out.text("type", kind.name());
    let name = String::from_utf8_lossy(&event.id);
    match aggregate {
        "task" => out.id("id", &event.id),
        _ => out.text("id", &name),
    }
    out.time("at", wall_us);
    let mut object = Object::new(out.value("object"));
    match aggregate {
        "task" => task_fields(&mut object, event),
        "agent" => {
            object.text("agent_id", &name);
            object.text("status", agent_status(kind));
        }
        "node" => {
            object.text("node_id", &name);
            object.text("status", node_status(kind));
        }
        _ => key_fields(&mut object, kind, event, &name),
    }
    object.number("revision", revision);
    object.end();
    out.end();
}

fn task_fields(object: &mut Object<'_>, event: &Event) {
    object.id("id", &event.id);
    object.id("parent_task_id", &event.parent_id);
    object.text("task_type", &event.task_type);
    object.text("status", event.status().name());
    object.number("epoch", event.epoch.into());
    object.text_or_null("assigned_agent_id", &event.agent_id);
    object.decimal("progress", event.progress_bp.into(), 4);
    object.text("tenant", &event.tenant);
    labels(object.value("labels"), &event.labels);
}

fn key_fields(object: &mut Object<'_>, kind: EventKind, event: &Event, name: &str) {
    object.text("key", name);
    object.text("tenant", &event.tenant);
    match kind {
        EventKind::KeyDeleted => object.null("value"),
        _ => object.raw("value", &event.value),
    }
    object.number("create_revision", event.create_revision);
    object.number("version", event.key_version);
}

fn agent_status(kind: EventKind) -> &'static str {
    super::agent_status_name(match kind {
        EventKind::AgentLeft => AgentStatus::Left,
        EventKind::AgentLost => AgentStatus::Lost,
        EventKind::AgentDraining => AgentStatus::Draining,
        _ => AgentStatus::Up,
    })
}

fn node_status(kind: EventKind) -> &'static str {
    match kind {
        EventKind::NodeDraining => "draining",
        EventKind::NodeDrained => "drained",
        _ => "healthy",
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Rows, parsed, task_id};
    use super::*;
    use codec::row::{MetaRow, Status, encode};
    use serde_json::json;

    /// Scenario: revisions 3, 5 and 9 have events; reading from 4 with a limit of one gives 5.
    #[test]
    fn the_stream_is_read_by_revision() {
        let mut rows = Rows::default();
        rows.put(Cf::Meta, Vec::new(), encode(&MetaRow { revision: 12, events_first_revision: 3, ..Default::default() }));
        let kv = Event {
            kind: EventKind::KeyPut as i32,
            id: b"k".to_vec(),
            value: b"[1]".to_vec(),
            key_version: 2,
            ..Default::default()
        };
        let task = Event {
            kind: EventKind::TaskCompleted as i32,
            id: task_id(1).to_vec(),
            status: Status::Completed as i32,
            ..Default::default()
        };
        for (revision, event) in [(3, &kv), (5, &task), (9, &kv)] {
            rows.put(Cf::Event, key::event(revision), encode(&EventRow { events: vec![event.clone()], wall_us: 1 }));
        }
        let piece = events(&rows, 4, 1).expect("read");
        assert_eq!((piece.newest, piece.oldest, piece.rows.len(), piece.rows[0].0), (12, 3, 1, 5));
        let event = &parsed(&piece.rows[0].1)[0];
        assert_eq!(
            (&event["kind"], &event["type"], &event["id"]),
            (&json!("task"), &json!("completed"), &json!(task_id(1).to_string()))
        );
        assert_eq!(event["object"]["revision"], json!(5));
        let rest = events(&rows, 6, 10).expect("read");
        assert_eq!(rest.rows.len(), 1);
        assert_eq!(parsed(&rest.rows[0].1)[0]["object"]["value"], json!([1]));
    }
}

//! Rows of the specification's `raft_log`, one an entry of the log.

use codec::EntryPayload;
use codec::frame::{Frame, FrameKind};
use codec::log::{EntryKind, LogEntry};

use store::{LogReader, StoreError};

use super::json::{self, Object};
use super::{QueryError, Result, commands, limits};

/// A piece of the log.
#[derive(Debug)]
pub struct LogRows {
    /// Oldest index that can be read.
    pub first: u64,
    /// Newest index known to be committed.
    pub committed: u64,
    /// One JSON object an entry, ascending, without a gap.
    pub rows: Vec<Vec<u8>>,
}

/// Entries from `from_index` on, of at most `limit` and [`limits::PAGE_BYTES_MAX`]. `base` is the last
/// index that is no longer in the log, `last` the newest. An index before the log begins gives no rows:
/// the caller compares it with [`LogRows::first`].
pub fn log_rows(reader: &dyn LogReader, base: u64, last: u64, committed: u64, from_index: u64, limit: usize) -> Result<LogRows> {
    let limit = limit.clamp(1, limits::PAGE_ITEMS_MAX) as u64;
    let (low, high) = (from_index, last.saturating_add(1).min(from_index.saturating_add(limit)));
    let mut answer = LogRows { first: base + 1, committed, rows: Vec::new() };
    if low <= base || low >= high {
        return Ok(answer);
    }
    let read = |high| reader.entries(low, high, limits::PAGE_BYTES_MAX as u64);
    let entries = match read(high) {
        // The newest entries are not on this disk yet: those before them are.
        Err(StoreError::Unavailable { last, .. }) if (low..high).contains(&last) => read(last + 1),
        other => other,
    };
    let entries = match entries {
        Ok(entries) => entries,
        // None of them is on this disk yet, or compaction was quicker: the caller asks again.
        Err(StoreError::Unavailable { .. } | StoreError::Compacted { .. }) => Vec::new(),
        Err(error) => return Err(QueryError::Log(error)),
    };
    answer.rows = entries.iter().map(|entry| log_row(entry, committed)).collect::<Result<_>>()?;
    Ok(answer)
}

/// `{log_index, term, command_type, command_data, committed, timestamp}`. An entry of one command has
/// that command's name and fields; of several, `batch` and `{"commands": [{type, data}]}`; of none,
/// `no_op` (a new leader's first) or `configuration`.
fn log_row(entry: &LogEntry, committed_index: u64) -> Result<Vec<u8>> {
    let mut out = Vec::with_capacity(128 + entry.data.len());
    let mut object = Object::new(&mut out);
    object.number("log_index", entry.index);
    object.number("term", entry.term);
    let timestamp = match entry.kind {
        EntryKind::ConfChange => without_command(&mut object, "configuration"),
        EntryKind::Normal if entry.data.is_empty() => without_command(&mut object, "no_op"),
        EntryKind::Normal => payload(&mut object, &Frame::decode_message(FrameKind::EntryPayload, &entry.data)?),
    };
    object.boolean("committed", entry.index <= committed_index);
    object.time("timestamp", timestamp);
    object.end();
    Ok(out)
}

fn without_command(object: &mut Object<'_>, name: &str) -> u64 {
    object.text("command_type", name);
    object.null("command_data");
    0
}

fn payload(object: &mut Object<'_>, payload: &EntryPayload) -> u64 {
    let bodies: Vec<_> = payload.commands.iter().filter_map(|command| command.body.as_ref()).collect();
    if let [body] = bodies[..] {
        object.text("command_type", body.name());
        commands::write(object.value("command_data"), body);
        return payload.wall_us;
    }
    object.text("command_type", "batch");
    let mut data = Object::new(object.value("command_data"));
    json::array(data.value("commands"), bodies, |out, body| {
        let mut command = Object::new(out);
        command.text("type", body.name());
        commands::write(command.value("data"), body);
        command.end();
    });
    data.end();
    payload.wall_us
}

#[cfg(test)]
mod tests {
    use super::super::testing::{parsed, task_id};
    use super::*;
    use codec::Command;
    use codec::command::*;
    use serde_json::json;

    fn entry(bodies: Vec<Body>) -> LogEntry {
        let commands = bodies.into_iter().map(|body| Command { body: Some(body), ..Command::default() }).collect();
        let payload = EntryPayload { wall_us: 1_795_521_600_000_000, commands, ..EntryPayload::default() };
        let mut data = Vec::new();
        Frame::encode_message(FrameKind::EntryPayload, &payload, &mut data);
        LogEntry { index: 7, term: 2, kind: EntryKind::Normal, data: data.into() }
    }

    fn put() -> Body {
        Body::PutKey(PutKey {
            tenant: "t".into(),
            key: "k".into(),
            value: b"[1]".to_vec(),
            condition: Some(KeyCondition::Revision(4)),
        })
    }

    #[test]
    fn one_command_gives_its_name_and_several_a_batch() {
        let row = parsed(&log_row(&entry(vec![put()]), 7).expect("row"));
        let data = json!({"tenant": "t", "key": "k", "if_match": 4, "value": [1]});
        let expected = json!({"log_index": 7, "term": 2, "command_type": "put_key", "command_data": data, "committed": true,
            "timestamp": "2026-11-24T12:00:00.000000Z"});
        assert_eq!(row, expected);
        let row = parsed(&log_row(&entry(vec![put(), put()]), 6).expect("row"));
        assert_eq!((&row["command_type"], &row["committed"]), (&json!("batch"), &json!(false)));
        assert_eq!(row["command_data"]["commands"][1], json!({"type": "put_key", "data": data}));
    }

    #[test]
    fn an_empty_entry_is_a_no_op() {
        let entry = LogEntry { index: 1, term: 1, kind: EntryKind::Normal, data: Default::default() };
        let row = parsed(&log_row(&entry, 0).expect("row"));
        assert_eq!((&row["command_type"], &row["timestamp"]), (&json!("no_op"), &json!(null)));
    }

    /// A log with entries 3 and 4 on disk.
    struct Disk;

    impl LogReader for Disk {
        fn entries(&self, low: u64, high: u64, _: u64) -> std::result::Result<Vec<LogEntry>, StoreError> {
            if high > 5 {
                return Err(StoreError::Unavailable { high, last: 4 });
            }
            Ok((low..high).map(|index| LogEntry { index, term: 1, kind: EntryKind::Normal, data: Default::default() }).collect())
        }
    }

    /// Scenario: base 2, entries 3 and 4, more on the way to the disk → reads are cut to what is there; before
    /// the base there is nothing.
    #[test]
    fn the_log_is_read_within_its_bounds() {
        let read = |last, from, limit| log_rows(&Disk, 2, last, 3, from, limit).expect("read");
        let indexes = |rows: &LogRows| rows.rows.iter().map(|row| parsed(row)["log_index"].as_u64()).collect::<Vec<_>>();
        assert_eq!(indexes(&read(4, 3, 100)), [Some(3), Some(4)]);
        assert_eq!(indexes(&read(4, 3, 1)), [Some(3)]);
        assert_eq!(indexes(&read(9, 3, 100)), [Some(3), Some(4)]);
        for (last, from) in [(4, 5), (4, 2), (4, 0), (9, 5)] {
            let rows = read(last, from, 100);
            assert_eq!((rows.first, rows.committed, indexes(&rows)), (3, 3, vec![]), "from {from} with last {last}");
        }
    }

    /// Every kind of command, with as many fields set as have a shape of their own, is valid JSON.
    #[test]
    fn every_command_can_be_shown() {
        let id = || task_id(1).to_vec();
        let spec = TaskSpec {
            id: id(),
            payload: b"{}".to_vec(),
            retry: Some(RetryPolicy::default()),
            join: Some(Join::default()),
            ..Default::default()
        };
        let bodies = vec![
            Body::OpenSession(OpenSession::default()),
            Body::Submit(Submit { tasks: vec![spec.clone(), spec], ..Default::default() }),
            Body::Cancel(Cancel::default()),
            Body::Reschedule(Reschedule { priority: Some(-3), ..Default::default() }),
            Body::Retry(Retry { task_id: id() }),
            Body::RegisterAgent(RegisterAgent { capabilities: vec![Amount::default()], ..Default::default() }),
            Body::LeaveAgent(LeaveAgent::default()),
            Body::DrainAgent(DrainAgent::default()),
            Body::Start(Start::default()),
            Body::Progress(Progress { progress_bp: Some(1), checkpoint: Some(b"1".to_vec()), ..Default::default() }),
            Body::Complete(Complete::default()),
            Body::Fail(Fail::default()),
            put(),
            Body::DeleteKey(DeleteKey { condition: Some(KeyCondition::Absent(true)), ..Default::default() }),
            Body::DrainNode(DrainNode::default()),
            Body::Assign(Assign { items: vec![Assignment { terms: vec![1, -2], ..Default::default() }] }),
            Body::Expire(Expire {
                tasks: vec![ExpiredTask::default()],
                agents: vec![ExpiredAgent::default()],
                drained_nodes: vec!["n".into()],
            }),
            Body::Retention(Retention { task_ids: vec![id()], ..Default::default() }),
            Body::HashCheck(HashCheck { index: 1, hash: vec![0xab; 16], verify: 2 }),
            Body::ClockAdvance(ClockAdvance {}),
            Body::AddMember(AddMember::default()),
            Body::RemoveMember(RemoveMember::default()),
            Body::ReplaceMember(ReplaceMember::default()),
            Body::AdmitMember(AdmitMember::default()),
            Body::SettleMember(SettleMember::default()),
            Body::SwapVoter(SwapVoter::default()),
        ];
        let names: Vec<&str> = bodies.iter().map(Body::name).collect();
        let row = parsed(&log_row(&entry(bodies.clone()), 0).expect("row"));
        let shown = row["command_data"]["commands"].as_array().expect("array");
        assert_eq!(shown.iter().map(|c| c["type"].as_str().expect("name")).collect::<Vec<_>>(), names);
    }
}

//! Agents: what they declared, what they hold, how they did.

use codec::TaskId;
use codec::row::{AgentRow, AgentStatus, Cf, StateRead, index};
use serde::Deserialize;

use super::json::{self, Object};
use super::list::{Page, after_cursor, cursor_at};
use super::task::{amounts, labels, levels};
use super::{QueryError, Result, agent_row, indexed, limits, task_row};

/// What `GET /agents` asks for.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentQuery {
    /// `up`, `draining`, `lost` or `left`; without it, all but those that left.
    #[serde(default)]
    pub status: Option<String>,
    #[serde(default)]
    pub node_id: Option<String>,
    /// Key and value.
    #[serde(default)]
    pub label: Option<(String, String)>,
    pub limit: usize,
    #[serde(default)]
    pub cursor: Option<String>,
    #[serde(default)]
    pub count: bool,
}

/// The name of an agent's status in the API.
pub fn status_name(status: AgentStatus) -> &'static str {
    match status {
        AgentStatus::Up => "up",
        AgentStatus::Draining => "draining",
        AgentStatus::Lost => "lost",
        AgentStatus::Left => "left",
    }
}

/// One agent as a JSON object; `None` if it is unknown.
pub fn agent(rows: &dyn StateRead, agent_id: &str) -> Result<Option<Vec<u8>>> {
    let Some(agent) = agent_row(rows, agent_id)? else { return Ok(None) };
    let mut out = Vec::new();
    write(&mut out, rows, agent_id, &agent)?;
    Ok(Some(out))
}

/// (agent_epoch, status) of an agent; `None` if it is unknown.
pub fn agent_epoch(rows: &dyn StateRead, agent_id: &str) -> Result<Option<(u64, AgentStatus)>> {
    Ok(agent_row(rows, agent_id)?.map(|agent| (agent.agent_epoch, agent.status())))
}

/// One page of agents in the order of their ids.
///
/// # Errors
/// [`QueryError::Query`] for an unknown status or a cursor of another list.
pub fn agents(rows: &dyn StateRead, query: &AgentQuery) -> Result<Page> {
    let known = ["up", "draining", "lost", "left"];
    if let Some(name) = query.status.as_deref().filter(|name| !known.contains(name)) {
        return Err(QueryError::Query(format!("unknown status {name:?}")));
    }
    let limit = query.limit.clamp(1, limits::PAGE_ITEMS_MAX);
    let start = query.cursor.as_deref().map(|cursor| after_cursor(cursor, b"")).transpose()?.unwrap_or_default();
    let (mut found, mut scanned, mut broken) = (Vec::new(), 0, Ok(()));
    rows.scan(Cf::Agent, b"", &start, &mut |key, value| {
        scanned += 1;
        match codec::row::decode::<AgentRow>(value) {
            Ok(agent) if matches(query, &agent) => found.push((key.to_vec(), agent)),
            Ok(_) => {}
            Err(error) => broken = Err(error),
        }
        broken.is_ok() && found.len() <= limit && scanned < limits::PAGE_SCAN_MAX
    })?;
    broken?;
    let more = found.len() > limit;
    found.truncate(limit);
    let mut items = Vec::new();
    let mut written = Ok(());
    json::array(&mut items, &found, |out, (key, agent)| {
        let result = write(out, rows, &String::from_utf8_lossy(key), agent);
        written = std::mem::replace(&mut written, Ok(())).and(result);
    });
    written?;
    let next_cursor = found.last().filter(|_| more).map(|(key, _)| cursor_at(key));
    Ok(Page { items, next_cursor, count: if query.count { Some(count(rows, query)?) } else { None } })
}

fn matches(query: &AgentQuery, agent: &AgentRow) -> bool {
    let status = match &query.status {
        Some(wanted) => status_name(agent.status()) == wanted,
        None => agent.status() != AgentStatus::Left,
    };
    let label = |wanted: &(String, String)| agent.labels.iter().any(|l| l.key == wanted.0 && l.value == wanted.1);
    status && query.node_id.as_ref().is_none_or(|node| agent.node_id == *node) && query.label.as_ref().is_none_or(label)
}

/// The machine bounds agents at 100,000, so all of them are looked at.
fn count(rows: &dyn StateRead, query: &AgentQuery) -> Result<u64> {
    let (mut count, mut broken) = (0, Ok(()));
    rows.scan(Cf::Agent, b"", b"", &mut |_, value| {
        match codec::row::decode::<AgentRow>(value) {
            Ok(agent) => count += u64::from(matches(query, &agent)),
            Err(error) => broken = Err(error),
        }
        broken.is_ok()
    })?;
    broken?;
    Ok(count)
}

fn write(out: &mut Vec<u8>, rows: &dyn StateRead, agent_id: &str, agent: &AgentRow) -> Result<()> {
    let mut object = Object::new(out);
    object.text("agent_id", agent_id);
    object.text_or_null("node_id", &agent.node_id);
    object.number("agent_epoch", agent.agent_epoch);
    object.text("status", status_name(agent.status()));
    levels(object.value("capabilities"), &agent.capabilities);
    amounts(object.value("resources"), &agent.resources);
    labels(object.value("labels"), &agent.labels);
    object.texts("task_types", agent.task_types.iter().map(String::as_str));
    object.text_or_null("version", &agent.version);
    object.time("registered_at", agent.registered_wall_us);
    object.time("changed_at", agent.changed_wall_us);
    object.number("revision", agent.revision);
    object.number("completed", agent.completed);
    object.number("failed", agent.failed);
    object.number("leases_lost", agent.leases_lost);
    let ended = agent.completed + agent.failed;
    match ended {
        0 => object.null("success"),
        _ => object.decimal("success", agent.completed * 10_000 / ended, 4),
    }
    let written = held(&mut object, rows, agent_id);
    object.end();
    written
}

/// What the agent works on, at most one page of it.
fn held(object: &mut Object<'_>, rows: &dyn StateRead, agent_id: &str) -> Result<()> {
    let mut held: Vec<(TaskId, codec::row::TaskRow)> = Vec::new();
    for id in indexed(rows, &index::by_agent_prefix(agent_id), limits::PAGE_ITEMS_MAX)? {
        held.extend(task_row(rows, id)?.map(|task| (id, task)));
    }
    json::array(object.value("held"), &held, |out, (id, task)| {
        let mut item = Object::new(out);
        item.id("task_id", &id.0);
        item.number("epoch", task.epoch.into());
        item.text("status", task.status().name());
        item.end();
    });
    Ok(())
}

/// Whether the node whose failure domain the agent shares is draining.
pub(super) fn node_drains(rows: &dyn StateRead, node_id: &str) -> Result<bool> {
    let member: Option<codec::row::MemberRow> = super::get(rows, Cf::Member, node_id.as_bytes())?;
    Ok(member.is_some_and(|member| member.drain() != codec::row::DrainState::None))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Rows, parsed, task_id};
    use super::*;
    use codec::command::Amount;
    use codec::row::Status;
    use serde_json::json;

    fn fleet() -> Rows {
        let mut rows = Rows::default();
        for (name, status) in [("a", AgentStatus::Up), ("b", AgentStatus::Left), ("c", AgentStatus::Lost), ("d", AgentStatus::Up)]
        {
            let capabilities = vec![Amount { name: "nlp".into(), amount: 8_000 }];
            rows.put_agent(
                name,
                &AgentRow { status: status as i32, capabilities, completed: 3, failed: 1, ..AgentRow::default() },
            );
        }
        rows
    }

    fn query(limit: usize) -> AgentQuery {
        serde_json::from_value(json!({"limit": limit, "count": true})).expect("a query")
    }

    #[test]
    fn an_agent_shows_what_it_holds() {
        let mut rows = fleet();
        let mut task = rows.plain_task(1, Status::Running);
        (task.assigned_agent_id, task.epoch) = ("a".to_owned(), 3);
        rows.put_task(task_id(1), &task);
        let object = parsed(&agent(&rows, "a").expect("read").expect("known"));
        assert_eq!(object["capabilities"], json!({"nlp": 0.8}));
        assert_eq!(object["success"], json!(0.75));
        assert_eq!(object["held"], json!([{"task_id": task_id(1).to_string(), "epoch": 3, "status": "running"}]));
        assert_eq!(agent(&rows, "zz").expect("read"), None);
    }

    #[test]
    fn agents_that_left_are_listed_only_on_request() {
        let rows = fleet();
        let first = agents(&rows, &query(2)).expect("page");
        let names = |page: &Page| {
            parsed(&page.items).as_array().expect("array").iter().map(|a| a["agent_id"].to_string()).collect::<Vec<_>>()
        };
        assert_eq!((names(&first), first.count), (vec!["\"a\"".to_owned(), "\"c\"".to_owned()], Some(3)));
        let rest = agents(&rows, &AgentQuery { cursor: first.next_cursor, ..query(2) }).expect("page");
        assert_eq!((names(&rest), rest.next_cursor), (vec!["\"d\"".to_owned()], None));
        let left = agents(&rows, &AgentQuery { status: Some("left".into()), ..query(2) }).expect("page");
        assert_eq!(names(&left), ["\"b\""]);
    }
}

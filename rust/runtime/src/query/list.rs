//! Lists of tasks: one index is scanned, newest first; every other filter is checked on the row.

use codec::TaskId;
use codec::row::{Cf, StateRead, Status, TaskRow, index};
use serde::Deserialize;

use super::task::{Detail, write};
use super::{QueryError, Result, limits, task_row};

/// What `GET /tasks/distributed` asks for.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaskQuery {
    pub tenant: String,
    /// A name of [`Status`].
    #[serde(default)]
    pub status: Option<String>,
    #[serde(default)]
    pub task_type: Option<String>,
    /// UUID text: its children, in the order they were submitted.
    #[serde(default)]
    pub parent: Option<String>,
    /// Key and value.
    #[serde(default)]
    pub label: Option<(String, String)>,
    /// Wall time in µs: only tasks created later.
    #[serde(default)]
    pub created_after_us: Option<u64>,
    /// Items of a page, cut to [`limits::PAGE_ITEMS_MAX`].
    pub limit: usize,
    #[serde(default)]
    pub cursor: Option<String>,
    /// Whether to count all that match.
    #[serde(default)]
    pub count: bool,
}

/// One page of a list.
#[derive(Debug)]
pub struct Page {
    /// A JSON array. It may hold less than the limit (even nothing) while `next_cursor` is set: a
    /// page looks at no more than [`limits::PAGE_SCAN_MAX`] rows.
    pub items: Vec<u8>,
    pub next_cursor: Option<String>,
    /// All that match; `None` if not asked for or beyond [`limits::COUNT_SCAN_MAX`].
    pub count: Option<u64>,
}

/// One page of tasks, newest first.
///
/// # Errors
/// [`QueryError::Query`] for an unknown status, a bad id, or a cursor of another query.
pub fn tasks(rows: &dyn StateRead, query: &TaskQuery) -> Result<Page> {
    let filter = Filter::of(query)?;
    let limit = query.limit.clamp(1, limits::PAGE_ITEMS_MAX);
    let start = match &query.cursor {
        Some(cursor) => after_cursor(cursor, &filter.prefix)?,
        None => filter.prefix.clone(),
    };
    // One key more than the page looks at tells whether there is a next one.
    let mut keys = filter.keys(rows, &start, limits::PAGE_SCAN_MAX + 1)?;
    let more = keys.len() > limits::PAGE_SCAN_MAX;
    keys.truncate(limits::PAGE_SCAN_MAX);
    let mut items = vec![b'['];
    let (mut taken, mut last) = (0, keys.len());
    for (position, key) in keys.iter().enumerate() {
        if taken == limit || items.len() >= limits::PAGE_BYTES_MAX {
            last = position;
            break;
        }
        let Some(id) = filter.id(key) else { continue };
        let Some(task) = task_row(rows, id)?.filter(|task| filter.matches(task)) else { continue };
        if taken > 0 {
            items.push(b',');
        }
        write(&mut items, rows, id, &task, Detail::Item)?;
        taken += 1;
    }
    items.push(b']');
    let next = (last < keys.len() || more).then(|| keys.get(last.wrapping_sub(1)).map(|key| cursor_at(key))).flatten();
    Ok(Page { items, next_cursor: next, count: if query.count { filter.count(rows)? } else { None } })
}

/// The index to scan and what is left to check.
struct Filter<'q> {
    query: &'q TaskQuery,
    status: Option<Status>,
    by_parent: bool,
    prefix: Vec<u8>,
    /// The scan of the index alone decides (its keys are ordered by time).
    exact: bool,
}

impl<'q> Filter<'q> {
    fn of(query: &'q TaskQuery) -> Result<Self> {
        let unknown = |name: &str| QueryError::Query(format!("unknown status {name:?}"));
        let status = query.status.as_deref().map(|name| Status::from_name(name).ok_or_else(|| unknown(name))).transpose()?;
        let bad = || QueryError::Query("parent is not a task id".to_owned());
        let parent = query.parent.as_deref().map(|id| TaskId::parse(id).ok_or_else(bad)).transpose()?;
        for (field, name) in [("tenant", Some(&query.tenant)), ("task_type", query.task_type.as_ref())] {
            if name.is_some_and(|name| name.len() > 255) {
                return Err(QueryError::Query(format!("{field} is longer than 255 bytes")));
            }
        }
        let by_type = query.task_type.is_some();
        let prefix = match (parent, status, &query.task_type) {
            (Some(parent), _, _) => index::by_parent_prefix(parent),
            // A type is mostly the smaller set; a status is checked on the row then.
            (None, _, Some(task_type)) => index::by_type_prefix(&query.tenant, task_type),
            (None, Some(status), None) => index::by_status_prefix(&query.tenant, status),
            (None, None, None) => index::by_time_prefix(&query.tenant),
        };
        let exact = parent.is_none() && query.label.is_none() && !(by_type && status.is_some());
        Ok(Self { query, status, by_parent: parent.is_some(), prefix, exact })
    }

    /// Index keys from `start` on, at most `limit`, while they are new enough.
    fn keys(&self, rows: &dyn StateRead, start: &[u8], limit: usize) -> Result<Vec<Vec<u8>>> {
        let mut keys = Vec::new();
        rows.scan(Cf::Index, &self.prefix, start, &mut |key, _| {
            if self.too_old(key) {
                return false;
            }
            keys.push(key.to_vec());
            keys.len() < limit
        })?;
        Ok(keys)
    }

    /// Keys hold the inverted creation time before the id, except those of children.
    fn too_old(&self, key: &[u8]) -> bool {
        let Some(after_us) = self.query.created_after_us else { return false };
        if self.by_parent || key.len() < self.prefix.len() + 24 {
            return false;
        }
        let at = key.len() - 24;
        let inverted = <[u8; 8]>::try_from(&key[at..at + 8]).map_or(0, u64::from_be_bytes);
        !inverted <= after_us
    }

    fn id(&self, key: &[u8]) -> Option<TaskId> {
        if self.by_parent { index::plain_id_at_end(key) } else { index::id_at_end(key) }
    }

    fn matches(&self, task: &TaskRow) -> bool {
        let label = |wanted: &(String, String)| task.labels.iter().any(|l| l.key == wanted.0 && l.value == wanted.1);
        task.tenant == self.query.tenant
            && self.status.is_none_or(|status| task.status() == status)
            && self.query.task_type.as_ref().is_none_or(|wanted| task.task_type == *wanted)
            && self.query.label.as_ref().is_none_or(label)
            && self.query.created_after_us.is_none_or(|after_us| task.created_wall_us > after_us)
    }

    fn count(&self, rows: &dyn StateRead) -> Result<Option<u64>> {
        let keys = self.keys(rows, &self.prefix, limits::COUNT_SCAN_MAX + 1)?;
        if keys.len() > limits::COUNT_SCAN_MAX {
            return Ok(None);
        }
        if self.exact {
            return Ok(Some(keys.len() as u64));
        }
        let mut count = 0;
        for id in keys.iter().filter_map(|key| self.id(key)) {
            count += u64::from(task_row(rows, id)?.is_some_and(|task| self.matches(&task)));
        }
        Ok(Some(count))
    }
}

/// A cursor is the last index key that was looked at, in hexadecimal.
pub(super) fn cursor_at(key: &[u8]) -> String {
    key.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The first key after a cursor.
pub(super) fn after_cursor(cursor: &str, prefix: &[u8]) -> Result<Vec<u8>> {
    let foreign = || QueryError::Query("the cursor belongs to another query".to_owned());
    let digit = |c: u8| (c as char).to_digit(16).map(|d| d as u8);
    let byte = |pair: &[u8]| Some((digit(pair[0])? << 4) | digit(*pair.get(1)?)?);
    let key: Option<Vec<u8>> = cursor.as_bytes().chunks(2).map(byte).collect();
    let mut key = key.filter(|key| key.starts_with(prefix) && !key.is_empty()).ok_or_else(foreign)?;
    key.push(0);
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{CREATED_US, Rows, parsed, task_id};
    use super::*;

    fn query(limit: usize) -> TaskQuery {
        serde_json::from_value(serde_json::json!({"tenant": "default", "limit": limit})).expect("a query")
    }

    fn ids(page: &Page) -> Vec<String> {
        let items = parsed(&page.items);
        items.as_array().expect("array").iter().map(|t| t["id"].as_str().expect("id").to_owned()).collect()
    }

    fn seven() -> Rows {
        let mut rows = Rows::default();
        for number in 1..=7 {
            let status = if number % 2 == 0 { Status::Ready } else { Status::Completed };
            let mut task = rows.plain_task(number, status);
            if number > 4 {
                task.task_type = "other".to_owned();
                task.labels = vec![codec::command::Label { key: "k".into(), value: number.to_string() }];
            }
            rows.put_task(task_id(number), &task);
        }
        rows
    }

    /// Scenario: 7 tasks in pages of 3 → each exactly once, newest first, and no cursor at the end.
    #[test]
    fn pages_join_without_gap_or_double() {
        let rows = seven();
        let (mut seen, mut cursor) = (Vec::new(), None);
        for _ in 0..3 {
            let page = tasks(&rows, &TaskQuery { cursor: cursor.take(), count: true, ..query(3) }).expect("page");
            assert_eq!(page.count, Some(7));
            seen.extend(ids(&page));
            cursor = page.next_cursor;
        }
        assert_eq!(cursor, None);
        let expected: Vec<String> = (1..=7).rev().map(|n| task_id(n).to_string()).collect();
        assert_eq!(seen, expected);
    }

    #[test]
    fn filters_narrow_the_list_and_the_count() {
        let rows = seven();
        let numbers = |q: TaskQuery| {
            let page = tasks(&rows, &TaskQuery { count: true, ..q }).expect("page");
            let found = ids(&page);
            assert_eq!(page.count, Some(found.len() as u64));
            found
        };
        let named = |wanted: &[u8]| wanted.iter().map(|n| task_id(*n).to_string()).collect::<Vec<_>>();
        assert_eq!(numbers(TaskQuery { status: Some("ready".into()), ..query(10) }), named(&[6, 4, 2]));
        assert_eq!(numbers(TaskQuery { task_type: Some("other".into()), ..query(10) }), named(&[7, 6, 5]));
        let both = TaskQuery { task_type: Some("other".into()), status: Some("ready".into()), ..query(10) };
        assert_eq!(numbers(both), named(&[6]));
        assert_eq!(numbers(TaskQuery { label: Some(("k".into(), "5".into())), ..query(10) }), named(&[5]));
        assert_eq!(numbers(TaskQuery { created_after_us: Some(CREATED_US + 5), ..query(10) }), named(&[7, 6]));
        assert_eq!(numbers(TaskQuery { tenant: "another".into(), ..query(10) }), named(&[]));
    }

    #[test]
    fn children_come_in_the_order_of_the_submit() {
        let mut rows = Rows::default();
        rows.child(1, 3, "b", Status::Ready, &[]);
        rows.child(1, 2, "a", Status::Ready, &[]);
        let page = tasks(&rows, &TaskQuery { parent: Some(task_id(1).to_string()), ..query(10) }).expect("page");
        assert_eq!(ids(&page), [task_id(2).to_string(), task_id(3).to_string()]);
    }

    #[test]
    fn a_foreign_cursor_is_refused() {
        let rows = seven();
        let ready = TaskQuery { status: Some("ready".into()), ..query(1) };
        let cursor = tasks(&rows, &ready).expect("page").next_cursor.expect("more");
        for bad in [cursor.as_str(), "zz", "7", "ü", ""] {
            let refused = tasks(&rows, &TaskQuery { cursor: Some(bad.to_owned()), ..query(1) });
            assert!(matches!(refused, Err(QueryError::Query(_))), "{bad}");
        }
    }
}

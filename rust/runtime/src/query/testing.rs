//! Rows in a map, for the tests of this module.

use std::collections::BTreeMap;

use codec::TaskId;
use codec::row::{self, AgentRow, BlobKind, Cf, ReadError, StateRead, Status, TaskRow, index};

/// Wall time at which the tests' tasks are created, plus their number, in µs.
pub const CREATED_US: u64 = 1_795_000_000_000_000;

#[derive(Default)]
pub struct Rows {
    rows: BTreeMap<(Cf, Vec<u8>), Vec<u8>>,
}

/// The id of a test's task `number`; ids grow with it.
pub fn task_id(number: u8) -> TaskId {
    let mut bytes = [0u8; 16];
    bytes[15] = number;
    TaskId(bytes)
}

pub fn parsed(json: &[u8]) -> serde_json::Value {
    serde_json::from_slice(json).expect("valid JSON")
}

impl Rows {
    pub fn put(&mut self, cf: Cf, key: Vec<u8>, value: Vec<u8>) {
        self.rows.insert((cf, key), value);
    }

    pub fn plain_task(&self, number: u8, status: Status) -> TaskRow {
        TaskRow {
            tenant: "default".to_owned(),
            task_type: "t".to_owned(),
            status: status as i32,
            created_wall_us: CREATED_US + u64::from(number),
            ..TaskRow::default()
        }
    }

    /// Stores a task and its index rows, as apply does.
    pub fn put_task(&mut self, id: TaskId, task: &TaskRow) {
        self.put(Cf::Task, row::key::task(id), row::encode(task));
        let (tenant, created) = (&task.tenant, task.created_wall_us);
        self.put(Cf::Index, index::by_time(tenant, created, id), Vec::new());
        self.put(Cf::Index, index::by_status(tenant, task.status(), created, id), Vec::new());
        self.put(Cf::Index, index::by_type(tenant, &task.task_type, created, id), Vec::new());
        if let Ok(parent) = TaskId::from_slice(&task.parent_id) {
            self.put(Cf::Index, index::by_parent(parent, task.submit_position, id), Vec::new());
        }
        if task.status().held() {
            self.put(Cf::Index, index::by_agent(&task.assigned_agent_id, id), Vec::new());
        }
    }

    pub fn put_blob(&mut self, id: TaskId, kind: BlobKind, json: &[u8]) {
        self.put(Cf::Blob, row::key::blob(id, kind, 0), json.to_vec());
    }

    pub fn put_agent(&mut self, agent_id: &str, agent: &AgentRow) {
        self.put(Cf::Agent, agent_id.as_bytes().to_vec(), row::encode(agent));
    }

    /// Stores a child with a name and dependencies on other tasks of the test.
    pub fn child(&mut self, parent: u8, number: u8, name: &str, status: Status, dependencies: &[u8]) {
        let mut row = self.plain_task(number, status);
        row.name = name.to_owned();
        row.parent_id = task_id(parent).to_vec();
        row.submit_position = number.into();
        row.dependencies = dependencies.iter().map(|&n| task_id(n).to_vec()).collect();
        self.put_task(task_id(number), &row);
    }
}

impl StateRead for Rows {
    fn get(&self, cf: Cf, key: &[u8]) -> Result<Option<Vec<u8>>, ReadError> {
        Ok(self.rows.get(&(cf, key.to_vec())).cloned())
    }

    fn scan(&self, cf: Cf, prefix: &[u8], start: &[u8], visit: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> Result<(), ReadError> {
        for ((_, key), value) in
            self.rows.range((cf, start.to_vec())..).take_while(|((c, k), _)| *c == cf && k.starts_with(prefix))
        {
            if !visit(key, value) {
                break;
            }
        }
        Ok(())
    }
}

//! The columns of a batch for the policy, and the dense numbers of classes and agents.

use std::collections::HashMap;
use std::sync::Arc;

use codec::command::{Amount, Label, Requirements};
use codec::row::{AgentRow, AgentStatus, TaskRow, encode};
use codec::{Message, TaskId};
use serde::Serialize;

use super::Live;

/// What happened to a task, from the policy's point of view. The numbers are those of `PolicyBatch.op`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Op {
    /// Entered the queue, or changed in it.
    Ready = 1,
    /// Left the queue without an assignment.
    Gone = 2,
    /// The agent holds it now.
    Taken = 3,
    /// The agent holds it no longer.
    Freed = 4,
}

/// One little-endian buffer a column; all columns of a group have one length.
#[derive(Clone, Debug, Default)]
pub struct Columns {
    pub op: Vec<u8>,
    pub task: Vec<u8>,
    pub epoch: Vec<u8>,
    pub class: Vec<u8>,
    pub agent: Vec<u8>,
    pub priority: Vec<u8>,
    pub tenant: Vec<u8>,
    pub unit: Vec<u8>,
    pub order: Vec<u8>,
    pub position: Vec<u8>,
    pub deadline_us: Vec<u8>,
    pub ready_us: Vec<u8>,
    pub run_us: Vec<u8>,
    pub size_hint: Vec<u8>,
    pub success: Vec<u8>,
    pub load_agent: Vec<u8>,
    pub load_bp: Vec<u8>,
    /// JSON objects of classes that were not told before.
    pub classes: Vec<String>,
    /// JSON objects of agents that changed.
    pub agents: Vec<String>,
    /// JSON objects of graphs that were not told before.
    pub graphs: Vec<String>,
    /// Numbers of graphs whose parent has ended.
    pub graphs_ended: Vec<u8>,
    /// JSON items `[task id in hex, [agent_id…]]`.
    pub excluded: Vec<String>,
}

/// A row of the columns; what an operation does not have is 0.
#[derive(Default)]
pub struct Row<'a> {
    pub task: Option<&'a TaskRow>,
    pub class: u32,
    pub tenant: u32,
    pub unit: u32,
    pub agent: u32,
    pub run_us: u64,
    pub size_hint: u64,
    pub success: bool,
}

impl Columns {
    /// Operations in it.
    pub fn len(&self) -> usize {
        self.op.len()
    }

    /// Nothing to decide: loads alone change no decision that was not due anyway.
    pub fn is_empty(&self) -> bool {
        self.op.is_empty() && self.agents.is_empty()
    }

    pub fn push(&mut self, op: Op, id: TaskId, row: &Row<'_>) {
        let none = TaskRow::default();
        let task = row.task.unwrap_or(&none);
        self.op.push(op as u8);
        self.task.extend_from_slice(&id.0);
        self.epoch.extend_from_slice(&task.epoch.to_le_bytes());
        self.class.extend_from_slice(&row.class.to_le_bytes());
        self.agent.extend_from_slice(&row.agent.to_le_bytes());
        self.priority.extend_from_slice(&task.priority.to_le_bytes());
        self.tenant.extend_from_slice(&row.tenant.to_le_bytes());
        self.unit.extend_from_slice(&row.unit.to_le_bytes());
        self.order.extend_from_slice(&task.submit_revision.to_le_bytes());
        self.position.extend_from_slice(&task.submit_position.to_le_bytes());
        self.deadline_us.extend_from_slice(&task.deadline_wall_us.to_le_bytes());
        self.ready_us.extend_from_slice(&task.ready_cluster_us.to_le_bytes());
        self.run_us.extend_from_slice(&row.run_us.to_le_bytes());
        let size_hint = if row.size_hint > 0 { row.size_hint } else { task.size_hint };
        self.size_hint.extend_from_slice(&size_hint.to_le_bytes());
        self.success.push(row.success.into());
        if op == Op::Ready && !task.excluded_agents.is_empty() {
            let hex: String = id.0.iter().map(|byte| format!("{byte:02x}")).collect();
            self.excluded.extend(json(&(hex, &task.excluded_agents)));
        }
    }

    pub fn push_load(&mut self, agent: u32, load_bp: [u16; 3]) {
        self.load_agent.extend_from_slice(&agent.to_le_bytes());
        self.load_bp.extend(load_bp.iter().flat_map(|bp| bp.to_le_bytes()));
    }
}

/// JSON of a value that always has one.
fn json(value: &impl Serialize) -> Option<String> {
    serde_json::to_string(value).ok()
}

/// Requirement classes: equal (task type, requirements) share a number.
#[derive(Default)]
pub struct Classes {
    numbers: HashMap<(String, Vec<u8>), u32>,
}

#[derive(Serialize)]
struct ClassJson<'a> {
    klass: u32,
    task_type: &'a str,
    capabilities: Vec<(&'a str, u32, u32)>,
    resources: Vec<(&'a str, u64)>,
    labels: Vec<(&'a str, &'a str)>,
}

impl Classes {
    pub fn len(&self) -> usize {
        self.numbers.len()
    }

    /// The task's class; one that is new is told in `columns`.
    pub fn of(&mut self, task: &TaskRow, columns: &mut Columns) -> u32 {
        let encoded = task.requirements.as_ref().map_or_else(Vec::new, Message::encode_to_vec);
        let next = self.numbers.len() as u32;
        *self.numbers.entry((task.task_type.clone(), encoded)).or_insert_with(|| {
            columns.classes.extend(class_json(next, task));
            next
        })
    }
}

/// Dense tenant numbers, stable until the next reset.
#[derive(Default)]
pub struct Tenants {
    numbers: HashMap<String, u32>,
}

impl Tenants {
    pub fn len(&self) -> usize {
        self.numbers.len()
    }

    /// The number of a task's tenant.
    pub fn of(&mut self, task: &TaskRow) -> u32 {
        if let Some(number) = self.numbers.get(&task.tenant) {
            return *number;
        }
        let number = self.numbers.len() as u32;
        self.numbers.insert(task.tenant.clone(), number);
        number
    }
}

/// Numbers of graphs from 1 on, never given twice until the next reset; 0 is a task without a graph.
#[derive(Default)]
pub struct Units {
    numbers: HashMap<TaskId, u32>,
    given: u32,
}

#[derive(Serialize)]
struct GraphJson {
    unit: u32,
    /// (position, class) of what has not ended.
    tasks: Vec<(u32, u32)>,
    /// (position of the dependency, position of the dependent).
    edges: Vec<(u32, u32)>,
}

impl Units {
    /// Numbers given.
    pub fn given(&self) -> usize {
        self.given as usize
    }

    /// The number of a task's graph; one that is new is told whole in `columns`, with its classes.
    pub fn of(&mut self, task: &TaskRow, live: &dyn Live, classes: &mut Classes, columns: &mut Columns) -> u32 {
        let Ok(parent) = <[u8; 16]>::try_from(&*task.parent_id).map(TaskId) else { return 0 };
        if let Some(number) = self.numbers.get(&parent) {
            return *number;
        }
        self.given += 1;
        let unit = self.given;
        self.numbers.insert(parent, unit);
        let rows = live.graph(parent);
        let position: HashMap<&[u8], u32> = rows.iter().map(|(id, row)| (&id.0[..], row.submit_position)).collect();
        let into = |row: &TaskRow| {
            let to = row.submit_position;
            row.dependencies.iter().filter_map(|from| position.get(&**from)).map(|from| (*from, to)).collect::<Vec<_>>()
        };
        let edges = rows.iter().flat_map(|(_, row)| into(row)).collect();
        let tasks = rows.iter().map(|(_, row)| (row.submit_position, classes.of(row, columns))).collect();
        columns.graphs.extend(json(&GraphJson { unit, tasks, edges }));
        unit
    }

    /// A task ended: if it is a graph's parent, the policy may forget the graph.
    pub fn ended(&mut self, task: TaskId, columns: &mut Columns) {
        if let Some(number) = self.numbers.remove(&task) {
            columns.graphs_ended.extend_from_slice(&number.to_le_bytes());
        }
    }
}

fn class_json(klass: u32, task: &TaskRow) -> Option<String> {
    let none = Requirements::default();
    let needs = task.requirements.as_ref().unwrap_or(&none);
    json(&ClassJson {
        klass,
        task_type: &task.task_type,
        capabilities: needs.capabilities.iter().map(|need| (&*need.dimension, need.min_bp, need.weight_milli)).collect(),
        resources: pairs(&needs.resources),
        labels: label_pairs(&needs.labels),
    })
}

fn pairs(amounts: &[Amount]) -> Vec<(&str, u64)> {
    amounts.iter().map(|amount| (&*amount.name, amount.amount)).collect()
}

fn label_pairs(labels: &[Label]) -> Vec<(&str, &str)> {
    labels.iter().map(|label| (&*label.key, &*label.value)).collect()
}

/// Dense agent numbers, stable until the next reset, and what was last told of each.
#[derive(Default)]
pub struct Agents {
    numbers: HashMap<Arc<str>, u32>,
    ids: Vec<Arc<str>>,
    /// Encoded row and whether its node drains: an agent that did not change is not told again.
    told: Vec<Option<(Vec<u8>, bool)>>,
}

#[derive(Serialize)]
struct AgentJson<'a> {
    agent: u32,
    agent_id: &'a str,
    agent_epoch: u64,
    node_id: &'a str,
    status: &'a str,
    placeable: bool,
    capabilities: Vec<(&'a str, u64)>,
    resources: Vec<(&'a str, u64)>,
    labels: Vec<(&'a str, &'a str)>,
    task_types: &'a [String],
}

impl Agents {
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    pub fn id(&self, number: u32) -> Option<&Arc<str>> {
        self.ids.get(number as usize)
    }

    pub fn number(&mut self, agent_id: &str) -> u32 {
        if let Some(number) = self.numbers.get(agent_id) {
            return *number;
        }
        let (number, id): (u32, Arc<str>) = (self.ids.len() as u32, agent_id.into());
        self.numbers.insert(id.clone(), number);
        self.ids.push(id);
        self.told.push(None);
        number
    }

    pub fn known(&self, agent_id: &str) -> Option<u32> {
        self.numbers.get(agent_id).copied()
    }

    /// Tells an agent in `columns` unless the policy knows it as it is.
    pub fn tell(&mut self, agent_id: &str, row: &AgentRow, node_drains: bool, columns: &mut Columns) {
        let number = self.number(agent_id);
        let now = Some((encode(row), node_drains));
        if self.told[number as usize] == now {
            return;
        }
        self.told[number as usize] = now;
        columns.agents.extend(json(&AgentJson {
            agent: number,
            agent_id,
            agent_epoch: row.agent_epoch,
            node_id: &row.node_id,
            status: crate::query::agent_status_name(row.status()),
            placeable: row.status() == AgentStatus::Up && !node_drains,
            capabilities: pairs(&row.capabilities),
            resources: pairs(&row.resources),
            labels: label_pairs(&row.labels),
            task_types: &row.task_types,
        }));
    }
}

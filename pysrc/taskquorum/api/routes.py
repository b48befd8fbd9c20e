"""The route table: every call of API.md that this release has. OpenAPI is made from it."""

from __future__ import annotations

from typing import Any, Final

from taskquorum.api import (
    answers,
    handlers_agents,
    handlers_backup,
    handlers_cluster,
    handlers_docs,
    handlers_keys,
    handlers_members,
    handlers_tasks,
    handlers_watch,
    query,
    schema,
)
from taskquorum.api.call import Call
from taskquorum.api.routing import OneOf, Route
from taskquorum.model import API_BASE, BATCH_BODY_BYTES_MAX, BODY_BYTES_MAX, STATUSES

_SLACK: Final = 4096
"""Room around a payload of its largest size."""


def _queries(*parameters: query.Query) -> dict[str, query.Query]:
    return {parameter.name: parameter for parameter in parameters}


def _poll(call: Call) -> None:
    call.app.polls.handle(call)


def _call(method: str, path: str, handler: Any, summary: str, tag: str, answer: Any, **more: Any) -> Route:
    if "body" in more:
        more.setdefault("body_bytes_max", BODY_BYTES_MAX + _SLACK)
    return Route(method, API_BASE + path, handler, summary, tag, answers=answer, **more)


_LOCAL: Final = _queries(query.CONSISTENCY)
_IDEMPOTENCY: Final = {"Idempotency-Key": "The same key and body replays status and answer; another body is refused."}
_CONDITIONS: Final = {"If-Match": 'The key\'s revision in quotes: "7".', "If-None-Match": "`*`: only if there is no such key."}

_TASKS: Final = (
    _call(
        "POST", "/tasks/distributed", handlers_tasks.submit, "Submit a task, a DAG, or an array of them", "tasks",
        {202: OneOf((answers.Submitted, answers.DagSubmitted, answers.BatchSubmitted)), 200: answers.Task},
        query=_queries(query.WAIT_MS), headers=_IDEMPOTENCY, ndjson=True, body_required=True,
        body=OneOf((schema.TaskSubmit, schema.DagSubmit), array=True),
        body_bytes_max=BATCH_BODY_BYTES_MAX,
    ),
    _call(
        "GET", "/tasks/distributed", handlers_tasks.listing, "List tasks, newest first", "tasks", {200: answers.TaskList},
        query=_queries(
            query.choice("status", STATUSES), query.text("task_type", 50), query.uuid("parent"), query.LABEL,
            query.TENANT, query.CREATED_AFTER, query.LIMIT, query.CURSOR, query.COUNT, query.CONSISTENCY,
        ),
    ),
    _call(
        "GET", "/tasks/distributed/{id}", handlers_tasks.get, "The task, now or when it ended", "tasks", {200: answers.Task},
        query=_queries(query.WAIT_MS, query.UNTIL, query.choices("include", ("children", "events")), query.CONSISTENCY),
    ),
    _call(
        "POST", "/tasks/{id}/reschedule", handlers_tasks.reschedule, "Put a live task back into the queue", "tasks",
        {200: answers.TaskState}, body=schema.RescheduleBody,
    ),
    _call(
        "POST", "/tasks/{id}/cancel", handlers_tasks.cancel, "Cancel a task and its children", "tasks",
        {200: answers.TaskState}, body=schema.CancelBody,
    ),
    _call(
        "POST", "/tasks/{id}/retry", handlers_tasks.retry, "Make a parked or failed task ready again", "tasks",
        {200: answers.TaskState}, body=schema.EmptyBody,
    ),
    _call("GET", "/tasks/{id}/events", handlers_tasks.events, "Its timeline", "tasks", {200: answers.Timeline}, query=_LOCAL),
    _call("GET", "/tasks/{id}/result", handlers_tasks.result, "The task's result alone", "tasks", {200: Any}, query=_LOCAL),
    _call(
        "GET", "/tasks/{id}/logs", handlers_tasks.logs, "Log lines of one attempt, the newest 64 KiB", "tasks",
        {200: "application/x-ndjson"},
        query=_queries(query.integer("attempt", 1, 1_000_000, "The newest by default."), query.CONSISTENCY),
    ),
    _call("GET", "/tasks/{id}/graph", handlers_tasks.graph, "The DAG around a task", "tasks", {200: answers.Graph}, query=_LOCAL),
)  # fmt: skip

_AGENTS: Final = (
    _call(
        "POST", "/agents", handlers_agents.register, "Register an agent", "agents",
        {201: answers.Registered, 200: answers.Registered}, body=schema.AgentRegister, body_required=True,
    ),
    _call(
        "GET", "/agents", handlers_agents.listing, "List agents by id", "agents", {200: answers.AgentList},
        query=_queries(
            query.choice("status", ("up", "draining", "lost", "left")), query.text("node_id", 255), query.LABEL,
            query.LIMIT, query.CURSOR, query.COUNT, query.CONSISTENCY,
        ),
    ),
    _call("GET", "/agents/{id}", handlers_agents.get, "One agent", "agents", {200: answers.Agent}, query=_LOCAL),
    _call("DELETE", "/agents/{id}", handlers_agents.leave, "It leaves; its tasks go back", "agents", {200: answers.AgentState}),
    _call(
        "POST", "/agents/{id}/poll", _poll, "Beat, deliver results and progress, fetch assignments", "agents",
        {200: answers.PollAnswer}, body=schema.PollBody, body_required=True, body_bytes_max=BATCH_BODY_BYTES_MAX,
    ),
    _call(
        "POST", "/agents/{id}/heartbeat", handlers_agents.heartbeat, "Extend the lease", "agents",
        {200: answers.HeartbeatAnswer}, body=schema.HeartbeatBody, body_required=True,
    ),
    _call(
        "POST", "/agents/{id}/drain", handlers_agents.drain, "No new work for the agent", "agents",
        {200: answers.AgentState}, body=schema.EmptyBody,
    ),
    _call("DELETE", "/agents/{id}/drain", handlers_agents.resume, "End the agent's drain", "agents", {200: answers.AgentState}),
    _call(
        "POST", "/tasks/{id}/start", handlers_agents.start, "The agent holds the task", "agents",
        {200: answers.TaskState}, body=schema.StartBody, body_required=True,
    ),
    _call(
        "POST", "/tasks/{id}/progress", handlers_agents.progress, "Progress, checkpoint and log of an attempt", "agents",
        {200: answers.TaskState}, body=schema.ProgressBody, body_required=True, body_bytes_max=2 * BODY_BYTES_MAX,
    ),
    _call(
        "POST", "/tasks/{id}/complete", handlers_agents.complete, "The attempt succeeded", "agents",
        {200: answers.TaskState}, body=schema.CompleteBody, body_required=True,
    ),
    _call(
        "POST", "/tasks/{id}/fail", handlers_agents.fail, "The attempt failed", "agents",
        {200: answers.TaskState}, body=schema.FailBody, body_required=True,
    ),
)  # fmt: skip

_KEYS: Final = (
    _call(
        "PUT", "/state/{key:path}", handlers_keys.put, "Write a key", "state",
        {200: answers.KeyWritten, 201: answers.KeyWritten},
        query=_queries(query.TENANT), headers=_CONDITIONS, body=schema.KeyPut, body_required=True,
    ),
    _call(
        "GET", "/state/{key:path}", handlers_keys.get, "Read a key", "state", {200: answers.Key},
        query=_queries(query.TENANT, query.CONSISTENCY),
    ),
    _call(
        "DELETE", "/state/{key:path}", handlers_keys.delete, "Delete a key", "state", {200: answers.KeyDeleted},
        query=_queries(query.TENANT), headers=_CONDITIONS,
    ),
    _call(
        "GET", "/watch", handlers_watch.watch, "Every change, in the order of revisions", "state", {200: "text/event-stream"},
        query=_queries(
            query.integer("from_revision", 0, (1 << 62) - 1, "Included; from now on by default."),
            query.choices("kinds", handlers_watch.KINDS), query.uuid("task", "The task and its children."), query.LABEL,
            query.text("prefix", 512, "Of keys."),
        ),
        headers={"Last-Event-ID": "The last revision seen: the stream goes on after it."},
    ),
)  # fmt: skip

_CLUSTER: Final = (
    _call("GET", "/cluster/status", handlers_cluster.status, "The cluster from here", "cluster", {200: answers.ClusterStatus}),
    _call("GET", "/cluster/nodes", handlers_cluster.nodes, "The nodes from here", "cluster", {200: answers.NodeList}),
    _call(
        "POST", "/cluster/nodes/{id}/drain", handlers_cluster.drain, "Take a node's agents out of service", "cluster",
        {202: answers.NodeDrain}, body=schema.DrainBody,
    ),
    _call("DELETE", "/cluster/nodes/{id}/drain", handlers_cluster.resume, "End the drain", "cluster", {200: answers.NodeDrain}),
    _call(
        "POST", "/cluster/members", handlers_members.add, "Take a node in, or give a lost one's place to it", "cluster",
        {200: answers.MemberChange, 202: answers.MemberChange}, body=schema.MemberAdd, body_required=True,
    ),
    _call(
        "DELETE", "/cluster/members/{id}", handlers_members.remove, "Remove a node from the cluster", "cluster",
        {200: answers.MemberChange, 202: answers.MemberChange}, query=_queries(query.WAIT_MS),
    ),
    _call(
        "POST", "/cluster/transfer-leader", handlers_cluster.transfer_leader, "Hand leadership over", "cluster",
        {200: answers.Done}, body=schema.TransferBody,
    ),
    _call(
        "POST", "/cluster/snapshot", handlers_cluster.snapshot, "Take a snapshot of this node's state", "cluster",
        {200: answers.Done}, body=schema.EmptyBody,
    ),
    _call(
        "POST", "/cluster/verify", handlers_cluster.verify, "Have every node check its state against all rows", "cluster",
        {200: answers.Verification}, body=schema.VerifyBody,
    ),
    _call(
        "GET", "/cluster/backup", handlers_backup.backup, "The state at one revision as one file (docs/backup.md)", "cluster",
        {200: "application/octet-stream"},
    ),
    _call(
        "GET", "/cluster/raft-log", handlers_cluster.raft_log, "Rows of the Raft log", "cluster", {200: answers.LogRows},
        query=_queries(
            query.integer("from", 0, (1 << 62) - 1), query.integer("limit", 1, handlers_cluster.LOG_ROWS_READ_MAX),
            query.boolean("follow", "Stream committed rows as server-sent events."),
        ),
    ),
    _call("GET", "/coordination/stats", handlers_cluster.stats, "Counters and percentiles", "cluster", {200: answers.Stats}),
)  # fmt: skip

_PROCESS: Final = tuple(
    Route("GET", path, handler, summary, "process", answers=answer)
    for path, handler, summary, answer in (
        ("/healthz", handlers_cluster.healthz, "Whether the process works", {200: answers.Health}),
        ("/readyz", handlers_cluster.readyz, "Whether the node should get requests", {200: answers.Health}),
        ("/metrics", handlers_cluster.metrics, "Counters for Prometheus", {200: "text/plain"}),
        ("/openapi.json", handlers_docs.openapi, "This API as OpenAPI 3.1", {200: dict[str, Any]}),
        ("/docs", handlers_docs.docs, "This API as a page", {200: "text/html"}),
    )
)


def _both(routes: tuple[Route, ...]) -> tuple[Route, ...]:
    """Health and documents answer below the base too, for clients that know only that."""
    below = (Route(r.method, API_BASE + r.path, r.handler, r.summary, r.tag, answers=r.answers) for r in routes)
    return (*routes, *below)


ROUTES: Final = (*_TASKS, *_AGENTS, *_KEYS, *_CLUSTER, *_both(_PROCESS))

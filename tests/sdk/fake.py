"""A server small enough to read, for tests of the SDK: one process, no consensus, the same HTTP contract.

It assigns each ready task to any agent that has its type, answers polls as API.md says, and can be
told to misbehave: `down` answers nothing but 503, `mute_beats` does not extend leases.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any
from uuid import uuid4

from aiohttp import web

ENDED = {"completed", "failed", "skipped", "cancelled"}


def problem(status: int, code: str, **more: Any) -> web.Response:
    body = {"type": "about:blank", "title": code, "status": status, "detail": f"{code} happened", "code": code, **more}
    headers = {"Retry-After": "0"} if status in (429, 503) else {}
    return web.json_response(body, status=status, headers=headers, content_type="application/problem+json")


class FakeCluster:
    """State shared by any number of fake servers."""

    def __init__(self) -> None:
        self.tasks: dict[str, dict[str, Any]] = {}
        self.idempotent: dict[str, Any] = {}
        self.agents: dict[str, dict[str, Any]] = {}
        self.keys: dict[str, dict[str, Any]] = {}
        self.events: list[dict[str, Any]] = []
        self.left: list[str] = []
        self.polls: list[dict[str, Any]] = []
        self.progress: list[dict[str, Any]] = []
        self.commands: list[dict[str, Any]] = []
        self.revision = 0
        self.leader: str | None = "fake-1"
        self.mute_beats = False
        self.withhold_held = False
        self.changed = asyncio.Condition()

    async def touch(self, task: dict[str, Any], status: str) -> None:
        """A task changes its status: everyone who waits wakes up."""
        self.revision += 1
        task["status"] = status
        task["revision"] = self.revision
        shown = {key: task.get(key) for key in ("status", "epoch", "assigned_agent_id", "task_type")}
        self.events.append({"revision": self.revision, "kind": "task", "type": status, "id": task["id"], "object": shown})
        async with self.changed:
            self.changed.notify_all()

    async def until(self, condition: Any, timeout_s: float = 10.0) -> None:
        """Waits until `condition()` holds, at every change."""
        async with asyncio.timeout(timeout_s):
            async with self.changed:
                await self.changed.wait_for(condition)

    async def nudge(self) -> None:
        async with self.changed:
            self.changed.notify_all()

    async def add(self, wire: dict[str, Any], parent: str | None = None, names: dict[str, str] | None = None) -> dict[str, Any]:
        task_id = wire.get("id") or str(uuid4())
        if task_id in self.tasks:
            return self.tasks[task_id]
        dependencies = [(names or {}).get(name, name) for name in wire.get("dependencies", [])]
        named = dict(zip(dependencies, wire.get("dependencies", []), strict=True))
        task = {"id": task_id, "task_data": None, "epoch": 0, "parent_task_id": parent, **wire, "dependencies": dependencies}
        task["names"], task["retry_count"], task["assigned_agent_id"] = named, 0, None
        self.tasks[task_id] = task
        blocked = any(self.tasks[d]["status"] != "completed" for d in dependencies)
        await self.touch(task, "blocked" if blocked else "ready")
        return task

    def assign(self, agent_id: str) -> None:
        agent = self.agents[agent_id]
        for task in self.tasks.values():
            if task["status"] == "ready" and task["task_type"] in agent["task_types"]:
                task["epoch"] += 1
                task["assigned_agent_id"], task["status"] = agent_id, "assigned"

    def assignments(self, agent_id: str, held: list[Any]) -> list[dict[str, Any]]:
        known = {(item["task_id"], item["epoch"]) for item in held}
        found = []
        for task in self.tasks.values():
            mine = task["status"] in ("assigned", "running") and task["assigned_agent_id"] == agent_id
            if mine and (task["id"], task["epoch"]) not in known:
                shown = {"task_id": task["id"], "attempt": task["retry_count"] + 1, "inputs": self.inputs(task)}
                shown |= {key: task.get(key) for key in ("epoch", "task_type", "task_data", "checkpoint")}
                found.append(shown)
        return found

    def inputs(self, task: dict[str, Any]) -> dict[str, Any]:
        inputs = {}
        for dependency in task["dependencies"]:
            other = self.tasks[dependency]
            entry: dict[str, Any] = {"task_id": dependency, "status": other["status"], "result": other.get("result")}
            if len(json.dumps(entry)) > 1_000:
                entry = {"task_id": dependency, "status": other["status"], "href": f"/api/v1/tasks/{dependency}/result"}
            inputs[task["names"][dependency]] = entry
        return inputs

    async def result(self, agent_id: str, item: dict[str, Any]) -> dict[str, Any]:
        key = {"task_id": item["task_id"], "epoch": item["epoch"]}
        task = self.tasks.get(item["task_id"])
        done = task is not None and task["status"] in ENDED and task.get("finished") == (agent_id, item["epoch"])
        if done:
            return {**key, "accepted": True}
        if task is None or task["assigned_agent_id"] != agent_id or task["epoch"] != item["epoch"]:
            return {**key, "problem": {"status": 409, "code": "stale_epoch", "detail": "another attempt holds it"}}
        task["finished"] = (agent_id, item["epoch"])
        if item["status"] == "completed":
            task["result"] = item["result"]
            await self.touch(task, "completed")
            await self.release(task)
        else:
            task["error"] = item["error"]
            await self.touch(task, "cancelled" if task["status"] == "cancelling" else "failed")
        return {**key, "accepted": True}

    async def expire(self, agent_id: str) -> None:
        """The agent's lease ran out: what it held goes back to the queue."""
        self.agents.pop(agent_id, None)
        for task in list(self.tasks.values()):
            if task["status"] in ("assigned", "running") and task["assigned_agent_id"] == agent_id:
                task["epoch"] += 1
                task["assigned_agent_id"] = None
                await self.touch(task, "ready")

    async def release(self, done: dict[str, Any]) -> None:
        for task in list(self.tasks.values()):
            open_ones = [d for d in task["dependencies"] if self.tasks[d]["status"] != "completed"]
            if task["status"] == "blocked" and not open_ones:
                await self.touch(task, "ready")
        parent = self.tasks.get(done["parent_task_id"] or "")
        if parent and all(t["status"] == "completed" for t in self.tasks.values() if t["parent_task_id"] == parent["id"]):
            parent["result"] = {}
            await self.touch(parent, "completed")


class FakeServer:
    """One address of the fake cluster."""

    def __init__(self, cluster: FakeCluster) -> None:
        self.cluster = cluster
        self.down = False
        self.drop_submits = 0
        self.requests: list[str] = []
        self.url = ""
        self._runner: web.AppRunner | None = None

    async def start(self, port: int = 0) -> None:
        app = web.Application(middlewares=[self._gate], client_max_size=16 << 20)
        prefix = "/api/v1"
        app.router.add_post(f"{prefix}/tasks/distributed", self.submit)
        app.router.add_get(f"{prefix}/tasks/distributed", self.list_tasks)
        app.router.add_get(f"{prefix}/tasks/distributed/{{id}}", self.get)
        app.router.add_get(f"{prefix}/tasks/{{id}}/result", self.result)
        app.router.add_post(f"{prefix}/tasks/{{id}}/cancel", self.cancel)
        app.router.add_get(f"{prefix}/watch", self.watch)
        app.router.add_post(f"{prefix}/agents", self.register)
        app.router.add_get(f"{prefix}/agents", self.agents)
        app.router.add_get(f"{prefix}/readyz", self.ready)
        app.router.add_get("/readyz", self.ready)
        app.router.add_post(f"{prefix}/tasks/{{id}}/complete", self.complete)
        app.router.add_post(f"{prefix}/agents/{{id}}/poll", self.poll)
        app.router.add_post(f"{prefix}/agents/{{id}}/heartbeat", self.beat)
        app.router.add_post(f"{prefix}/agents/{{id}}/drain", self.drain)
        app.router.add_delete(f"{prefix}/agents/{{id}}", self.leave)
        app.router.add_route("*", f"{prefix}/state/{{key:.*}}", self.state)
        app.router.add_get(f"{prefix}/cluster/status", self.status)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", port, reuse_address=True)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    @web.middleware
    async def _gate(self, request: web.Request, handler: Any) -> web.StreamResponse:
        self.requests.append(f"{request.method} {request.path}")
        await self.cluster.nudge()
        if self.down:
            return problem(503, "no_leader")
        response: web.StreamResponse = await handler(request)
        return response

    async def submit(self, request: web.Request) -> web.StreamResponse:
        lines = request.content_type == "application/x-ndjson"
        body = [json.loads(line) for line in (await request.text()).splitlines()] if lines else await request.json()
        key = request.headers.get("Idempotency-Key")
        answer = self.cluster.idempotent.get(key or "")
        if answer is None:
            if isinstance(body, list):
                answer = {"items": [await self._submit_one(item) for item in body]}
            else:
                answer = await self._submit_one(body)
                if "error" in answer:
                    error = answer["error"]
                    return problem(error["status"], error["code"], field=error["field"])
            if key:
                self.cluster.idempotent[key] = answer
        if self.drop_submits:
            self.drop_submits -= 1
            assert request.transport is not None
            request.transport.close()
        return web.json_response({**answer, "revision": self.cluster.revision}, status=202)

    async def _submit_one(self, body: dict[str, Any]) -> dict[str, Any]:
        if "tasks" in body:
            parent: dict[str, Any] = {"id": str(uuid4()), "task_type": "dag", "dependencies": [], "epoch": 0}
            parent["parent_task_id"] = None
            self.cluster.tasks[parent["id"]] = parent
            await self.cluster.touch(parent, "waiting")
            names: dict[str, str] = {}
            for wire in body["tasks"]:
                names[wire["name"]] = (await self.cluster.add(wire, parent["id"], names))["id"]
            return {"id": parent["id"], "tasks": [{"name": name, "id": task_id} for name, task_id in names.items()]}
        if "task_type" not in body:
            return {"error": {"status": 422, "code": "invalid", "detail": "task_type is missing", "field": "/task_type"}}
        task = await self.cluster.add(body)
        return {"id": task["id"], "status": task["status"]}

    async def get(self, request: web.Request) -> web.StreamResponse:
        task = self.cluster.tasks.get(request.match_info["id"])
        if task is None:
            return problem(404, "not_found")
        wanted = ENDED | {"parked", request.query.get("until", "")}
        wait_s = int(request.query.get("wait_ms", "0")) / 1000
        if wait_s and task["status"] not in wanted:
            with suppress(TimeoutError):
                await self.cluster.until(lambda: task["status"] in wanted, wait_s)
        return web.json_response({key: value for key, value in task.items() if key not in ("names", "finished")})

    async def list_tasks(self, request: web.Request) -> web.StreamResponse:
        status = request.query.get("status")
        found = [task for task in self.cluster.tasks.values() if status in (None, task["status"])][::-1]
        items = [{key: task.get(key) for key in ("id", "task_type", "status")} for task in found]
        return web.json_response({"items": items, "next_cursor": None, "revision": self.cluster.revision, "count": len(items)})

    async def result(self, request: web.Request) -> web.StreamResponse:
        return web.json_response(self.cluster.tasks[request.match_info["id"]]["result"])

    async def cancel(self, request: web.Request) -> web.StreamResponse:
        task = self.cluster.tasks[request.match_info["id"]]
        self.cluster.commands.append({"kind": "cancel", "task_id": task["id"], "epoch": task["epoch"], "reason": "asked"})
        await self.cluster.touch(task, "cancelling")
        return web.json_response({"id": task["id"], "status": task["status"]})

    async def watch(self, request: web.Request) -> web.StreamResponse:
        last = int(request.headers.get("Last-Event-ID") or int(request.query.get("from_revision", "1")) - 1)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        while not self.down:
            known = len(self.cluster.events)
            for event in [event for event in self.cluster.events if event["revision"] > last]:
                last = event["revision"]
                data = json.dumps({"revision": last, "events": [event]})
                await response.write(f": hello\nid: {last}\ndata: {data}\n\n".encode())
            await self.cluster.until(lambda known=known: self.down or len(self.cluster.events) > known, 3600)
        return response

    async def register(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        epoch = self.cluster.agents.get(body["id"], {}).get("epoch", 0) + 1
        self.cluster.agents[body["id"]] = {**body, "epoch": epoch}
        await self.cluster.nudge()
        answer = {"agent_id": body["id"], "agent_epoch": epoch, "lease_ms": 4000, "heartbeat_ms": 50}
        return web.json_response(answer, status=201)

    def _agent(self, request: web.Request, body: dict[str, Any]) -> web.Response | str:
        agent_id = request.match_info["id"]
        agent = self.cluster.agents.get(agent_id)
        if agent is None:
            return problem(404, "not_found")
        return agent_id if agent["epoch"] == body["agent_epoch"] else problem(409, "stale_agent")

    async def poll(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        agent_id = self._agent(request, body)
        if not isinstance(agent_id, str):
            return agent_id
        cluster = self.cluster
        cluster.polls.append(body)
        cluster.progress += body.get("progress", [])
        results = [await cluster.result(agent_id, item) for item in body.get("results", [])]
        for item in body["held"]:
            task = cluster.tasks[item["task_id"]]
            if task["status"] == "assigned" and task["epoch"] == item["epoch"]:
                await cluster.touch(task, "running")
        answer: dict[str, Any] = {"results": results, "lease_ms": 4000, "commands": []}

        def work() -> bool:
            if agent_id in cluster.agents:
                cluster.assign(agent_id)
            return self.down or bool(cluster.assignments(agent_id, body["held"])) or agent_id not in cluster.agents

        with suppress(TimeoutError):
            await cluster.until(work, 0.001 if results else body["wait_ms"] / 1000 + 0.001)
        answer["assignments"] = cluster.assignments(agent_id, body["held"])
        return web.json_response(answer)

    async def beat(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        agent_id = self._agent(request, body)
        if not isinstance(agent_id, str):
            return agent_id
        cluster = self.cluster
        held = [
            item
            for item in body["held"]
            if not cluster.withhold_held
            and (task := cluster.tasks[item["task_id"]])["epoch"] == item["epoch"]
            and task["assigned_agent_id"] == agent_id
        ]
        commands, cluster.commands = cluster.commands, []
        lease_ms = 0 if cluster.mute_beats else 4000
        return web.json_response({"held": held, "commands": commands, "lease_ms": lease_ms})

    async def agents(self, request: web.Request) -> web.StreamResponse:
        items = [{"agent_id": name, "status": "up"} for name in self.cluster.agents]
        return web.json_response({"items": items, "next_cursor": None, "revision": self.cluster.revision})

    async def ready(self, request: web.Request) -> web.StreamResponse:
        return web.json_response({"status": "ready"})

    async def complete(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        item = {"task_id": request.match_info["id"], "epoch": body["epoch"], "status": "completed", "result": body["result"]}
        answer = await self.cluster.result(body["agent_id"], item)
        return web.json_response(answer) if answer.get("accepted") else problem(409, "stale_epoch")

    async def drain(self, request: web.Request) -> web.StreamResponse:
        await self.cluster.nudge()
        return web.json_response({}, status=202)

    async def leave(self, request: web.Request) -> web.StreamResponse:
        self.cluster.left.append(request.match_info["id"])
        self.cluster.agents.pop(request.match_info["id"], None)
        await self.cluster.nudge()
        return web.json_response({})

    async def state(self, request: web.Request) -> web.StreamResponse:
        key = request.match_info["key"]
        found = self.cluster.keys.get(key)
        match = request.headers.get("If-Match")
        if match is not None and match != f'"{found["revision"] if found else 0}"':
            return problem(412, "precondition_failed")
        if request.headers.get("If-None-Match") and found:
            return problem(412, "precondition_failed")
        if request.method == "PUT":
            self.cluster.revision += 1
            revision = self.cluster.revision
            created, version = (found["create_revision"], found["version"]) if found else (revision, 0)
            value = (await request.json())["value"]
            found = {"key": key, "value": value, "revision": revision, "create_revision": created, "version": version + 1}
            self.cluster.keys[key] = found
        elif found is None:
            return problem(404, "not_found")
        elif request.method == "DELETE":
            del self.cluster.keys[key]
        return web.json_response(found, headers={"Taskquorum-Revision": str(self.cluster.revision)})

    async def status(self, request: web.Request) -> web.StreamResponse:
        quorum = {"voters": 1, "healthy": 1, "has_quorum": not self.cluster.mute_beats}
        leader = self.cluster.leader
        node = {"node_id": "fake-1", "node_role": "leader", "status": "healthy"}
        return web.json_response({"leader": leader, "term": 1, "quorum": quorum, "nodes": [node]})


@asynccontextmanager
async def fake_servers(count: int = 1) -> AsyncIterator[tuple[FakeCluster, list[FakeServer]]]:
    """A fake cluster behind `count` addresses."""
    cluster = FakeCluster()
    servers = [FakeServer(cluster) for _ in range(count)]
    for server in servers:
        await server.start()
    try:
        yield cluster, servers
    finally:
        for server in servers:
            await server.stop()

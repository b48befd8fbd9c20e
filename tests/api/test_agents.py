"""Agents over HTTP: registration, beats, and the poll's contract (DESIGN §3)."""

import asyncio
import json
from typing import Any

from .fake import ASSIGNED, Answer, Api

ID = "0192f3a4-b5c6-7d8e-9fa0-b1c2d3e4f506"
OTHER = "0192f3a4-b5c6-7d8e-9fa0-b1c2d3e4f507"
WORK = json.dumps([{"task_id": ID, "epoch": 1}]).encode()


def poll(api: Api, **body: Any) -> "asyncio.Task[Answer]":
    return asyncio.create_task(api.call("POST", "/agents/a/poll", {"agent_epoch": 3, **body}))


async def watched(api: Api) -> None:
    """Until a poll of the agent waits."""
    await api.native.until(lambda: api.native.watched.get("a"))


async def test_registering_names_the_beat(api: Api) -> None:
    api.native.decide = lambda name, fields: {"agent_epoch": 3}
    body = {"id": "a", "capabilities": {"nlp": 0.8}, "resources": {"slots": 4}, "task_types": ["b", "a", "b"]}
    first = await api.call("POST", "/agents", body)
    assert (first.status, first.json) == (
        201,
        {"agent_id": "a", "agent_epoch": 3, "lease_ms": 4000, "heartbeat_ms": 500, "revision": 7},
    )
    fields = api.native.proposed[0][1]
    assert (fields["capabilities"], fields["task_types"], fields["node_id"]) == ({"nlp": 8000}, ["a", "b"], "node-1")
    api.native.agent_epochs["a"] = 3
    assert (await api.call("POST", "/agents", body)).status == 200
    unnamed = await api.call("POST", "/agents", {})
    assert unnamed.status == 201 and unnamed.json["agent_id"].startswith("agent-")


async def test_a_poll_without_work_waits_and_is_woken(api: Api) -> None:
    api.native.agent_epochs["a"] = 3
    waiting = poll(api, wait_ms=30_000, poll_seq=1, load={"cpu": 0.5})
    await watched(api)
    assert api.native.beats == [["a", 3, [5000, 0, 0]]] or api.native.beats == [("a", 3, (5000, 0, 0))]
    api.native.work = (WORK, b"[]")
    api.native.tell((4, "a"))
    answer = await waiting
    assert answer.json == {"assignments": json.loads(WORK), "commands": [], "results": [], "lease_ms": 4000}
    assert api.native.watched["a"] == 0


async def test_a_poll_answers_empty_when_its_time_is_over(api: Api) -> None:
    api.native.agent_epochs["a"] = 3
    answer = await poll(api, wait_ms=1)
    assert answer.json == {"assignments": [], "commands": [], "results": [], "lease_ms": 4000}


async def test_results_are_answered_as_soon_as_they_are_applied(api: Api) -> None:
    api.native.agent_epochs["a"] = 3
    api.native.decide = lambda name, fields: {"refusal": 5} if name == "fail" else {"revision": 12}
    results = [
        {"task_id": ID, "epoch": 1, "status": "completed", "result": {"x": 1}},
        {"task_id": OTHER, "epoch": 2, "status": "failed", "error": {"code": "c", "retryable": False}},
    ]
    held = [{"task_id": ID, "epoch": 1}]
    answer = await poll(api, wait_ms=30_000, results=results, held=held)
    done, refused = answer.json["results"]
    assert done == {"task_id": ID, "epoch": 1, "accepted": True}
    assert (refused["accepted"], refused["problem"]["code"]) == (False, "stale_epoch")
    assert [name for name, _ in api.native.proposed] == ["complete", "fail"]
    assert api.native.groups == [2]
    assert api.native.held_seen[-1] == []  # What was delivered is not held any more.
    assert answer.headers["taskquorum-revision"] == "12"


async def test_what_is_held_starts_once(api: Api) -> None:
    api.native.agent_epochs["a"] = 3
    api.native.put_task(ID, ASSIGNED, 1)
    held = [{"task_id": ID, "epoch": 1}]
    await poll(api, held=held)
    await poll(api, held=held)
    assert api.native.proposed == [("start", {"task_id": ID, "epoch": 1, "agent_id": "a"})]
    api.native.put_task(ID, ASSIGNED, 2)
    await poll(api, held=[{"task_id": ID, "epoch": 2}])
    assert api.native.proposed[-1][1]["epoch"] == 2


async def test_a_newer_poll_ends_the_one_before(api: Api) -> None:
    api.native.agent_epochs["a"] = 3
    old = poll(api, wait_ms=30_000, poll_seq=1)
    await watched(api)
    new = poll(api, wait_ms=30_000, poll_seq=2)
    assert (await old).json["assignments"] == []
    overtaken = await poll(api, wait_ms=30_000, poll_seq=1)
    assert overtaken.json["assignments"] == []
    assert not new.done()
    api.native.work = (WORK, b"[]")
    api.native.tell((4, "a"))
    assert (await new).json["assignments"]


async def test_polls_close_together_share_a_beat(api: Api) -> None:
    api.native.agent_epochs["a"] = 3
    first = await poll(api)
    second = await poll(api)
    assert len(api.native.beats) == 1
    assert 0 < second.json["lease_ms"] < first.json["lease_ms"]


async def test_an_unknown_and_a_stale_agent(api: Api) -> None:
    unknown = await poll(api)
    assert (unknown.status, unknown.json["code"]) == (404, "unknown_agent")
    api.native.agent_epochs["a"] = 4
    stale = await poll(api)
    assert (stale.status, stale.json["code"], stale.json["holder"]) == (409, "stale_agent", {"agent_epoch": 4})
    api.native.agent_epochs["a"] = 3
    api.native.beat_answer = (0, 0, True, False)
    assert (await poll(api, wait_ms=30_000)).status == 409
    api.native.beat_answer = (0, 0, False, True)
    assert (await poll(api, wait_ms=30_000)).status == 404


async def test_without_a_leader_polls_end(api: Api) -> None:
    """A poll waits; the leader is lost for one election timeout → 503, at once for the next."""
    api.native.agent_epochs["a"] = 3
    waiting = poll(api, wait_ms=30_000)
    await watched(api)
    api.native.tell((7, None, 1, False))
    answer = await waiting
    assert (answer.status, answer.json["code"]) == (503, "no_leader")
    assert (await poll(api, wait_ms=30_000)).status == 503
    api.native.tell((7, "node-2", 2, False))
    assert (await poll(api)).status == 200


async def test_bad_polls(api: Api) -> None:
    api.native.agent_epochs["a"] = 3
    for body, code, field in (
        ({"results": [{"task_id": ID, "epoch": 1, "status": "failed"}]}, "missing_field", "/results/0/error"),
        ({"results": [{"task_id": "x", "epoch": 1, "status": "failed"}]}, "invalid", "/results/0/task_id"),
        ({"progress": [{"task_id": ID, "epoch": 1, "progress": 2}]}, "invalid", "/progress/0/progress"),
        ({"held": [{"task_id": ID}]}, "missing_field", "/held/0/epoch"),
        ({"bids": [1]}, "invalid", "/bids"),
        ({"wait_ms": 60_001}, "invalid", "/wait_ms"),
    ):
        answer = await poll(api, **body)
        assert (answer.status, answer.json["code"], answer.json["field"]) == (422, code, field)
    assert api.native.proposed == []


async def test_a_heartbeat_lists_what_stands(api: Api) -> None:
    api.native.work = (b"[]", json.dumps([{"kind": "revoke", "task_id": ID, "epoch": 1, "reason": "lost"}]).encode())
    held = [{"task_id": ID, "epoch": 1}, {"task_id": OTHER, "epoch": 2}]
    answer = await api.call("POST", "/agents/a/heartbeat", {"agent_epoch": 3, "held": held})
    assert answer.json["held"] == [{"task_id": OTHER, "epoch": 2}]
    assert answer.json["commands"][0]["kind"] == "revoke"
    assert answer.json["lease_ms"] == 4000


async def test_a_heartbeat_that_nobody_extends_is_a_503(api: Api) -> None:
    api.native.beat_answer = (0, 0, False, False)
    assert (await api.call("POST", "/agents/a/heartbeat", {"agent_epoch": 3})).status == 503


async def test_the_other_calls(api: Api) -> None:
    api.native.agent_epochs["a"] = 3
    assert (await api.call("GET", "/agents/a")).json == {"agent_id": "a"}
    assert (await api.call("GET", "/agents/b")).status == 404
    assert (await api.call("GET", "/agents?status=up&limit=1")).json["next_cursor"] == "next"
    for method, path, command, status in (
        ("POST", "/agents/a/drain", ("drain_agent", {"agent_id": "a", "drain": True}), "draining"),
        ("DELETE", "/agents/a/drain", ("drain_agent", {"agent_id": "a", "drain": False}), "up"),
        ("DELETE", "/agents/a%2Fb", ("leave_agent", {"agent_id": "a/b"}), "left"),
    ):
        answer = await api.call(method, path)
        assert (answer.status, answer.json["status"]) == (200, status)
        assert api.native.proposed[-1] == command

"""Keys, watch, the cluster's calls and the process's own."""

import asyncio
import json
from typing import Any

import pytest

from taskquorum.node import ELECTION_TIMEOUT_S

from .fake import Api, read_head, serve_api

# ---- keys ----------------------------------------------------------------------------------------


async def test_a_key_is_written_read_and_deleted(api: Api) -> None:
    api.native.decide = lambda name, fields: {"key_revision": 7, "create_revision": 7, "key_version": 1}
    put = await api.call("PUT", "/state/a/b%20c", b'{"value": {"x":\n1}}')
    assert (put.status, put.headers["etag"]) == (201, '"7"')
    assert put.json == {"key": "a/b c", "revision": 7, "create_revision": 7, "version": 1}
    assert api.native.proposed[-1] == ("put_key", {"tenant": "default", "key": "a/b c", "value": {"x": 1}})
    api.native.decide = lambda name, fields: {"key_version": 2}
    assert (await api.call("PUT", "/state/a?tenant=t", {"value": None})).status == 200
    api.native.keys["default", "a"] = (b'{"key":"a"}', 5)
    got = await api.call("GET", "/state/a")
    assert (got.status, got.headers["etag"], got.headers["taskquorum-revision"]) == (200, '"5"', "9")
    assert (await api.call("GET", "/state/b")).status == 404
    assert (await api.call("DELETE", "/state/a")).json == {"key": "a", "revision": 7}


async def test_conditions(api: Api) -> None:
    await api.call("PUT", "/state/a", {"value": 1}, If_Match='"12"')
    assert api.native.proposed[-1][1]["condition"] == {"revision": 12}
    await api.call("DELETE", "/state/a", If_Match='"12"')
    assert api.native.proposed[-1][1]["condition"] == {"revision": 12}
    await api.call("PUT", "/state/a", {"value": 1}, If_None_Match="*")
    assert api.native.proposed[-1][1]["condition"] == {"absent": True}
    api.native.decide = lambda name, fields: {"refusal": 7, "key_revision": 3, "create_revision": 2, "key_version": 2}
    failed = await api.call("PUT", "/state/a", {"value": 1}, If_Match='"12"')
    assert (failed.status, failed.json["current"]) == (412, {"revision": 3, "create_revision": 2, "version": 2})


@pytest.mark.parametrize(
    ("headers", "field"),
    [
        ({"If_Match": "12"}, "If-Match"),
        ({"If_Match": '"a"'}, "If-Match"),
        ({"If_Match": 'W/"1"'}, "If-Match"),
        ({"If_Match": '"1", "2"'}, "If-Match"),
        ({"If_None_Match": '"1"'}, "If-None-Match"),
        ({"If_Match": '"1"', "If_None_Match": "*"}, "If-None-Match"),
    ],
)
async def test_conditions_that_cannot_be_kept(api: Api, headers: dict[str, str], field: str) -> None:
    answer = await api.call("PUT", "/state/a", {"value": 1}, **headers)
    assert (answer.status, answer.json["field"]) == (422, field)
    assert api.native.proposed == []


async def test_bad_keys(api: Api) -> None:
    for method, path, body, status, field in (
        ("PUT", "/state/a", {"value": 1, "lease": 2}, 422, "/lease"),
        ("PUT", "/state/a", {}, 422, "/value"),
        ("PUT", "/state/a", b"[" * 65, 400, None),
        ("PUT", "/state/", {"value": 1}, 422, "key"),
        ("PUT", "/state/" + "k" * 513, {"value": 1}, 422, "key"),
        ("PUT", "/state/a", {"value": "x" * (1 << 20)}, 413, "/value"),
    ):
        answer = await api.call(method, path, body)
        assert (answer.status, answer.json.get("field")) == (status, field)


# ---- watch ---------------------------------------------------------------------------------------


def row(revision: int, kind: str = "task", id: str = "t1", **object: Any) -> tuple[int, bytes]:
    return revision, json.dumps([{"kind": kind, "type": "x", "id": id, "object": object}]).encode()


async def messages(reader: asyncio.StreamReader, count: int) -> list[Any]:
    """The next messages of a stream, comments left out."""
    found: list[Any] = []
    async with asyncio.timeout(5):
        while len(found) < count:
            line = await reader.readline()
            if line.startswith(b"data: "):
                found.append(json.loads(line[6:]))
    return found


async def test_watch_streams_from_a_revision_and_goes_on(api: Api) -> None:
    api.native.rows = [row(3), row(5, value="a")]
    reader, writer = await api.open("GET", "/watch?from_revision=3")
    status, headers = await read_head(reader)
    assert (status, headers["content-type"]) == (200, "text/event-stream")
    assert [message["revision"] for message in await messages(reader, 2)] == [3, 5]
    api.native.rows.append(row(8))
    api.native.tell((5, 8))
    assert [message["revision"] for message in await messages(reader, 1)] == [8]
    writer.close()
    await api.native.until(lambda: not api.native.watched["events"])


async def test_watch_goes_on_after_the_last_id_and_starts_now_without_one(api: Api) -> None:
    api.native.rows = [row(3), row(5)]
    reader, after = await api.open("GET", "/watch", Last_Event_ID="3")
    assert [message["revision"] for message in await messages(reader, 1)] == [5]
    reader, now = await api.open("GET", "/watch")
    await read_head(reader)
    api.native.rows.append(row(9))
    api.native.tell((5, 9))
    assert [message["revision"] for message in await messages(reader, 1)] == [9]
    after.close()
    now.close()


async def test_watch_tells_what_is_compacted(api: Api) -> None:
    api.native.oldest = 4
    answer = await api.call("GET", "/watch?from_revision=3")
    assert (answer.status, answer.json["code"], answer.json["oldest"]) == (410, "compacted", 4)
    assert (await api.call("GET", "/watch", Last_Event_ID="x")).json["field"] == "Last-Event-ID"
    assert (await api.call("GET", "/watch?kinds=lock")).status == 422


TASK, CHILD = "0192f3a4-b5c6-7d8e-9fa0-b1c2d3e4f506", "0192f3a4-b5c6-7d8e-9fa0-b1c2d3e4f507"


@pytest.mark.parametrize(
    ("query", "revisions"),
    [
        ("kinds=kv", [4]),
        ("kinds=task,agent", [1, 2, 3]),
        (f"kinds=task&task={TASK}", [1, 2]),
        ("kinds=task&label=a%3Db", [2]),
        ("kinds=kv&prefix=doc", [4]),
        ("kinds=task,node,agent,kv", [1, 2, 3, 4]),
    ],
)
async def test_watch_filters(api: Api, query: str, revisions: list[int]) -> None:
    api.native.rows = [
        row(1, "task", TASK), row(2, "task", CHILD, parent_task_id=TASK, labels={"a": "b"}), row(3, "agent", "a"),
        row(4, "kv", "doc:1", value=1.0), row(5, "task", TASK, labels={"a": "b"}),
    ]  # fmt: skip
    reader, writer = await api.open("GET", f"/watch?from_revision=1&{query}")
    wanted = revisions + ([5] if "task" in query else [])
    assert [message["revision"] for message in await messages(reader, len(wanted))] == wanted
    writer.close()


# ---- the cluster ---------------------------------------------------------------------------------


async def test_views_never_wait_for_a_quorum(api: Api) -> None:
    api.native.hold = True
    for path in ("/cluster/status", "/cluster/nodes", "/coordination/stats", "/healthz", "/metrics"):
        assert (await api.call("GET", path)).status == 200
    assert (await api.call("GET", "/cluster/nodes")).json["nodes"] == [{"node_id": "node-1"}]
    stats = (await api.call("GET", "/coordination/stats")).json
    assert stats["node"]["histograms"]["commit_us"]["p50"] == 10
    assert stats["http"]["routes_us"]["GET /api/v1/cluster/status"]["count"] == 1


async def test_a_node_that_is_cut_off_refuses_at_once_what_needs_a_leader(api: Api) -> None:
    """The leader is lost for one election timeout → writes and linearizable reads are refused without being handed on, local
    reads are answered; a leader is known again → all are taken."""
    task, submit = "/tasks/distributed", {"task_type": "t"}
    api.native.tell((7, None, 1, False))
    await api.native.heard()
    api.clock.ahead_s += ELECTION_TIMEOUT_S
    proposed, reads = len(api.native.proposed), api.native.reads
    for method, path, body in (("POST", task, submit), ("PUT", "/state/k", {"value": 1}), ("GET", task, None)):
        answer = await api.call(method, path, body)
        assert (answer.status, answer.json["code"]) == (503, "no_leader")
    assert (len(api.native.proposed), api.native.reads) == (proposed, reads)
    assert (await api.call("GET", f"{task}?consistency=local")).status == 200
    api.native.tell((7, "node-2", 2, False))
    assert (await api.call("POST", task, submit)).status == 202
    assert (await api.call("GET", task)).status == 200


async def test_a_node_whose_leader_is_silent_refuses_at_once_until_it_is_answered(api: Api) -> None:
    """A leader is known, but nothing is answered: for one election timeout writes wait, then further ones are refused; the
    answer comes → all are taken."""
    path, submit = "/tasks/distributed", {"task_type": "t"}
    api.native.hold = True
    first = asyncio.create_task(api.call("POST", path, submit))
    await api.native.until(lambda: api.native.proposed)
    assert not api.app.node.cut_off
    api.clock.ahead_s += ELECTION_TIMEOUT_S
    proposed = len(api.native.proposed)
    for method, body in (("POST", submit), ("GET", None)):
        answer = await api.call(method, path, body)
        assert (answer.status, answer.json["code"]) == (503, "no_leader")
    assert (len(api.native.proposed), api.native.reads) == (proposed, 1)
    api.native.release()
    assert (await first).status == 202
    assert (await api.call("POST", path, submit)).status == 202
    assert (await api.call("GET", path)).status == 200


async def test_ready_needs_a_leader_and_little_lag(api: Api) -> None:
    assert (await api.call("GET", "/readyz")).status == 200
    api.native.view["leader"] = None
    assert (await api.call("GET", "/readyz")).json["code"] == "no_leader"
    api.native.view |= {"leader": "node-1", "commit_index": 9}
    assert (await api.call("GET", "/readyz")).status == 200
    api.app.lag._seen = [(api.app.loop.time() - 2, 6)]
    assert (await api.call("GET", "/readyz")).json["code"] == "lagging"
    api.native.view["applied_index"] = 9
    assert (await api.call("GET", "/readyz")).status == 200
    api.app.stopping = True
    assert (await api.call("GET", "/readyz")).json["code"] == "stopping"
    api.native.tell((8, "the disk is gone"))
    await api.native.heard()
    assert (await api.call("GET", "/healthz")).json["detail"] == "the disk is gone"


async def test_drain_of_a_node(api: Api) -> None:
    answer = await api.call("POST", "/cluster/nodes/node-2/drain", {"deadline_ms": 5})
    assert (answer.status, answer.json["state"], answer.json["revision"]) == (202, "draining", 7)
    assert api.native.proposed == [("drain_node", {"node_id": "node-2", "drain": True, "deadline_ms": 5})]
    assert (await api.call("DELETE", "/cluster/nodes/node-2/drain")).json["state"] == "healthy"


async def test_leadership_and_snapshot(api: Api) -> None:
    assert (await api.call("POST", "/cluster/transfer-leader", {"to": "node-9"})).json["field"] == "/to"
    assert (await api.call("POST", "/cluster/transfer-leader")).json["done"] is True
    assert (await api.call("POST", "/cluster/snapshot")).json["done"] is True


async def test_members_are_added_replaced_and_removed(api: Api) -> None:
    """Made in time → 200; under way at the deadline → 202 with how far it has come; refused → the code by name."""
    api.native.member_end = (True, "voter")
    answer = await api.call("POST", "/cluster/members", {"node_id": "node-4", "address": "host:5000", "role": "learner"})
    assert (answer.status, answer.json) == (200, {"node_id": "node-4", "done": True, "progress": "voter", "revision": 7})
    assert api.native.proposed[-1] == ("add_member", {"node_id": "node-4", "address": "host:5000", "role": "learner"})
    api.native.member_end = (False, "catches up to be a voter")
    body = {"node_id": "node-4", "replace": "node-4", "wait_ms": 50}
    answer = await api.call("POST", "/cluster/members", body)
    assert (answer.status, answer.json["done"], answer.json["progress"]) == (202, False, "catches up to be a voter")
    assert api.native.proposed[-1] == ("replace_member", {"node_id": "node-4", "address": ""})
    answer = await api.call("DELETE", "/cluster/members/node-4?wait_ms=7")
    assert (answer.status, api.native.proposed[-1]) == (202, ("remove_member", {"node_id": "node-4"}))
    assert api.native.awaited == [("node-4", 5_000), ("node-4", 50), ("node-4", 7)]
    for refusal, status, code in ((18, 409, "would_lose_quorum"), (19, 409, "member_alive"), (1, 404, "not_found")):
        refused = {"refusal": refusal, "field": "/node_id", "detail": "why"}
        api.native.decide = lambda name, fields, refused=refused: refused
        answer = await api.call("DELETE", "/cluster/members/node-4")
        assert (answer.status, answer.json["code"], answer.json["detail"]) == (status, code, "why")


async def test_a_member_that_cannot_be_is_refused_with_the_field(api: Api) -> None:
    for change, field in (
        ({"address": "nowhere"}, "/address"),
        ({"role": "king"}, "/role"),
        ({"node_id": "a b"}, "/node_id"),
        ({"wait_ms": 90_000}, "/wait_ms"),
        ({"replace": "node-2"}, "/replace"),
        ({"force": True}, "/force"),
    ):
        answer = await api.call("POST", "/cluster/members", {"node_id": "node-4", "address": "host:1"} | change)
        assert (answer.status, answer.json["field"]) == (422, field)
    assert api.native.proposed == []


async def test_the_raft_log(api: Api) -> None:
    shown = (await api.call("GET", "/cluster/raft-log?limit=2")).json
    assert ([item["log_index"] for item in shown["items"]], shown["next_index"]) == ([3, 4], 5)
    assert (shown["first_index"], shown["commit_index"]) == (3, 5)
    gone = await api.call("GET", "/cluster/raft-log?from=2")
    assert (gone.status, gone.json["oldest"]) == (410, 3)
    reader, writer = await api.open("GET", "/cluster/raft-log?from=4&follow=true")
    assert [item["log_index"] for item in await messages(reader, 2)] == [4, 5]
    writer.close()


async def test_stopping_ends_streams_and_polls(api: Api) -> None:
    reader, writer = await api.open("GET", "/watch")
    await read_head(reader)
    api.native.agent_epochs["a"] = 3
    waiting = asyncio.create_task(api.call("POST", "/agents/a/poll", {"agent_epoch": 3, "wait_ms": 30_000}))
    await api.native.until(lambda: api.native.watched.get("a"))
    api.app.stop()
    assert (await waiting).json["assignments"] == []
    assert (await reader.readuntil(b"\r\n0\r\n\r\n")).endswith(b"0\r\n\r\n")
    writer.close()


async def test_metrics_are_what_prometheus_reads(api: Api) -> None:
    from prometheus_client.parser import text_string_to_metric_families

    await api.call("GET", "/tasks/distributed")
    text = (await api.call("GET", "/metrics")).body.decode()
    families = {family.name: family for family in text_string_to_metric_families(text)}
    assert families["taskquorum_commit_seconds"].type == "histogram"
    assert families["taskquorum_entries_applied"].type == "counter"
    assert families["taskquorum_inbox_depth"].type == "gauge"
    answers = families["taskquorum_http_answers"].samples
    assert {"method": "GET", "path": "/api/v1/tasks/distributed", "status": "200"} in [sample.labels for sample in answers]


async def test_leadership_is_handed_over_from_any_node(api: Api) -> None:
    """A follower is asked → it asks the leader, which does it; a leader that is not one any more says so."""
    async with serve_api() as leader:
        api.native.tell((7, "node-2", 2, False))
        api.native.view["nodes"] = [{"node_id": "node-2", "http_address": f"127.0.0.1:{leader.port}"}]
        await api.native.heard()
        leader.native.view["nodes"] = [{"node_id": "node-2"}]
        assert (await api.call("POST", "/cluster/transfer-leader", {"to": "node-2"})).json["done"] is True
        assert leader.native.transfers == ["node-2"]
        assert api.native.transfers == []
    assert (await api.call("POST", "/cluster/transfer-leader")).json["code"] == "no_leader"


async def test_a_drained_node_that_is_elected_steps_aside(api: Api) -> None:
    follower = {"node_id": "node-2", "status": "healthy", "node_role": "follower"}
    api.native.view["nodes"] = [{"node_id": "node-1", "status": "drained"}, follower | {"status": "down"}]
    api.native.tell((7, "node-1", 2, True))
    # A whole request later, what the notice set going has ended.
    assert (await api.call("GET", "/healthz")).status == 200
    assert api.native.transfers == []
    api.native.view["nodes"] = [{"node_id": "node-1", "status": "drained"}, follower]
    api.native.tell((7, "node-1", 3, True))
    await api.native.until(lambda: api.native.transfers)
    assert api.native.transfers == ["node-2"]


# ---- backup --------------------------------------------------------------------------------------


async def test_a_backup_is_streamed_after_a_linearizable_read(api: Api) -> None:
    reader, writer = await api.open("GET", "/cluster/backup")
    async with asyncio.timeout(10):
        status, headers = await read_head(reader)
        body = b""
        while (size := int(await reader.readline(), 16)) > 0:
            body += await reader.readexactly(size)
            await reader.readexactly(2)
    writer.close()
    assert (status, headers["content-type"]) == (200, "application/octet-stream")
    assert (headers["taskquorum-revision"], headers["taskquorum-backup-bytes"]) == ("12", "300000")
    assert body == b"head" + b"x" * 300_000 + b"tail"
    assert api.native.reads == 1
    assert [backup.closed for backup in api.native.backups] == [True]


async def test_a_backup_that_cannot_be_made_is_a_503(api: Api) -> None:
    make = api.native.backup

    def refuse() -> Any:
        raise RuntimeError("2 backups of this node are under way")

    api.native.backup = refuse  # type: ignore[method-assign]
    answer = await api.call("GET", "/cluster/backup")
    assert (answer.status, answer.json["code"]) == (503, "no_backup")
    assert "under way" in answer.json["detail"]
    api.native.backup = make  # type: ignore[method-assign]

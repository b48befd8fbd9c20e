"""Tasks over HTTP: what is proposed, what is answered, and every refusal of bad input."""

import asyncio
from typing import Any

import pytest

from .fake import ASSIGNED, COMPLETED, READY, Api

ID = "0192f3a4-b5c6-7d8e-9fa0-b1c2d3e4f506"
OTHER = "0192f3a4-b5c6-7d8e-9fa0-b1c2d3e4f507"


async def test_a_submit_is_one_command_with_defaults_and_the_payload_as_it_was_sent(api: Api) -> None:
    answer = await api.call("POST", "/tasks/distributed", b'{"task_type":"t","task_data":{"a" : [1.0e3,"\\u00e9"]}}')
    assert (answer.status, answer.headers["taskquorum-revision"]) == (202, "7")
    [(name, fields)] = api.native.proposed
    assert name == "submit"
    assert answer.json == {"id": fields["tasks"][0]["id"], "status": "ready", "revision": 7}
    assert fields["tasks"][0]["retry"] == {"max_attempts": 3, "backoff_ms": 200, "factor_milli": 2000, "max_backoff_ms": 60000}
    assert fields["tasks"][0]["payload"] == {"a": [1000.0, "é"]}
    assert fields["tenant"] == "default"
    assert len(fields["body_hash"]) == 32


async def test_everything_a_task_can_say_reaches_the_command(api: Api) -> None:
    body = {
        "id": ID.upper(), "name": "n", "task_type": "t", "priority": -3,
        "requirements": {"capabilities": {"nlp": 0.7, "vision": {"min": 0.2, "weight": 2}, "code": {"weight": 0.5}},
                         "resources": {"slots": 2, "memory_mb": 512}, "labels": {"region": "eu"}},
        "dependencies": [OTHER, OTHER], "on_dependency_failure": "skip", "optional": True,
        "not_before": "2030-01-01T00:00:00Z", "deadline": "2030-01-01T01:00:00.000001+01:00",
        "timeouts": {"queue_ms": 1, "run_ms": 2, "total_ms": 3},
        "retry": {"max_attempts": 1, "factor": 1.5, "non_retryable": ["x"]},
        "idempotent": True, "preemptible": True, "size_hint": 9, "cost_estimate": {"tokens": 5},
        "tenant": "a", "labels": {"k": "v"},
    }  # fmt: skip
    answer = await api.call("POST", "/tasks/distributed", body, Idempotency_Key="key")
    assert answer.status == 202
    fields = api.native.proposed[0][1]
    assert (fields["tenant"], fields["idempotency_key"]) == ("a", "key")
    task = fields["tasks"][0]
    assert task["requirements"]["capabilities"] == {
        "nlp": {"min_bp": 7000},
        "vision": {"min_bp": 2000, "weight_milli": 2000},
        "code": {"min_bp": 0, "weight_milli": 500},
    }
    assert (task["id"], task["dependencies"]) == (ID, [OTHER])
    assert (task["not_before_wall_us"], task["deadline_wall_us"]) == (1893456000000000, 1893456000000001)
    assert (task["queue_ms"], task["run_ms"], task["total_ms"]) == (1, 2, 3)
    assert task["retry"]["factor_milli"] == 1500


async def test_a_dag_is_one_command_with_its_parent_first(api: Api) -> None:
    body = {
        "priority": 2,
        "labels": {"job": "j"},
        "join": {"policy": "quorum", "count": 1},
        "tasks": [{"task_type": "b", "name": "late", "dependencies": ["early", OTHER]}, {"task_type": "a", "name": "early"}],
    }
    answer = await api.call("POST", "/tasks/distributed", body)
    assert answer.status == 202
    [(_, fields)] = api.native.proposed
    parent, late, early = fields["tasks"]
    assert parent["join"] == {"policy": "quorum", "count": 1}
    assert late["dependencies"] == [early["id"], OTHER]
    assert {late["parent_id"], early["parent_id"]} == {parent["id"]}
    assert (late["priority"], late["labels"]) == (2, {"job": "j"})
    assert answer.json["id"] == parent["id"]
    assert answer.json["tasks"] == [{"name": "late", "id": late["id"]}, {"name": "early", "id": early["id"]}]


async def test_an_array_answers_each_item_in_order(api: Api) -> None:
    def decide(name: str, fields: dict[str, Any]) -> dict[str, Any]:
        return {"refusal": 2, "field": "/tasks/0/id"} if fields["tasks"][0].get("name") == "taken" else {}

    api.native.decide = decide
    items = [{"task_type": "a"}, {"task_type": ""}, {"task_type": "a", "name": "taken"}, {"tasks": [{"task_type": "a"}]}]
    answer = await api.call("POST", "/tasks/distributed", items)
    assert answer.status == 202
    first, empty, taken, dag = answer.json["items"]
    assert first["status"] == "ready"
    assert (empty["error"]["status"], empty["error"]["field"]) == (422, "/1/task_type")
    assert (taken["error"]["code"], taken["error"]["field"]) == ("exists", "/2/id")
    assert len(dag["tasks"]) == 1
    assert api.native.groups == [3]


async def test_ndjson_is_an_array_too(api: Api) -> None:
    body = b'{"task_type":"a"}\n\n{"task_type":\n{"task_type":"b"}\n'
    answer = await api.call("POST", "/tasks/distributed", body, Content_Type="application/x-ndjson")
    assert [item.get("error", {}).get("code") for item in answer.json["items"]] == [None, "malformed_json", None]


async def test_an_array_where_every_item_failed_is_still_a_202(api: Api) -> None:
    answer = await api.call("POST", "/tasks/distributed", [{}])
    assert (answer.status, answer.json["revision"]) == (202, 9)
    assert api.native.groups == []


async def test_submits_of_one_loop_turn_cross_together(api: Api) -> None:
    api.native.hold = True
    pending = [asyncio.create_task(api.call("POST", "/tasks/distributed", {"task_type": "t"})) for _ in range(20)]
    await api.native.until(lambda: len(api.native.proposed) == 20)
    assert len(api.native.groups) < 20
    api.native.release()
    assert {answer.status for answer in await asyncio.gather(*pending)} == {202}


BAD_BODIES: list[tuple[bytes, int, str, str | None]] = [
    (b"", 400, "malformed_json", None),
    (b"{", 400, "malformed_json", None),
    (b'{"task_type":"t"}x', 400, "malformed_json", None),
    (b'{"task_type":"t","task_data":{nope}}', 400, "malformed_json", None),
    (b'{"task_type":"t","task_data":NaN}', 400, "malformed_json", None),
    (b'{"task_type":"t","task_data":"\xff"}', 400, "malformed_json", None),
    (b'{"task_type":"t","task_data":"\\ud800"}', 400, "malformed_json", None),
    (b'{"task_type":"t","task_data":"\\u0000"}', 400, "nul_character", None),
    (b'{"task_type":"t\\u0000"}', 400, "nul_character", None),
    (b'{"task_type":"t","task_data":' + b"[" * 64 + b"]" * 64 + b"}", 400, "too_deep", None),
    (b'{"task_type":"t","task_data":' + b"[" * 100_000 + b"}", 400, "too_deep", None),
    (b'"x"', 422, "invalid", ""),
    (b"[]", 422, "empty", None),
    (b"{}", 422, "missing_field", "/task_type"),
    (b'{"task_type":1}', 422, "invalid", "/task_type"),
    (b'{"task_type":null}', 422, "invalid", "/task_type"),
    (b'{"task_type":"' + b"x" * 51 + b'"}', 422, "invalid", "/task_type"),
    (b'{"task_type":"t","nope":1}', 422, "unknown_field", "/nope"),
    (b'{"task_type":"t","requirements":{"nope":1}}', 422, "unknown_field", "/requirements/nope"),
    (b'{"task_type":"t","timeouts":{"run_ms":1.5}}', 422, "invalid", "/timeouts/run_ms"),
    (b'{"task_type":"t","timeouts":{"run_ms":-1}}', 422, "invalid", "/timeouts/run_ms"),
    (b'{"task_type":"t","retry":{"max_attempts":0}}', 422, "invalid", "/retry/max_attempts"),
    (b'{"task_type":"t","priority":11}', 422, "invalid", "/priority"),
    (b'{"task_type":"t","requirements":{"capabilities":{"nlp":2}}}', 422, "invalid", "/requirements/capabilities"),
    (b'{"task_type":"t","id":"0192f3a4"}', 422, "invalid", "/id"),
    (b'{"task_type":"t","deadline":"soon"}', 422, "invalid", "/deadline"),
    (b'{"task_type":"t","deadline":"2030-01-01T00:00:00"}', 422, "invalid", "/deadline"),
    (b'{"task_type":"t","on_dependency_failure":"x"}', 422, "invalid", "/on_dependency_failure"),
    (b'{"task_type":"t","dependencies":["name"]}', 422, "unknown_dependency", "/dependencies/0"),
    (b'{"task_type":"t","gang":{"id":"g","size":4}}', 422, "not_available", "/gang"),
    (b'{"task_type":"t","reads":[]}', 422, "not_available", "/reads"),
    (b'{"tasks":[]}', 422, "invalid", "/tasks"),
    (b'{"tasks":[{"task_type":"t"},{"task_type":"t","priority":"x"}]}', 422, "invalid", "/tasks/1/priority"),
    (b'{"tasks":[{"task_type":"t","budget":"b"}]}', 422, "not_available", "/tasks/0/budget"),
    (b'{"tasks":[{"task_type":"t","name":"' + ID.encode() + b'"}]}', 422, "invalid", "/tasks/0/name"),
    (b'{"tasks":[{"task_type":"t","name":"a"},{"task_type":"t","name":"a"}]}', 422, "duplicate_name", "/tasks/1/name"),
    (b'{"tasks":[{"task_type":"t","dependencies":["x"]}]}', 422, "unknown_dependency", "/tasks/0/dependencies/0"),
    (b'{"tasks":[{"task_type":"t","name":"a","dependencies":["a"]}]}', 422, "cycle", "/tasks/0/dependencies"),
    (b'{"tasks":[{"task_type":"t"}],"join":{"policy":"quorum"}}', 422, "missing_field", "/join/count"),
    (b'{"tasks":[{"task_type":"t"}],"join":{"policy":"quorum","count":2}}', 422, "invalid", "/join/count"),
    (b"[" + b",".join([b'{"task_type":"t"}'] * 1001) + b"]", 422, "too_many_items", None),
    (b'{"task_type":"t","task_data":"' + b"x" * (1 << 20) + b'"}', 413, "body_too_large", None),
]


@pytest.mark.parametrize(("body", "status", "code", "field"), BAD_BODIES, ids=lambda value: str(value)[:60])
async def test_bad_submits_are_refused_precisely_and_change_nothing(
    api: Api, body: bytes, status: int, code: str, field: str | None
) -> None:
    answer = await api.call("POST", "/tasks/distributed", body)
    shown = answer.json
    assert (answer.status, shown["status"], shown["code"]) == (status, status, code)
    assert shown.get("field") == field
    assert shown["title"] and shown["detail"] and shown["type"]
    assert answer.headers["content-type"] == "application/problem+json"
    assert api.native.proposed == []


async def test_a_cycle_is_named(api: Api) -> None:
    tasks = [
        {"task_type": "t", "name": "a", "dependencies": ["c"]},
        {"task_type": "t", "name": "b", "dependencies": ["a"]},
        {"task_type": "t", "name": "c", "dependencies": ["b"]},
        {"task_type": "t", "name": "d", "dependencies": ["a"]},
    ]
    problem = (await api.call("POST", "/tasks/distributed", {"tasks": tasks})).json
    assert problem["cycle"] == ["a", "c", "b", "a"]


@pytest.mark.parametrize(
    ("method", "path", "headers", "status", "code", "field"),
    [
        ("PATCH", "/tasks/distributed", {}, 405, "method_not_allowed", None),
        ("GET", "/tasks/nothing/of/this", {}, 404, "no_such_call", None),
        ("GET", "/templates/x", {}, 404, "no_such_call", None),
        ("GET", f"/tasks/{ID}/explain", {}, 404, "no_such_call", None),
        ("GET", "/tasks/distributed/xyz", {}, 422, "invalid", "id"),
        ("GET", f"/tasks/distributed/{ID}", {}, 404, "not_found", "id"),
        ("GET", f"/tasks/distributed/{ID}?wait_ms=5", {}, 404, "not_found", "id"),
        ("GET", f"/tasks/distributed/{ID}?wait_ms=60001", {}, 422, "invalid", "wait_ms"),
        ("GET", f"/tasks/distributed/{ID}?wait_ms=a", {}, 422, "invalid", "wait_ms"),
        ("GET", f"/tasks/distributed/{ID}?until=ended", {}, 422, "invalid", "until"),
        ("GET", f"/tasks/distributed/{ID}?include=all", {}, 422, "invalid", "include"),
        ("GET", "/tasks/distributed?limit=0", {}, 422, "invalid", "limit"),
        ("GET", "/tasks/distributed?limit=1&limit=2", {}, 422, "invalid", "limit"),
        ("GET", "/tasks/distributed?nope=1", {}, 422, "unknown_parameter", "nope"),
        ("GET", "/tasks/distributed?dry_run=1", {}, 422, "not_available", "dry_run"),
        ("GET", "/tasks/distributed?status=%00", {}, 400, "nul_character", None),
        ("GET", "/tasks/distributed?status=%ff", {}, 400, "malformed", None),
        ("GET", "/tasks/distributed?cursor=broken", {}, 422, "invalid", "cursor"),
        ("GET", "/tasks/distributed?created_after=now", {}, 422, "invalid", "created_after"),
        ("GET", "/tasks/distributed?label=k", {}, 422, "invalid", "label"),
        ("GET", "/state/%ff", {}, 400, "malformed", None),
        ("GET", "/state/a%00b", {}, 400, "nul_character", None),
    ],
)
async def test_bad_targets(
    api: Api, method: str, path: str, headers: dict[str, str], status: int, code: str, field: str | None
) -> None:
    answer = await api.call(method, path, **headers)
    assert (answer.status, answer.json["code"], answer.json.get("field")) == (status, code, field)


async def test_a_wrong_method_is_told_the_right_ones(api: Api) -> None:
    assert (await api.call("DELETE", "/tasks/distributed")).headers["allow"] == "GET, POST"


async def test_the_media_type_counts(api: Api) -> None:
    for given in ("text/plain", "application/x-www-form-urlencoded", "application/json; charset=latin-1", "application/x-ndjson"):
        answer = await api.call("POST", f"/tasks/{ID}/cancel", b"{}", Content_Type=given)
        assert (answer.status, answer.json["field"]) == (415, "Content-Type")
    good = await api.call("POST", f"/tasks/{ID}/cancel", b"{}", Content_Type="application/JSON; charset=UTF-8")
    assert good.status == 200
    encoded = await api.call("POST", f"/tasks/{ID}/cancel", b"{}", Content_Encoding="gzip")
    assert encoded.status == 415
    assert (await api.call("GET", "/tasks/distributed", b"{}")).status == 400


async def test_waiting_ends_with_the_task(api: Api) -> None:
    """GET with wait_ms on a running task; it completes → the answer, and no interest is left."""
    api.native.put_task(ID, ASSIGNED)
    raw = bytes.fromhex(ID.replace("-", ""))
    waiting = asyncio.create_task(api.call("GET", f"/tasks/distributed/{ID}?wait_ms=9000"))
    await api.native.until(lambda: api.native.watched.get(raw))
    api.native.put_task(ID, READY)
    api.native.tell((3, raw, READY))
    await api.native.heard()
    api.native.put_task(ID, COMPLETED)
    api.native.tell((3, raw, COMPLETED))
    assert (await waiting).json["status"] == "completed"
    assert api.native.watched[raw] == 0


async def test_waiting_until_a_status(api: Api) -> None:
    api.native.put_task(ID, READY)
    raw = bytes.fromhex(ID.replace("-", ""))
    waiting = asyncio.create_task(api.call("GET", f"/tasks/distributed/{ID}?wait_ms=9000&until=assigned"))
    await api.native.until(lambda: api.native.watched.get(raw))
    api.native.tell((3, raw, ASSIGNED))
    assert (await waiting).status == 200


async def test_waiting_runs_out_with_the_task_as_it_is(api: Api) -> None:
    api.native.put_task(ID, READY)
    answer = await api.call("GET", f"/tasks/distributed/{ID}?wait_ms=1")
    assert (answer.status, answer.json["status"]) == (200, "ready")
    raw = bytes.fromhex(ID.replace("-", ""))
    assert api.native.watched[raw] == 0


async def test_a_submit_that_waits_answers_200_with_the_task_or_202(api: Api) -> None:
    api.native.put_task(ID, COMPLETED)
    ended = await api.call("POST", "/tasks/distributed?wait_ms=1000", {"task_type": "t", "id": ID})
    assert (ended.status, ended.json) == (200, {"id": ID, "status": "completed"})
    api.native.put_task(ID, READY)
    still = await api.call("POST", "/tasks/distributed?wait_ms=1", {"task_type": "t", "id": ID})
    assert (still.status, still.json["status"]) == (202, "ready")


async def test_a_client_that_left_leaves_no_interest(api: Api) -> None:
    api.native.put_task(ID, READY)
    raw = bytes.fromhex(ID.replace("-", ""))
    _, writer = await api.open("GET", f"/tasks/distributed/{ID}?wait_ms=60000")
    await api.native.until(lambda: api.native.watched.get(raw))
    writer.close()
    await api.native.until(lambda: not api.native.watched[raw])


async def test_reads_are_linearizable_unless_local(api: Api) -> None:
    api.native.put_task(ID, READY)
    await api.call("GET", f"/tasks/distributed/{ID}?consistency=local")
    assert api.native.reads == 0
    answers = await asyncio.gather(*(api.call("GET", f"/tasks/distributed/{ID}?include=children,events") for _ in range(10)))
    assert {answer.headers["taskquorum-revision"] for answer in answers} == {"9"}
    assert 1 <= api.native.reads <= 10
    assert api.native.queries[-1] == (True, True)
    api.native.readable = False
    answer = await api.call("GET", f"/tasks/distributed/{ID}")
    assert (answer.status, answer.json["code"], answer.headers["retry-after"]) == (503, "no_leader", "1")


@pytest.mark.parametrize(("failure", "status", "code"), [(1, 503, "outcome_unknown"), (2, 503, "no_leader")])
async def test_proposals_that_fail(api: Api, failure: int, status: int, code: str) -> None:
    api.native.failure = failure
    answer = await api.call("POST", "/tasks/distributed", {"task_type": "t"})
    assert (answer.status, answer.json["code"], answer.headers["retry-after"]) == (status, code, "1")


async def test_a_full_queue_pushes_back(api: Api) -> None:
    api.native.full = True
    for method, path, body in (
        ("POST", "/tasks/distributed", {"task_type": "t"}), ("GET", "/tasks/distributed", None),
        ("POST", "/agents/a/heartbeat", {"agent_epoch": 1}), ("POST", "/cluster/snapshot", None),
    ):  # fmt: skip
        answer = await api.call(method, path, body)
        assert (answer.status, answer.headers["retry-after"]) == (429, "1")


@pytest.mark.parametrize(
    ("refusal", "status", "code"),
    [
        (1, 404, "not_found"), (2, 409, "exists"), (3, 422, "idempotency_mismatch"), (4, 409, "wrong_state"),
        (5, 409, "stale_epoch"), (6, 409, "stale_agent"), (7, 412, "precondition_failed"), (8, 422, "unknown_dependency"),
        (9, 422, "cycle"), (10, 422, "invalid"), (11, 429, "too_many_live_tasks"), (12, 503, "outcome_unknown"),
        (13, 409, "stale_read"), (14, 500, "internal_invariant"), (15, 409, "stale_read"), (16, 507, "disk_full"),
        (17, 503, "outcome_unknown"),
    ],
)  # fmt: skip
async def test_every_refusal_has_a_status_and_a_code(api: Api, refusal: int, status: int, code: str) -> None:
    api.native.decide = lambda name, fields: {"refusal": refusal, "agent_id": "b", "epoch": 4, "status": ASSIGNED}
    answer = await api.call("POST", f"/tasks/{ID}/complete", {"agent_id": "a", "epoch": 3, "result": 1})
    assert (answer.status, answer.json["code"]) == (status, code)
    assert ("retry-after" in answer.headers) == (status in (429, 503, 507))
    if refusal == 5:
        assert answer.json["holder"] == {"agent_id": "b", "epoch": 4}


async def test_calls_on_one_task(api: Api) -> None:
    api.native.decide = lambda name, fields: {"status": ASSIGNED, "epoch": 2}
    finished = {"agent_id": "a", "epoch": 2}
    for call, body, command in (
        ("cancel", None, {"task_id": ID, "kill": False, "grace_ms": 30000}),
        ("cancel", {"mode": "kill", "grace_ms": 5}, {"task_id": ID, "kill": True, "grace_ms": 5}),
        ("retry", None, {"task_id": ID}),
        ("reschedule", {"exclude_agents": ["a"], "priority": 0}, {"task_id": ID, "exclude_agents": ["a"], "priority": 0}),
        ("start", finished, {"task_id": ID, "epoch": 2, "agent_id": "a"}),
        ("progress", {**finished, "progress": 0.25, "checkpoint": {"x": 1}},
         {"task_id": ID, "epoch": 2, "agent_id": "a", "message": "", "progress_bp": 2500, "checkpoint": {"x": 1}}),
        ("complete", {**finished, "result": {"y": 2}, "quality": 1},
         {"task_id": ID, "epoch": 2, "agent_id": "a", "result": {"y": 2}, "cost": {}, "quality_bp": 10000}),
        ("fail", {**finished, "error": {"code": "c"}},
         {"task_id": ID, "epoch": 2, "agent_id": "a", "code": "c", "message": "", "retryable": True, "cost": {}}),
    ):  # fmt: skip
        answer = await api.call("POST", f"/tasks/{ID}/{call}", body)
        assert answer.json == {"id": ID, "status": "assigned", "epoch": 2, "revision": 7}, answer
        assert api.native.proposed[-1] == (call, command)


async def test_what_is_shown_of_a_task(api: Api) -> None:
    api.native.put_task(ID, READY)
    api.native.put_task(OTHER, COMPLETED)
    assert (await api.call("GET", f"/tasks/{ID}/events")).json == {"items": [], "next_cursor": None, "revision": 9}
    assert (await api.call("GET", f"/tasks/{OTHER}/result")).body == b'{"r": 1}'
    assert (await api.call("GET", f"/tasks/{ID}/result")).json["code"] == "no_result"
    logs = await api.call("GET", f"/tasks/{ID}/logs")
    assert (logs.headers["content-type"], logs.body) == ("application/x-ndjson", b'{"text":"a"}\n')
    assert (await api.call("GET", f"/tasks/{ID}/logs?attempt=2")).json["field"] == "attempt"
    listed = await api.call("GET", f"/tasks/distributed?status=ready&label=a%3Db&limit=5&count=true&parent={ID.upper()}")
    assert listed.json == {"items": [1], "next_cursor": "next", "revision": 9, "count": 1}
    assert api.native.queries[-1] == {
        "tenant": "default", "limit": 5, "count": True, "status": "ready", "parent": ID, "label": ["a", "b"],
    }  # fmt: skip

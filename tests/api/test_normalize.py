"""Submits, as properties: what comes out of any DAG, and that nothing but a problem comes out of any bytes."""

import json
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskquorum.api import normalize
from taskquorum.api.problems import pointer
from taskquorum.errors import InvalidError, ProblemError
from taskquorum.model import is_uuid, new_task_id, uuid_bytes, uuid_text


@st.composite
def dags(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Any tasks with names, and any dependencies between them, cycles included."""
    count = draw(st.integers(1, 12))
    names = [f"n{number}" for number in range(count)]
    edges = st.lists(st.sampled_from(names), max_size=4)
    return [{"task_type": "t", "name": name, "dependencies": draw(edges)} for name in names]


def has_cycle(tasks: list[dict[str, Any]]) -> bool:
    left = {task["name"]: set(task["dependencies"]) for task in tasks}
    while free := [name for name, open_ in left.items() if not open_ & set(left)]:
        for name in free:
            del left[name]
    return bool(left)


@given(dags())
def test_a_dag_is_taken_exactly_if_it_has_no_cycle(tasks: list[dict[str, Any]]) -> None:
    body = json.dumps({"tasks": tasks}).encode()
    if not has_cycle(tasks):
        submit = normalize.submit(body, "")
        fields = json.loads(submit.command)["submit"]["tasks"]
        ids = dict(submit.children or ())
        assert len(set(ids.values()) | {submit.task_id}) == len(tasks) + 1
        for task, sent in zip(tasks, fields[1:], strict=True):
            assert set(sent.get("dependencies", ())) == {ids[name] for name in task["dependencies"]}
            assert sent["parent_id"] == fields[0]["id"] == submit.task_id
        return
    with pytest.raises(InvalidError) as caught:
        normalize.submit(body, "")
    assert caught.value.code == "cycle"
    cycle = caught.value.extra["cycle"]
    depends = {task["name"]: task["dependencies"] for task in tasks}
    assert cycle[0] == cycle[-1]
    for name, dependency in pairwise(cycle):
        assert dependency in depends[name]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(json_values)
def test_any_json_is_taken_or_refused_with_a_problem(value: Any) -> None:
    for body in (value, {"task_type": "t", "task_data": value}, {"tasks": value}, {"task_type": value}):
        try:
            submit = normalize.submit(json.dumps(body).encode(), "")
        except ProblemError as problem:
            assert problem.status in (400, 413, 422)
        else:
            assert is_uuid(submit.task_id)


@given(st.binary(max_size=200))
def test_any_bytes_are_taken_or_refused_with_a_problem(body: bytes) -> None:
    for text in (body, b'{"task_type":"t","task_data":' + body + b"}"):
        try:
            command = normalize.submit(text, "").command
        except ProblemError as problem:
            assert problem.status in (400, 413, 422)
        else:
            json.loads(command)


@given(json_values)
def test_the_payload_passes_byte_for_byte(value: Any) -> None:
    payload = json.dumps(value, indent=1).encode()
    if b"\\u0000" in payload:
        return
    command = normalize.submit(b'{"task_type":"t","task_data":' + payload + b"}", "").command
    assert payload in command


@given(st.text(max_size=20))
def test_the_hash_tells_bodies_apart(text: str) -> None:
    body = json.dumps({"task_type": "t", "task_data": text}).encode()
    assert normalize.body_hash(body) == normalize.body_hash(body + b"\n")
    assert normalize.body_hash(body) != normalize.body_hash(body.replace(b'"t"', b'"u"'))


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        ("$", ""),
        ("$.tasks[0].priority", "/tasks/0/priority"),
        ("$[3].requirements.capabilities[...]", "/3/requirements/capabilities"),
        ("$.a[...][0]", "/a"),
    ],
)
def test_pointers(path: str, wanted: str) -> None:
    assert pointer(path) == wanted


def test_ids_grow_and_are_version_7() -> None:
    ids = [new_task_id() for _ in range(20_000)]
    assert ids == sorted(set(ids))
    assert {(task_id[14], task_id[19] in "89ab") for task_id in ids} == {("7", True)}
    assert uuid_text(uuid_bytes(ids[0])) == ids[0]
    with pytest.raises(ValueError, match="UUID"):
        uuid_bytes("x" * 36)


def test_a_large_dag_is_quick_enough() -> None:
    """10,000 tasks in one chain: linear work, no recursion."""
    tasks = [{"task_type": "t", "name": f"n{at}", "dependencies": [f"n{at - 1}"] if at else []} for at in range(10_000)]
    submit = normalize.submit(msgspec.json.encode({"tasks": tasks}), "")
    assert len(submit.children or ()) == 10_000
    tasks[0]["dependencies"] = ["n9999"]
    with pytest.raises(InvalidError, match="cycle"):
        normalize.submit(msgspec.json.encode({"tasks": tasks}), "")

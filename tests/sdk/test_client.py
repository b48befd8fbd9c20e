"""The client against a fake server: what it sends, when it repeats, how it fails."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from datetime import UTC, datetime

import pytest

from taskquorum import AsyncClient, Client, Dag, ServerUnreachableError, Task
from taskquorum.errors import NotFoundError, PreconditionFailedError, ProblemError
from taskquorum.link import parse_servers
from taskquorum.sse import SseMessage, SseParser
from taskquorum.task import Submitted, uuid7

from .fake import fake_servers


async def test_a_submit_whose_answer_is_lost_is_repeated_as_the_same_task() -> None:
    """server takes the task, connection drops → client repeats it with the same id → one task"""
    async with fake_servers(2) as (cluster, servers), AsyncClient([s.url for s in servers]) as client:
        servers[0].drop_submits = 1
        submitted = await client.submit(Task("echo", {"a": 1}))
        assert list(cluster.tasks) == [submitted.id]
        assert servers[1].requests == ["POST /api/v1/tasks/distributed"]


async def test_a_dag_whose_answer_is_lost_is_submitted_once() -> None:
    async with fake_servers(2) as (cluster, servers), AsyncClient([s.url for s in servers]) as client:
        servers[0].drop_submits = 1
        dag = Dag()
        first = dag.add(Task("echo"))
        dag.add(Task("echo", name="second"), after=[first])
        submitted = await client.submit(dag)
        assert set(submitted.tasks) == {"echo-0", "second"}
        assert len(cluster.tasks) == 3


async def test_an_unavailable_server_is_left_for_the_next() -> None:
    async with fake_servers(2) as (_, servers), AsyncClient([s.url for s in servers]) as client:
        servers[0].down = True
        assert (await client.cluster_status())["leader"] == "fake-1"
        assert client.link.server == servers[1].url


async def test_nobody_answers_within_the_timeout() -> None:
    async with fake_servers(1) as (_, servers), AsyncClient(servers[0].url, timeout_s=0.2) as client:
        servers[0].down = True
        with pytest.raises(ServerUnreachableError) as caught:
            await client.cluster_status()
        assert isinstance(caught.value.__cause__, ProblemError)
        assert caught.value.retryable


async def test_a_conditional_write_is_not_repeated_when_its_answer_is_lost() -> None:
    async with fake_servers(1) as (_, servers), AsyncClient(servers[0].url) as client:
        await servers[0].stop()
        with pytest.raises(ServerUnreachableError):
            await client.link.call("PUT", "/state/k", json={"value": 1}, headers={"If-Match": '"1"'}, timeout_s=0.1)


async def test_keys_round_trip_and_refuse_what_has_changed() -> None:
    async with fake_servers() as (_, servers), AsyncClient(servers[0].url) as client:
        first = await client.kv_put("a/b", {"x": 1})
        assert (await client.kv_get("a/b")).value == {"x": 1}
        await client.kv_put("a/b", 2, if_match=first["revision"])
        with pytest.raises(PreconditionFailedError):
            await client.kv_put("a/b", 3, if_match=first["revision"])
        with pytest.raises(PreconditionFailedError):
            await client.kv_put("a/b", 3, if_absent=True)
        await client.kv_delete("a/b")
        with pytest.raises(NotFoundError):
            await client.kv_get("a/b")


async def test_a_refused_item_of_a_batch_is_returned_with_its_field() -> None:
    async with fake_servers() as (_, servers), AsyncClient(servers[0].url) as client:
        good, bad = await client.submit_many([Task("echo"), Task("", extra={})])
        assert isinstance(good, Submitted)
        assert isinstance(bad, Submitted)  # An empty type is the real server's to refuse.
        answer = await client.submit_raw(b'[{"task_type":"echo"},{"name":"x"}]')
        assert answer.body["items"][1]["error"]["field"] == "/task_type"


async def test_wait_ends_with_the_task_and_times_out_without_cancelling() -> None:
    async with fake_servers() as (cluster, servers), AsyncClient(servers[0].url) as client:
        submitted = await client.submit(Task("echo"))
        with pytest.raises(TimeoutError):
            await client.wait(submitted.id, timeout_s=0.05)
        waiting = asyncio.create_task(client.wait(submitted.id))
        task = cluster.tasks[submitted.id]
        task["result"] = [1]
        await cluster.touch(task, "completed")
        state = await waiting
        assert state.succeeded
        assert state.result == [1]


async def test_watch_goes_on_where_it_was_when_its_server_dies() -> None:
    """three events, server dies, two more on the other server → five events, each once, in order"""
    async with fake_servers(2) as (_, servers), AsyncClient([s.url for s in servers]) as client:
        for _ in range(3):
            await client.submit(Task("echo"))
        stream = client.watch(kinds=["task"], from_revision=1)
        seen = [(await anext(stream)).revision for _ in range(3)]
        await servers[0].stop()
        async with AsyncClient(servers[1].url) as other:
            for _ in range(2):
                await other.submit(Task("echo"))
        seen += [(await anext(stream)).revision for _ in range(2)]
        assert seen == [1, 2, 3, 4, 5]
        await stream.aclose()


async def test_the_synchronous_client_is_its_twin() -> None:
    async with fake_servers() as (_cluster, servers):

        def use() -> list[str]:
            with Client(servers[0].url) as client:
                submitted = client.submit(Task("echo", id=uuid7()))
                event = next(client.watch(from_revision=1))
                assert event.id == submitted.id
                assert client.list(count=True).count == 1
                client.kv_put("k", 1)
                return [client.get(submitted.id).status, str(client.kv_get("k").value)]

        assert await asyncio.to_thread(use) == ["ready", "1"]


def test_a_task_is_written_with_what_was_set_alone() -> None:
    assert Task("t").to_wire() == {"task_type": "t"}
    wire = Task("t", [1], {"nlp": 0.5}, run_ms=5, deadline=datetime(2030, 1, 2, tzinfo=UTC), retry={"max_attempts": 1}).to_wire()
    assert wire["requirements"] == {"capabilities": {"nlp": 0.5}}
    assert wire["timeouts"] == {"run_ms": 5}
    assert wire["deadline"] == "2030-01-02T00:00:00.000000Z"
    with pytest.raises(ValueError, match="zone"):
        Task("t", deadline=datetime(2030, 1, 2)).to_wire()


def test_ids_are_version_7_and_sort_by_time() -> None:
    ids = [uuid7() for _ in range(100)]
    assert all(item[14] == "7" and item[19] in "89ab" for item in ids)
    assert [item[:13] for item in ids] == sorted(item[:13] for item in ids)


@pytest.mark.parametrize("cut", range(1, 9))
def test_events_come_whole_however_the_stream_is_cut(cut: int) -> None:
    raw = b': comment\nid: 7\ndata: {"a":1}\n\ndata: x\r\ndata: y\r\n\r\n'
    parser, found = SseParser(), []
    for at in range(0, len(raw), cut):
        found += parser.feed(raw[at : at + cut])
    assert found == [SseMessage("7", '{"a":1}'), SseMessage(None, "x\ny")]


def test_servers_are_checked() -> None:
    assert parse_servers("http://a/, http://b") == ["http://a", "http://b"]
    for wrong in ("", "a:8080"):
        with pytest.raises(ValueError):
            parse_servers(wrong)


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = (
        "import sys, taskquorum; taskquorum.Agent; "
        "heavy = {'numba', 'numpy', 'aiohttp', 'msgspec', 'typer', 'rich', 'uvloop'} & set(sys.modules); "
        "sys.exit(str(heavy) if heavy else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)

"""Agents against a fake server: work, failure, fences, failover, drain."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from taskquorum import Agent, AsyncClient, Context, Dag, LeaseLost, Task, TaskFailed
from taskquorum.agent import Counts

from .fake import fake_servers


@asynccontextmanager
async def running(agent: Agent) -> AsyncIterator[asyncio.Event]:
    """The agent at work until the block ends, then drained."""
    stop = asyncio.Event()
    serving = asyncio.create_task(agent.serve(stop))
    try:
        yield stop
    finally:
        stop.set()
        await asyncio.wait_for(serving, 15)


async def test_async_and_plain_functions_do_tasks_with_inputs() -> None:
    async with fake_servers() as (cluster, servers), AsyncClient(servers[0].url) as client:
        agent = Agent(servers[0].url, slots=2)

        @agent.task("load")
        async def load(ctx: Context, data: Any) -> Any:
            return {"n": data, "pad": "x" * 2_000}

        @agent.task("add")
        def add(ctx: Context, data: Any) -> Any:
            assert threading.current_thread() is not threading.main_thread()
            return sum(value["n"] for value in ctx.inputs.values())

        dag = Dag([Task("load", 1, name="a"), Task("load", 2, name="b"), Task("add", name="c", dependencies=["a", "b"])])
        async with running(agent):
            submitted = await client.submit(dag)
            state = await client.wait(submitted.tasks["c"], timeout_s=10)
        assert state.result == 3  # The inputs were over the fake's inline limit: fetched by their links.
        assert agent.counts == Counts(completed=3)
        assert cluster.left == [agent.config.id]


async def test_failures_have_codes_and_say_whether_to_try_again() -> None:
    async with fake_servers() as (_, servers), AsyncClient(servers[0].url) as client:
        agent = Agent(servers[0].url)

        @agent.task("typed")
        def typed(ctx: Context, data: Any) -> Any:
            raise TaskFailed("no_quota", "later", retryable=True, retry_after_ms=500)

        @agent.task("bug")
        def bug(ctx: Context, data: Any) -> Any:
            raise KeyError("missing")

        @agent.task("odd")
        async def odd(ctx: Context, data: Any) -> Any:
            return object()

        async with running(agent):
            ids = [(await client.submit(Task(kind))).id for kind in ("typed", "bug", "odd")]
            errors = [(await client.wait(task_id, timeout_s=10)).error for task_id in ids]
        assert errors[0] == {"code": "no_quota", "message": "later", "retryable": True, "retry_after_ms": 500}
        assert errors[1] is not None and errors[1]["code"] == "KeyError" and errors[1]["retryable"]
        assert errors[2] is not None and errors[2]["code"] == "result_not_json" and not errors[2]["retryable"]


async def test_progress_and_log_lines_arrive_with_or_before_the_result() -> None:
    async with fake_servers() as (cluster, servers), AsyncClient(servers[0].url) as client:
        agent = Agent(servers[0].url)

        @agent.task("talk")
        async def talk(ctx: Context, data: Any) -> Any:
            ctx.progress(0.25)
            ctx.progress(0.5, "half")
            ctx.log("one")
            ctx.log("two", "warn")
            ctx.save_checkpoint({"at": 2})

        async with running(agent):
            await client.submit(Task("talk"), wait=True, timeout_s=10)
        report = cluster.progress[-1]
        assert (report["progress"], report["message"], report["checkpoint"]) == (0.5, "half", {"at": 2})
        assert [(line["level"], line["text"]) for line in report["log"]] == [("info", "one"), ("warn", "two")]


async def test_a_cancel_reaches_the_function() -> None:
    async with fake_servers() as (cluster, servers), AsyncClient(servers[0].url) as client:
        agent = Agent(servers[0].url)
        begun = asyncio.Event()

        @agent.task("long")
        async def long(ctx: Context, data: Any) -> Any:
            begun.set()
            await asyncio.to_thread(ctx.wait, 60)

        async with running(agent):
            submitted = await client.submit(Task("long"))
            await begun.wait()
            await client.cancel(submitted.id)
            state = await client.wait(submitted.id, timeout_s=10)
        assert state.status == "cancelled"
        assert cluster.tasks[submitted.id]["error"]["code"] == "cancelled"


async def test_without_replies_the_agent_fences_itself_and_sends_no_result() -> None:
    """beats stop being extended → after 3 s check() raises, the finished result is withheld;
    beats come back and list the attempt → the result is sent"""
    async with fake_servers() as (cluster, servers), AsyncClient(servers[0].url) as client:
        agent = Agent(servers[0].url)
        fenced = asyncio.Event()

        @agent.task("careful")
        async def careful(ctx: Context, data: Any) -> Any:
            began = time.monotonic()
            cluster.mute_beats = True
            with pytest.raises(LeaseLost):
                await asyncio.to_thread(ctx.wait, 60)
            fenced.set()
            return time.monotonic() - began

        async with running(agent):
            submitted = await client.submit(Task("careful"))
            await fenced.wait()
            sent = len(cluster.polls)
            await _beats(cluster, servers[0], 3)
            assert not any(poll.get("results") for poll in cluster.polls[sent:])
            cluster.mute_beats = False
            state = await client.wait(submitted.id, timeout_s=10)
        assert 2.5 < state.result < 3.2


async def _beats(cluster: Any, server: Any, count: int) -> None:
    def beats() -> int:
        return sum(request.endswith("/heartbeat") for request in server.requests)

    wanted = beats() + count
    await cluster.until(lambda: beats() >= wanted)


async def test_an_attempt_that_a_reply_does_not_list_is_given_up() -> None:
    async with fake_servers() as (cluster, servers), AsyncClient(servers[0].url) as client:
        agent = Agent(servers[0].url)
        ended = asyncio.Event()

        @agent.task("held")
        async def held(ctx: Context, data: Any) -> Any:
            cluster.withhold_held = True
            try:
                await asyncio.Event().wait()
            finally:
                ended.set()

        async with running(agent):
            await client.submit(Task("held"))
            await asyncio.wait_for(ended.wait(), 10)
            cluster.tasks.clear()
            cluster.withhold_held = False
        assert agent.counts == Counts(lost=1)
        assert not any(poll.get("results") for poll in cluster.polls)


async def test_the_next_server_takes_over() -> None:
    async with fake_servers(2) as (cluster, servers), AsyncClient(servers[1].url) as client:
        agent = Agent([s.url for s in servers])

        @agent.task("echo")
        def echo(ctx: Context, data: Any) -> Any:
            return data

        async with running(agent):
            await cluster.until(lambda: agent.config.id in cluster.agents)
            await servers[0].stop()
            state = await client.submit(Task("echo", 7), wait=True, timeout_s=10)
        assert state.result == 7
        assert cluster.agents == {}


async def test_a_void_registration_is_made_again() -> None:
    async with fake_servers() as (cluster, servers), AsyncClient(servers[0].url) as client:
        agent = Agent(servers[0].url)

        @agent.task("echo")
        def echo(ctx: Context, data: Any) -> Any:
            return data

        async with running(agent):
            await client.submit(Task("echo"), wait=True, timeout_s=10)
            del cluster.agents[agent.config.id]
            await cluster.until(lambda: agent.config.id in cluster.agents)
            state = await client.submit(Task("echo", 2), wait=True, timeout_s=10)
        assert state.result == 2


async def test_draining_finishes_what_runs_and_takes_nothing_new() -> None:
    async with fake_servers() as (cluster, servers), AsyncClient(servers[0].url) as client:
        agent = Agent(servers[0].url, slots=1)
        begun, go = asyncio.Event(), asyncio.Event()

        @agent.task("slow")
        async def slow(ctx: Context, data: Any) -> Any:
            begun.set()
            await go.wait()
            return "done"

        async with running(agent) as stop:
            first = await client.submit(Task("slow"))
            await begun.wait()
            stop.set()
            await cluster.until(lambda: any("/drain" in request for request in servers[0].requests))
            go.set()
            assert (await client.wait(first.id, timeout_s=10)).result == "done"
        second = await client.submit(Task("slow"))
        assert (await client.get(second.id)).status == "ready"
        assert cluster.left == [agent.config.id]


async def test_a_late_second_hand_over_of_a_finished_attempt_is_not_run_again() -> None:
    async with fake_servers() as (cluster, servers), AsyncClient(servers[0].url) as client:
        agent = Agent(servers[0].url)
        runs: list[int] = []

        @agent.task("once")
        async def once(ctx: Context, data: Any) -> Any:
            runs.append(ctx.fence)

        async with running(agent):
            submitted = await client.submit(Task("once"), wait=True, timeout_s=10)
            cluster.tasks[submitted.id]["status"] = "assigned"  # A stale answer shows it once more.
            await cluster.nudge()
            await client.submit(Task("once", 2), wait=True, timeout_s=10)
        assert runs == [1, 1]  # One attempt each: the first task did not run twice.

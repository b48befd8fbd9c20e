"""How a client reaches the cluster: one request at a time, on whichever server answers.

What always holds: a request is repeated only when that cannot do it twice (`safe`, or the server
said that nothing was done), never after its deadline, and with a pause that grows to a bound.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp
import orjson

from taskquorum.errors import OutcomeUnknownError, ProblemError, ServerUnreachableError, problem_error

API = "/api/v1"
DEFAULT_SERVER = "http://127.0.0.1:8080"

CONNECT_S = 2.0
"""Longest time for a connection to open before the next server is tried."""
ATTEMPT_S = 10.0
"""Longest time for one answer, on top of any `wait_ms`; a server that stands still is then left."""
BACKOFF_FIRST_S = 0.05
BACKOFF_MAX_S = 1.0
RETRY_AFTER_MAX_S = 5.0
"""A longer `Retry-After` is cut to this: another server may be ready earlier."""
BODY_BYTES_MAX = 64 << 20
"""A larger answer is refused; the server's own pages and results are far below."""


def parse_servers(servers: str | list[str] | tuple[str, ...]) -> list[str]:
    """`URL[,URL…]` or a list of URLs, without trailing slashes. Raises ValueError when none is usable."""
    parts = servers.split(",") if isinstance(servers, str) else list(servers)
    urls = [part.strip().rstrip("/") for part in parts if part.strip()]
    if not urls:
        raise ValueError("no server given")
    for url in urls:
        if not url.startswith(("http://", "https://")):
            raise ValueError(f"{url!r} is no http(s) URL")
    return urls


def backoff_s(attempt: int) -> float:
    """Pause before repeat number `attempt` (from 1): exponential to a bound, with full jitter of its half."""
    ceiling: float = min(BACKOFF_MAX_S, BACKOFF_FIRST_S * 2 ** min(attempt - 1, 16))
    return ceiling * (0.5 + random.random() / 2)


@dataclass(frozen=True, slots=True)
class Answer:
    """A successful answer: the parsed body (None when empty) and the revision it was read or written at."""

    status: int
    body: Any
    revision: int
    headers: Mapping[str, str]
    server: str


def retry_after_s(value: str | None) -> int | None:
    """Seconds of a `Retry-After` header, None when it is absent or a date."""
    return int(value) if value is not None and value.isascii() and value.isdigit() else None


def parse_problem(status: int, raw: bytes, retry_after: str | None) -> ProblemError:
    """The error for an answer of 400 or more, whatever its body is."""
    try:
        problem = orjson.loads(raw)
    except orjson.JSONDecodeError:
        problem = {}
    if not isinstance(problem, dict):
        problem = {}
    return problem_error(status, problem, retry_after_s(retry_after))


class Link:
    """Requests with failover over a list of servers; bound to the running event loop."""

    def __init__(self, servers: str | list[str] | tuple[str, ...], *, timeout_s: float = 30.0) -> None:
        """`timeout_s` bounds each call over all its attempts, on top of any `wait_ms`."""
        self.servers = parse_servers(servers)
        self.timeout_s = timeout_s
        self._current = 0
        self._session: aiohttp.ClientSession | None = None

    @property
    def server(self) -> str:
        """The server that the next request goes to."""
        return self.servers[self._current % len(self.servers)]

    def next_server(self, failed: str) -> None:
        """Moves on when `failed` is still the current server (another request may have moved already)."""
        if self.server == failed:
            self._current = (self._current + 1) % len(self.servers)

    def session(self) -> aiohttp.ClientSession:
        """The connection pool, opened on first use."""
        if self._session is None or self._session.closed:
            timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S)
            self._session = aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(limit=256))
        return self._session

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def once(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = ATTEMPT_S,
    ) -> Answer:
        """One attempt on the current server.

        Raises ProblemError for an answer of 400 or more, aiohttp.ClientError, OSError or TimeoutError
        when there was none.
        """
        server = self.server
        sent = {"Content-Type": "application/json"} if body is not None else {}
        sent.update(headers or {})
        async with asyncio.timeout(timeout_s):
            request = self.session().request(
                method, f"{server}{API}{path}", params=params, data=body, headers=sent, allow_redirects=False
            )
            async with request as response:
                raw = await response.content.read(-1)
                if len(raw) > BODY_BYTES_MAX:
                    raise ServerUnreachableError(f"{server} answered with {len(raw)} bytes, over {BODY_BYTES_MAX}")
                if response.status >= 400:
                    raise parse_problem(response.status, raw, response.headers.get("Retry-After"))
                return Answer(
                    status=response.status,
                    body=_parse(raw, response.content_type),
                    revision=int(response.headers.get("Taskquorum-Revision", "0")),
                    headers=response.headers,
                    server=server,
                )

    async def call(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        json: Any = None,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        safe: bool | None = None,
        wait_ms: int = 0,
        timeout_s: float | None = None,
    ) -> Answer:
        """Requests until a server answers or the time runs out.

        `safe` says that doing it twice is the same as once (default: for GET). Raises ProblemError when
        the request was refused for good, ServerUnreachableError when nobody answered in time.
        """
        safe = method == "GET" if safe is None else safe
        if json is not None:
            body = orjson.dumps(json)
        deadline = time.monotonic() + (self.timeout_s if timeout_s is None else timeout_s) + wait_ms / 1000
        attempt = 0
        while True:
            server = self.server
            attempt += 1
            left = max(0.001, deadline - time.monotonic())
            try:
                return await self.once(
                    method,
                    path,
                    params=params,
                    body=body,
                    headers=headers,
                    timeout_s=min(left, ATTEMPT_S + wait_ms / 1000),
                )
            except ProblemError as error:
                if not may_repeat(error, safe):
                    raise
                pause = max(backoff_s(attempt), min(error.retry_after_s or 0.0, RETRY_AFTER_MAX_S))
                last: BaseException = error
            except (aiohttp.ClientConnectorError, aiohttp.ServerTimeoutError) as error:
                pause, last = self._pause(attempt), error
            except (aiohttp.ClientError, OSError, TimeoutError) as error:
                if not safe:
                    what = f"{method} {path}: {server} gave no answer"
                    raise ServerUnreachableError(f"{what}, so it may or may not have been done") from error
                pause, last = self._pause(attempt), error
            self.next_server(server)
            if time.monotonic() + pause >= deadline:
                raise ServerUnreachableError(f"{method} {path}: no answer from {', '.join(self.servers)} ({last})") from last
            await asyncio.sleep(pause)

    def _pause(self, attempt: int) -> float:
        """After a dead connection the first round over the servers goes without delay."""
        return backoff_s(attempt - len(self.servers) + 1) if attempt >= len(self.servers) else 0.0


def may_repeat(error: ProblemError, safe: bool) -> bool:
    """Whether an answered error may be tried again: pushed back (429), or unavailable with nothing done."""
    if isinstance(error, OutcomeUnknownError):
        return safe
    return error.status in (429, 502, 503, 504) and (safe or error.status in (429, 503))


def _parse(raw: bytes, content_type: str) -> Any:
    if not raw:
        return None
    if content_type == "application/json":
        return orjson.loads(raw)
    return raw

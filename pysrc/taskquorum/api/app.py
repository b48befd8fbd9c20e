"""The API of one node: takes requests from the server, finds their route, and guards their handlers."""

from __future__ import annotations

import asyncio
import logging
from asyncio import AbstractEventLoop
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from taskquorum._http import Request
from taskquorum.api import fence, query
from taskquorum.api.call import Call
from taskquorum.api.leadership import step_aside
from taskquorum.api.polls import Polls
from taskquorum.api.routes import ROUTES
from taskquorum.api.routing import Match, Route, Router
from taskquorum.errors import MalformedError, ProblemError
from taskquorum.metrics import Metrics
from taskquorum.model import BODY_BYTES_MAX
from taskquorum.node import Node

if TYPE_CHECKING:
    from taskquorum.api.streams import Ending

LOG = logging.getLogger("taskquorum.api")
_NOTHING: Final[dict[str, Any]] = {}


class Lag:
    """How long applying has been behind committing, seen whenever somebody asks."""

    def __init__(self, loop: AbstractEventLoop) -> None:
        self._loop = loop
        self._seen: list[tuple[float, int]] = []

    def seconds(self, commit_index: int, applied_index: int) -> float:
        """Age of the oldest commit index seen that is not applied yet."""
        now = self._loop.time()
        self._seen = [(at, index) for at, index in self._seen[-64:] if index > applied_index]
        if commit_index > applied_index:
            self._seen.append((now, commit_index))
        return now - self._seen[0][0] if self._seen else 0.0


class App:
    """State of the API. Everything happens on the loop's thread."""

    def __init__(self, node: Node, loop: AbstractEventLoop, metrics: Metrics) -> None:
        self.node = node
        self.loop = loop
        self.metrics = metrics
        self.router = Router(ROUTES)
        self.polls = Polls(self)
        self.streams: set[Ending] = set()
        self.lag = Lag(loop)
        self.stopping = False
        self.disk_full: Callable[[], bool] = lambda: False
        self.background: set[asyncio.Task[None]] = set()
        """Tasks of rare calls that wait for another node, kept from being collected."""
        node.on_leaderless = self.polls.end_all
        node.on_leading = lambda: step_aside(self)

    def admit(self, request: Request) -> int:
        """Finds the route; the body's bound in bytes."""
        try:
            match: Match | None = self.router.match(request.path)
        except ProblemError as problem:
            request.params = problem
            return BODY_BYTES_MAX
        if match is None:
            return BODY_BYTES_MAX
        methods, params = match
        request.params = params
        route = methods.get(request.method)
        if route is None:
            allowed = ", ".join(sorted(methods))
            request.params = ProblemError(
                f"{request.path[:200]} takes {allowed}",
                status=405,
                code="method_not_allowed",
                headers=f"Allow: {allowed}\r\n".encode(),
            )
            return BODY_BYTES_MAX
        request.route = route
        return route.body_bytes_max

    def dispatch(self, request: Request) -> None:
        """Handles one request: it, or a callback of it, answers once."""
        route: Route | None = request.route
        if route is None:
            call = Call(self, request, {}, _NOTHING)
            problem = request.params
            if not isinstance(problem, ProblemError):
                problem = ProblemError("there is no such call", status=404, code="no_such_call")
            call.fail(problem)
            return
        call = Call(self, request, request.params, _NOTHING)
        try:
            fence.check(self, route)
            if request.query:
                call.query = query.parse(request.query, route.query)
            self._check_body(route, request)
            route.handler(call)
        except ProblemError as problem:
            call.fail(problem)
        except Exception:  # One of the two edges: a bug in a handler is that request's 500.
            LOG.exception("%s %s failed", request.method, request.path)
            call.fail(ProblemError("the request failed"))

    def _check_body(self, route: Route, request: Request) -> None:
        if not request.body:
            if route.body_required:
                raise MalformedError("the body is missing", code="malformed_json")
            return
        if route.body is None:
            raise MalformedError("this call takes no body", code="unexpected_body")
        content_type = request.headers.get("content-type", "")
        media, _, parameters = content_type.partition(";")
        media = media.strip().lower()
        charset = parameters.strip().lower().replace('"', "")
        fits = media == "application/json" or (route.ndjson and media == "application/x-ndjson")
        if not fits or charset not in ("", "charset=utf-8"):
            wanted = "application/json" + (" or application/x-ndjson" if route.ndjson else "")
            raise ProblemError(f"the body must be {wanted}", status=415, code="unsupported_media_type", field="Content-Type")
        if request.headers.get("content-encoding", "identity").lower() != "identity":
            raise ProblemError(
                "the body must not be encoded", status=415, code="unsupported_content_encoding", field="Content-Encoding"
            )

    def stop(self) -> None:
        """Ends what waits, so that all connections can close: polls answer empty, streams end."""
        self.stopping = True
        self.polls.end_empty()
        for stream in list(self.streams):
            stream.end()

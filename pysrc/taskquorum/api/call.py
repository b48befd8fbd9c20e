"""One request on its way through a handler: what it carried, and how it is answered.

A handler takes a `Call`, decodes, calls the node, and lets callbacks answer. Whatever raises on
the way ends as a problem document; a client that left costs nothing further.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec

from taskquorum._http import Request, Stream
from taskquorum.api import problems
from taskquorum.api.normalize import check_text
from taskquorum.errors import InvalidError, MalformedError, ProblemError
from taskquorum.model import is_uuid
from taskquorum.node import Outcome, guarded

if TYPE_CHECKING:
    from taskquorum.api.app import App

LOG = logging.getLogger("taskquorum.api")
T = TypeVar("T")

JSON: Final = b"application/json"
NDJSON: Final = b"application/x-ndjson"
SSE: Final = b"text/event-stream"


class Call:
    """A request with its path parameters and its checked query."""

    __slots__ = ("app", "params", "query", "request")

    def __init__(self, app: App, request: Request, params: Mapping[str, str], query: Mapping[str, Any]) -> None:
        self.app = app
        self.request = request
        self.params = params
        self.query = query

    # ---- what it carries -------------------------------------------------------------------

    def decode(self, decoder: msgspec.json.Decoder[T]) -> T:
        """The body as a struct. Raises ProblemError 400 or 422 that names the field."""
        body = self.request.body or b"{}"
        check_text(body)
        try:
            return decoder.decode(body)
        except msgspec.DecodeError as error:
            raise problems.from_decode(error) from error
        except RecursionError as error:
            raise MalformedError("the JSON nests too deep", code="too_deep") from error

    def task_id(self) -> str:
        """The path's task id in lower case. Raises InvalidError when it is no UUID."""
        text = self.params["id"]
        if not is_uuid(text):
            raise InvalidError("a task id is a UUID", field="id")
        return text.lower()

    def name(self, name: str, length_max: int = 255) -> str:
        """A name in the path. Raises InvalidError when it is empty or too long."""
        text = self.params[name]
        if not text or len(text) > length_max:
            raise InvalidError(f"1 to {length_max} characters", field=name)
        return text

    # ---- what it waits for -----------------------------------------------------------------

    def read(self, then: Callable[[], None]) -> None:
        """Calls `then` when local state may be read at the consistency asked for."""
        if self.query.get("consistency") == "local":
            then()
        else:
            self.app.node.readable(then, self.fail)

    def propose(self, command: bytes, then: Callable[[Outcome], None]) -> None:
        """Proposes one command; `then` gets its outcome if it was accepted, else the refusal is answered."""

        def ended(outcomes: Sequence[Outcome]) -> None:
            outcome = outcomes[0]
            if outcome.refusal:
                raise problems.from_outcome(outcome)
            then(outcome)

        self.app.node.propose((command,), ended, self.fail)

    def later(self, delay_s: float, then: Callable[[], None]) -> Callable[[], None]:
        """Calls `then` after a time; returns what stops that."""
        return self.app.loop.call_later(delay_s, guarded, then, self.fail).cancel

    # ---- how it is answered ----------------------------------------------------------------

    def json(self, body: bytes, revision: int | None = None, status: int = 200, extra: bytes = b"") -> None:
        """Answers with JSON text."""
        self.answer(status, body, JSON, revision, extra)

    def object(self, value: Any, revision: int | None = None, status: int = 200, extra: bytes = b"") -> None:
        """Answers with a value as JSON."""
        self.answer(status, msgspec.json.encode(value), JSON, revision, extra)

    def answer(self, status: int, body: bytes, content_type: bytes, revision: int | None = None, extra: bytes = b"") -> None:
        if revision is not None:
            extra = b"Taskquorum-Revision: %d\r\n%b" % (revision, extra)
        self.request.answer(status, body, content_type, extra)
        self.app.metrics.answered(self.request)

    def stream(self, content_type: bytes, extra: bytes = b"") -> Stream:
        """Starts an answer without an end."""
        stream = self.request.stream(200, content_type, b"Cache-Control: no-store\r\n" + extra)
        self.app.metrics.answered(self.request)
        return stream

    def fail(self, problem: ProblemError) -> None:
        """Answers with a problem document; too late for an answer, it is only logged."""
        if self.request.is_answered:
            LOG.warning("%s %s: after its answer: %s", self.request.method, self.request.path, problem)
            return
        if problem.status == 500:
            LOG.error("%s %s: %s", self.request.method, self.request.path, problem)
        body, extra = problems.render(problem)
        self.answer(problem.status, body, problems.CONTENT_TYPE, None, extra)


def first_call(function: Callable[..., None]) -> Callable[..., None]:
    """Wraps a callback of which only the first call counts."""
    called = False

    def once(*arguments: Any) -> None:
        nonlocal called
        if not called:
            called = True
            function(*arguments)

    return once

"""Which handler answers which method and path.

Paths are matched segment by segment in a tree; `{name}` takes one segment and `{name:path}` the
rest with its slashes. Segments are percent-decoded after the split, so an encoded slash stays
inside its segment.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from taskquorum.api.call import Call
from taskquorum.api.query import Query, decode
from taskquorum.model import BODY_BYTES_MAX

Handler = Callable[[Call], None]


@dataclass(frozen=True, slots=True)
class OneOf:
    """Alternatives, with `array` also as items of one, for a body or an answer."""

    types: tuple[Any, ...]
    array: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Route:
    """One call of the API, with what OpenAPI says of it."""

    method: str
    path: str
    handler: Handler
    summary: str
    tag: str
    query: Mapping[str, Query] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    """Request headers with a meaning, described."""
    body: Any = None
    """Struct, or `OneOf` such, that the body is decoded into; None: no body."""
    body_required: bool = False
    body_bytes_max: int = BODY_BYTES_MAX
    ndjson: bool = False
    """Whether the body may be `application/x-ndjson`."""
    answers: Mapping[int, Any] = field(default_factory=dict)
    """Status → struct of the answer, or a media type that is not JSON."""


class _Branch:
    __slots__ = ("methods", "name", "rest", "static", "wild")

    def __init__(self) -> None:
        self.static: dict[str, _Branch] = {}
        self.wild: _Branch | None = None
        self.rest: _Branch | None = None
        self.name = ""
        self.methods: dict[str, Route] = {}


Match = tuple[Mapping[str, Route], Mapping[str, str]]
_NOTHING: Final[Mapping[str, str]] = {}


class Router:
    """A fixed set of routes."""

    def __init__(self, routes: Sequence[Route]) -> None:
        self.routes = tuple(routes)
        self._root = _Branch()
        self._exact: dict[str, Match] = {}
        for route in routes:
            self._add(route)

    def _add(self, route: Route) -> None:
        branch = self._root
        for segment in route.path.split("/")[1:]:
            if segment.startswith("{"):
                name, _, kind = segment[1:-1].partition(":")
                if kind:
                    branch.rest = branch.rest or _Branch()
                    branch = branch.rest
                else:
                    branch.wild = branch.wild or _Branch()
                    branch = branch.wild
                assert branch.name in ("", name), f"two names for one place in {route.path}"
                branch.name = name
            else:
                branch = branch.static.setdefault(segment, _Branch())
        assert route.method not in branch.methods, f"{route.method} {route.path} stands twice"
        branch.methods[route.method] = route
        if "{" not in route.path:
            self._exact[route.path] = (branch.methods, _NOTHING)

    def match(self, path: str) -> Match | None:
        """(routes by method, path parameters). Raises MalformedError for a path that cannot be decoded."""
        exact = self._exact.get(path)
        if exact is not None:
            return exact
        params: dict[str, str] = {}
        branch = self._root
        segments = path.split("/")
        for at in range(1, len(segments)):
            segment = segments[at]
            below = branch.static.get(segment)
            if below is None and branch.wild is not None:
                below = branch.wild
                params[below.name] = decode(segment)
            if below is None:
                if branch.rest is None:
                    return None
                branch = branch.rest
                params[branch.name] = decode("/".join(segments[at:]))
                break
            branch = below
        return (branch.methods, params) if branch.methods else None

"""A node that has fenced itself serves nothing of its state; what says so, and what finds out why, still answers.

The node decides (rust/node/src/guard.rs); here requests are turned away, and what waits is ended.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from taskquorum.api import handlers_cluster, handlers_docs
from taskquorum.api.routing import Handler, Route
from taskquorum.node import refusal

if TYPE_CHECKING:
    from taskquorum.api.app import App

SERVED: Final[frozenset[Handler]] = frozenset(
    {
        handlers_cluster.status,
        handlers_cluster.nodes,
        handlers_cluster.stats,
        handlers_cluster.verify,
        handlers_cluster.healthz,
        handlers_cluster.readyz,
        handlers_cluster.metrics,
        handlers_docs.openapi,
        handlers_docs.docs,
    }
)
"""What a fenced node answers: its own view, never its state."""


def check(app: App, route: Route) -> None:
    """Raises UnavailableError 503 `fenced` for whatever would be answered from the state."""
    if app.node.native.is_fenced and route.handler not in SERVED:
        raise refusal(app.node.native)


def sweep(app: App) -> None:
    """Ends the polls and streams that wait at a node that has fenced itself meanwhile: to be called now and then."""
    if not app.node.native.is_fenced:
        return
    app.polls.end_all()
    for stream in list(app.streams):
        stream.end()

"""What one node process counts: its HTTP side here, its Rust threads through `Native.counters`.

One registry a process, rendered for Prometheus and, in short, for `/coordination/stats`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.gc_collector import GCCollector
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from taskquorum._http import Request, Server
from taskquorum.node import Native

PREFIX: Final = "taskquorum_"
BOUNDS_US: Final = (
    100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 200_000, 500_000, 1_000_000, 5_000_000, 60_000_000,
)  # fmt: skip
GAUGES: Final = frozenset(
    {"commit_index", "applied_index", "lag_entries", "revision", "live_tasks", "live_agents", "peers_up", "state_hash_differs",
     "fenced", "writes_stopped", "checkpoints_held", "kept_aside"}
)  # fmt: skip
"""Of the node's plain numbers those that can fall; so can all with the beginnings and endings of `_is_gauge`."""
STAGES: Final = {
    "consensus": "commit_us", "assignment": "assignment_us", "propagation": "propagation_us", "recovery": "recovery_us",
}  # fmt: skip
"""The specification's stages and the node's histograms that measure them; each is described at `runtime::Counters`."""
PERCENTILES: Final = (0.5, 0.9, 0.99, 0.999)


class _Latency:
    """Counts by upper bound, in µs."""

    __slots__ = ("counts", "sum_us", "total")

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS_US) + 1)
        self.sum_us = 0
        self.total = 0

    def record(self, us: int) -> None:
        at = 0
        for bound in BOUNDS_US:
            if us <= bound:
                break
            at += 1
        self.counts[at] += 1
        self.sum_us += us
        self.total += 1

    def buckets(self) -> list[tuple[int | None, int]]:
        """(upper bound or None, how many are not above it)"""
        total, out = 0, []
        for bound, count in zip((*BOUNDS_US, None), self.counts, strict=True):
            total += count
            out.append((bound, total))
        return out


def percentiles(count: int, buckets: Sequence[tuple[int | None, int]], largest: int | None = None) -> dict[str, int | None]:
    """p50 … p999 as the upper bound of the bucket they fall into; None when nothing was counted. Above
    the last bound it is `largest`."""
    found: dict[str, int | None] = {}
    for share in PERCENTILES:
        name = "p" + f"{share * 100:g}".replace(".", "")
        value = largest
        if count == 0:
            value = None
        else:
            for bound, total in buckets:
                if total >= share * count:
                    value = largest if bound is None else bound if largest is None else min(bound, largest)
                    break
        found[name] = value
    return found


class Metrics(Collector):
    """The collector of one node. `server` is set once it listens."""

    def __init__(self, native: Native) -> None:
        self.server: Server | None = None
        self._native = native
        self._routes: dict[tuple[str, str], _Latency] = {}
        self._statuses: dict[tuple[str, str, int], int] = {}
        self._started = time.monotonic()
        self._last: tuple[float, Mapping[str, Any]] = (self._started, {})
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)
        ProcessCollector(registry=self._registry)
        GCCollector(registry=self._registry)

    def answered(self, request: Request) -> None:
        """Counts an answer; its time is up to the first byte. Long waits are part of it."""
        route = request.route
        name = (request.method, route.path) if route is not None else ("other", "unknown")
        key = (*name, request.status)
        self._statuses[key] = self._statuses.get(key, 0) + 1
        latency = self._routes.get(name)
        if latency is None:
            latency = self._routes[name] = _Latency()
        latency.record(int((time.monotonic() - request.started) * 1_000_000))

    def text(self) -> bytes:
        """Prometheus' text format."""
        return generate_latest(self._registry)

    def stats(self) -> dict[str, Any]:
        """Counters, rates since the call before (or the start), and percentiles, as JSON."""
        now, counters = time.monotonic(), self._counters()
        before, last = self._last
        self._last = (now, counters)
        seconds = max(now - before, 1e-3)
        numbers = {name: value for name, value in counters.items() if isinstance(value, int | float)}
        rates = {
            f"{name}_per_s": round((value - last.get(name, 0)) / seconds, 3)
            for name, value in numbers.items()
            if not _is_gauge(name)
        }
        times = {
            name: {
                "count": value["count"],
                "mean": round(value["sum"] / value["count"], 1) if value["count"] else None,
                "max": value["max"],
                **percentiles(value["count"], value["buckets"], value["max"]),
            }
            for name, value in counters.items()
            if isinstance(value, dict) and "buckets" in value
        }
        http = {
            f"{method} {path}": {"count": latency.total, **percentiles(latency.total, latency.buckets())}
            for (method, path), latency in sorted(self._routes.items())
        }
        total = numbers.get("slots_total", 0)
        utilisation = {
            "slots_total": total,
            "slots_taken": numbers.get("slots_taken", 0),
            "utilisation": round(numbers.get("slots_taken", 0) / total, 4) if total else None,
            "offered_load": round((numbers.get("slots_taken", 0) + numbers.get("slots_waited_for", 0)) / total, 4)
            if total
            else None,
        }
        stages = {stage: times.get(name) for stage, name in STAGES.items()}
        node = {"counters": numbers, "rates": rates, "interval_s": round(seconds, 3), "histograms": times}
        return {
            "latency_us": stages,
            "utilisation": utilisation,
            "node": node,
            "http": {"routes_us": http, **self._server_numbers()},
        }

    def _counters(self) -> Mapping[str, Any]:
        counters: Mapping[str, Any] = msgspec.json.decode(self._native.counters())
        return counters

    def _server_numbers(self) -> dict[str, int]:
        server = self.server
        if server is None:
            return {}
        return {
            "connections_open": server.open_connections,
            "requests": server.requests,
            "requests_refused": server.refused,
            "body_bytes_held": server.body_bytes,
            "received_bytes": server.bytes_in,
            "sent_bytes": server.bytes_out,
        }

    def collect(self) -> Iterator[Metric]:
        """Called by the registry."""
        for name, value in self._counters().items():
            metric = _family(name, value)
            if metric is not None:
                yield metric
        for name, number in self._server_numbers().items():
            kind = GaugeMetricFamily if name in ("connections_open", "body_bytes_held") else CounterMetricFamily
            yield kind(f"{PREFIX}http_{name}", name.replace("_", " "), value=number)
        answers = CounterMetricFamily(f"{PREFIX}http_answers", "Answers", labels=["method", "path", "status"])
        for (method, path, status), count in self._statuses.items():
            answers.add_metric([method, path, str(status)], count)
        yield answers
        seconds = HistogramMetricFamily(f"{PREFIX}http_answer_seconds", "Time to the answer", labels=["method", "path"])
        for (method, path), latency in self._routes.items():
            buckets = [("+Inf" if bound is None else repr(bound / 1e6), float(total)) for bound, total in latency.buckets()]
            seconds.add_metric([method, path], buckets, latency.sum_us / 1e6)
        yield seconds


def _is_gauge(name: str) -> bool:
    return name in GAUGES or name.startswith("slots_") or name.endswith(("_depth", "_bytes", "_pending"))


def _family(name: str, value: Any) -> Metric | None:
    """One of the node's counters: a number, or a histogram `{count, sum, max, buckets}`."""
    if isinstance(value, bool):
        return GaugeMetricFamily(PREFIX + name, name.replace("_", " "), value=int(value))
    if isinstance(value, int | float):
        kind = GaugeMetricFamily if _is_gauge(name) else CounterMetricFamily
        return kind(PREFIX + name, name.replace("_", " "), value=value)
    if not isinstance(value, dict) or "buckets" not in value:
        return None
    scale, base = (1e6, name.removesuffix("_us") + "_seconds") if name.endswith("_us") else (1, name)
    buckets = [("+Inf" if bound is None else repr(bound / scale), float(total)) for bound, total in value["buckets"]]
    return HistogramMetricFamily(PREFIX + base, name.replace("_", " "), buckets=buckets, sum_value=value["sum"] / scale)

"""The demo's live view: redrawn in place on a terminal, a plain line every two seconds elsewhere."""

from __future__ import annotations

import asyncio
import sys
import time
from types import TracebackType
from typing import Self

from rich.console import Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from taskquorum.cli.output import on_terminal
from taskquorum.demo.findings import Findings

REDRAW_S = 0.1
PLAIN_S = 2.0
NOTES_SHOWN = 10
STATUSES = ("blocked", "delayed", "ready", "assigned", "running", "waiting", "completed", "parked", "failed")


class Screen:
    """Shows findings until it is left."""

    def __init__(self, findings: Findings, *, quiet: bool) -> None:
        self._findings = findings
        self._quiet = quiet
        self._live = Live(auto_refresh=False) if on_terminal() and not quiet else None
        self._told = 0

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._show(final=True)
        if self._live is not None:
            self._live.stop()

    async def run(self) -> None:
        """Keeps the view fresh until cancelled."""
        last = 0.0
        while True:
            if self._live is not None or self._told < len(self._findings.notes) or time.monotonic() - last >= PLAIN_S:
                last = time.monotonic()
                self._show()
            await asyncio.sleep(REDRAW_S)

    def _show(self, *, final: bool = False) -> None:
        if self._live is not None:
            self._live.update(self._view(), refresh=True)
        elif not self._quiet:
            for at, text in self._findings.notes[self._told :]:
                sys.stdout.write(f"{at:6.1f} s  {text}\n")
            self._told = len(self._findings.notes)
            if self._findings.started_at and not final:
                sys.stdout.write(f"{'':8}  {self._line()}\n")
            sys.stdout.flush()

    def _line(self) -> str:
        findings, board = self._findings, self._findings.board
        counts = board.counts()
        shown = " ".join(f"{status} {counts[status]}" for status in STATUSES if counts[status])
        rate = f"{board.rate(time.monotonic()):.0f} tasks/s"
        return f"{board.completed}/{board.total}  {shown}  leader {findings.leader or '–'}  {rate}  write p99 {self._p99()}"

    def _p99(self) -> str:
        value = self._findings.p99_ms
        return "–" if value is None else f"{value:.1f} ms"

    def _view(self) -> RenderableType:
        findings, board = self._findings, self._findings.board
        counts = board.counts()
        table = Table.grid(padding=(0, 2))
        table.add_row(*(Text(status, "dim") for status in STATUSES))
        table.add_row(
            *(Text(str(counts[status] or "·"), "bold green" if status == "completed" else "bold") for status in STATUSES)
        )
        facts = Table.grid(padding=(0, 3))
        facts.add_row(
            Text.assemble("leader ", (findings.leader or "none", "bold cyan")),
            Text.assemble("throughput ", (f"{board.rate(time.monotonic()):.0f} tasks/s", "bold")),
            Text.assemble("write p99 ", (self._p99(), "bold")),
            Text.assemble("elapsed ", (f"{findings.elapsed():.1f} s", "bold")),
        )
        notes = [Text(f"{at:6.1f} s  {text}", "dim") for at, text in findings.notes[-NOTES_SHOWN:]]
        bar = ProgressBar(total=max(1, board.total), completed=board.completed, width=72)
        return Group(bar, table, facts, *notes)

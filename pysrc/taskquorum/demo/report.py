"""`report.html`: what the demo computed and what it survived, in one file that needs nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path
from string import Template
from typing import Any

from taskquorum.demo.findings import Findings

WIDTH, HEIGHT, MARGIN = 900, 290, 40
TOP = 76
"""Room above the chart for the marks' labels."""
POINTS_MAX = 600
"""Points of the chart's line; more completions are thinned out."""
LABEL_STEP = 14
PAIRS_SHOWN = 25

_PAGE = Template("""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>taskquorum demo</title><style>
:root{--ink:#1c2330;--soft:#66718a;--line:#dfe4ee;--good:#13795b;--bad:#b3261e;--accent:#3157d5;--paper:#fff;--ground:#f4f6fb}
@media (prefers-color-scheme:dark){:root{--ink:#e7ebf5;--soft:#97a3bd;--line:#2c3548;--good:#4cc79c;
--bad:#ff8a80;--accent:#8ea8ff;--paper:#171d2b;--ground:#0f141f}}
body{margin:0;background:var(--ground);color:var(--ink);font:15px/1.5 system-ui,sans-serif}
main{max-width:960px;margin:0 auto;padding:32px 20px}
h1{font-size:26px;margin:0 0 4px}h2{font-size:17px;margin:0 0 12px}p{margin:4px 0;color:var(--soft)}
section{background:var(--paper);border:1px solid var(--line);border-radius:10px;padding:18px 20px;margin:18px 0}
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(170px,1fr));gap:14px;margin:18px 0}
.card{background:var(--paper);border:1px solid var(--line);border-radius:10px;padding:14px 16px}
.card b{display:block;font-size:24px}.card span{color:var(--soft);font-size:13px}
.good b,.good{color:var(--good)}.bad b,.bad{color:var(--bad)}
table{border-collapse:collapse;width:100%;font-size:14px}
td,th{text-align:left;padding:4px 8px;border-bottom:1px solid var(--line)}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}code{font:13px ui-monospace,monospace}
.bar{display:inline-block;height:9px;border-radius:3px;background:var(--accent);vertical-align:middle}
svg{width:100%;height:auto}svg text{font:11px system-ui,sans-serif;fill:var(--soft)}
</style></head><body><main>
<h1>$verdict</h1><p>$intro</p>
<div class="cards">$cards</div>
<section><h2>Tasks completed over time</h2>$chart</section>
<section><h2>Who did the work</h2>$agents</section>
<section><h2>The most telling terms</h2>$terms</section>
<section><h2>The most similar files</h2>$pairs</section>
<section><h2>The most repetitive files</h2>$repetitive</section>
<section><h2>What happened</h2>$notes</section>
</main></body></html>
""")


def write_report(path: Path, findings: Findings) -> None:
    """Writes the page. Raises OSError when the place cannot be written."""
    path.write_text(render(findings), encoding="utf-8")


def render(findings: Findings) -> str:
    """The page as text; everything that came from files or servers is escaped."""
    result, board = findings.result, findings.board
    verdict = "Nothing was lost, and the result is exact" if findings.passed() else "The demo did NOT pass"
    intro = (
        f"{board.total} tasks over {findings.files} files ({findings.bytes / 1e6:.1f} MB) of {findings.folder}, "
        f"by three nodes and {len(findings.agents)} agents in {findings.elapsed():.1f} s; "
        f"one process alone took {findings.local_s:.1f} s."
    )
    return _PAGE.substitute(
        verdict=f'<span class="{"good" if findings.passed() else "bad"}">{escape(verdict)}</span>',
        intro=escape(intro),
        cards="".join(_cards(findings)),
        chart=_chart(findings),
        agents=_agents(findings),
        terms=_weighted(result.get("terms", [])),
        pairs=_table(
            ("file", "file", "similarity"), [(a, b, f"{s / 10:.1f} %") for a, b, s in result.get("pairs", [])[:PAIRS_SHOWN]]
        ),
        repetitive=_table(
            ("file", "compressed to"), [(name, f"{share / 10:.1f} %") for share, name in result.get("most_repetitive", [])]
        ),
        notes=_table(("second", "event"), [(f"{at:.1f}", text) for at, text in findings.notes]),
    )


def _cards(findings: Findings) -> list[str]:
    equal = findings.different == []
    moved = sum(victim.elsewhere_at is not None for victim in findings.board.victims.values())
    p99 = findings.write_p99_ms()
    cards: list[tuple[str, str, bool | None]] = [
        (_seconds(findings.leader_recovery_s), "leader killed → next accepted write", None),
        (_seconds(findings.agent_recovery_s), f"agent killed → its {moved} tasks run elsewhere", None),
        (str(findings.lost), "tasks lost", findings.lost == 0),
        (str(findings.duplicates_refused), "late completions of the dead agent refused", findings.duplicates_accepted == 0),
        ("equal" if equal else "different", "compared with one process", equal),
        ("–" if p99 is None else f"{p99:.0f} ms", f"p99 of {len(findings.write_latencies)} writes, kills included", None),
    ]
    classes = {True: "card good", False: "card bad", None: "card"}
    return [
        f'<div class="{classes[good]}"><b>{escape(value)}</b><span>{escape(label)}</span></div>' for value, label, good in cards
    ]


def _seconds(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f} s"


def _chart(findings: Findings) -> str:
    """Completions as a line, the deaths and recoveries as marks."""
    board = findings.board
    span = max(findings.elapsed(), 0.1)
    across, down = (WIDTH - 2 * MARGIN) / span, (HEIGHT - MARGIN - TOP) / max(board.total, 1)

    def x(seconds: float) -> float:
        return MARGIN + min(max(seconds, 0.0), span) * across

    def y(count: float) -> float:
        return HEIGHT - MARGIN - count * down

    step = max(1, len(board.history) // POINTS_MAX)
    points = [(0.0, 0), *((at - findings.started_at, count) for at, count in board.history[::step])]
    if board.history:
        points.append((board.history[-1][0] - findings.started_at, board.history[-1][1]))
    line = " ".join(f"{x(at):.1f},{y(count):.1f}" for at, count in points)
    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="tasks completed over time">']
    for share in (0.0, 0.5, 1.0):
        level = y(board.total * share)
        parts.append(f'<line x1="{MARGIN}" x2="{WIDTH - MARGIN}" y1="{level:.1f}" y2="{level:.1f}" stroke="var(--line)"/>')
        parts.append(f'<text x="{MARGIN - 6}" y="{level + 4:.1f}" text-anchor="end">{round(board.total * share)}</text>')
    for number, (at, label) in enumerate(findings.marks):
        colour = "var(--bad)" if "killed" in label else "var(--good)"
        top = 6 + number * LABEL_STEP
        anchor = "end" if x(at) > WIDTH * 0.7 else "start"
        shift = -5 if anchor == "end" else 5
        parts.append(
            f'<line x1="{x(at):.1f}" x2="{x(at):.1f}" y1="{top:.1f}" y2="{HEIGHT - MARGIN}" '
            f'stroke="{colour}" stroke-dasharray="4 3"/>'
        )
        parts.append(f'<text x="{x(at) + shift:.1f}" y="{top + 8:.1f}" text-anchor="{anchor}">{escape(label)} {at:.1f} s</text>')
    parts.append(f'<polyline points="{line}" fill="none" stroke="var(--accent)" stroke-width="2.5"/>')
    parts.append(f'<text x="{WIDTH - MARGIN}" y="{HEIGHT - MARGIN + 18}" text-anchor="end">{span:.1f} s</text></svg>')
    return "".join(parts)


def _agents(findings: Findings) -> str:
    done = findings.board.by_agent
    rows = [
        (
            name + (" (killed)" if name == findings.killed_agent else ""),
            ", ".join(f"{dimension} {level}" for dimension, level in sorted(able.items())),
            done[name],
        )
        for name, able in findings.agents.items()
    ]
    return _table(("agent", "capabilities", "tasks completed"), rows)


def _weighted(terms: Sequence[Sequence[Any]]) -> str:
    largest = max((weight for _, weight in terms), default=1)
    rows = "".join(
        f'<tr><td><code>{escape(str(term))}</code></td><td style="width:70%">'
        f'<i class="bar" style="width:{100 * weight / largest:.1f}%"></i></td></tr>'
        for term, weight in terms[:20]
    )
    return f"<table>{rows}</table>"


def _table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    body = "".join("<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"

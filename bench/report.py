"""One static page of a harness run: the marks, the latency curves and the sweeps, with the pictures inside."""

import html
import io
from typing import Any

import matplotlib

matplotlib.use("svg")

from matplotlib import pyplot

_STYLE = """body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}
table{border-collapse:collapse;margin:1rem 0}td,th{padding:.25rem .8rem;border-bottom:1px solid #ddd;text-align:left}
.ok{color:#14713a}.miss{color:#b3261e;font-weight:600}svg{max-width:100%;height:auto}pre{background:#f6f6f6;padding:1rem;overflow:auto}"""


def _svg(figure: Any) -> str:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", bbox_inches="tight")
    pyplot.close(figure)
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def _curves(figures: dict[str, Any]) -> str:
    """Latency against the share of requests that took longer, both logarithmic: the tail is what shows."""
    figure, axes = pyplot.subplots(figsize=(8, 4))
    for name in ("submits", "propagation", "assignment"):
        curve = figures.get(name, {}).get("curve")
        if curve:
            axes.plot([ms for ms, _ in curve], [max(1 - share, 1e-5) for _, share in curve], label=name, drawstyle="steps-post")
    axes.set(xscale="log", yscale="log", xlabel="milliseconds", ylabel="share that took longer")
    axes.grid(True, alpha=0.3)
    if axes.get_legend_handles_labels()[1]:
        axes.legend()
    return _svg(figure)


def _sweep(points: dict[str, Any], title: str) -> str:
    figure, axes = pyplot.subplots(figsize=(6, 3))
    for quantile in ("p50_ms", "p99_ms"):
        axes.plot(
            list(points), [point.get(quantile) or float("nan") for point in points.values()], marker="o", label=quantile[:3]
        )
    axes.set(title=title, ylabel="milliseconds", yscale="log")
    axes.grid(True, alpha=0.3)
    axes.legend()
    return _svg(figure)


def _row(mark: dict[str, Any]) -> str:
    cells = (mark["figure"], mark["measured"], f"{mark['sense']} {mark['limit']}")
    state = '<td class="ok">ok</td>' if mark["pass"] else '<td class="miss">missed</td>'
    return "<tr>" + "".join(f"<td>{html.escape(str(cell))}</td>" for cell in cells) + state + "</tr>"


def render(result: dict[str, Any]) -> str:
    """The page as one HTML text without any reference outside itself."""
    figures = result["figures"]
    box = result["machine"]
    sync = figures.get("fdatasync", {})
    where = f"{result['date']} · commit {result['commit']} · {box['cpu']}, {box['cores']} cores"
    parts = [
        f"<!doctype html><html lang=en><meta charset=utf-8><title>taskquorum bench</title><style>{_STYLE}</style>",
        "<h1>taskquorum bench</h1>",
        f"<p>{html.escape(where)} · nodes and load on the same box · fdatasync alone p50 {sync.get('p50_ms')} ms, "
        f"p99 {sync.get('p99_ms')} ms</p>",
        "<table><tr><th>figure<th>measured<th>mark<th></tr>" + "".join(map(_row, result["marks"])) + "</table>",
        "<h2>Latencies</h2>" + _curves(figures),
    ]
    titles = {
        "delay": "single submits, delay added on each link between nodes",
        "voters": "single submits, number of voters",
        "live_tasks": "single submits, live tasks",
        "hot_key": "writes of one key, offered rate",
    }
    parts += [
        f"<h2>{title.capitalize()}</h2>" + _sweep(figures[name], title) for name, title in titles.items() if figures.get(name)
    ]
    rows = "".join(
        f"<tr><td>{html.escape(name)}<td>{item['box']['load_before']}<td>{item['box']['took_s']}</tr>"
        for name, item in figures.items()
        if isinstance(item, dict) and isinstance(item.get("box"), dict)
    )
    parts.append(
        "<h2>How busy the box was</h2><table><tr><th>run<th>load average before<th>seconds</tr>" + rows + "</table></html>"
    )
    return "\n".join(parts)

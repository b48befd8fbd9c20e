"""The API's own description: `/openapi.json`, and `/docs`, one page that needs no network."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from html import escape
from typing import Any, Final

import msgspec

from taskquorum.api import openapi as rendering
from taskquorum.api.call import Call
from taskquorum.model import release

_STYLE: Final = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1b1f24}"
    "h2{margin:2rem 0 .5rem;text-transform:capitalize}details{border:1px solid #d0d7de;border-radius:6px;margin:.4rem 0}"
    "summary{padding:.5rem .8rem;cursor:pointer}summary b{display:inline-block;width:4.5rem}"
    "code,pre{font:13px/1.45 ui-monospace,monospace}pre{background:#f6f8fa;padding:.8rem;overflow:auto;margin:0}"
    ".in{padding:0 .8rem .8rem}td{padding:.15rem 1rem .15rem 0;vertical-align:top}"
    "@media(prefers-color-scheme:dark){body{background:#0d1117;color:#e6edf3}pre{background:#161b22}details{border-color:#30363d}}"
)


@cache
def _document(app_routes: tuple[Any, ...]) -> bytes:
    return msgspec.json.encode(rendering.document(app_routes, release()))


def openapi(call: Call) -> None:
    """This API as OpenAPI 3.1."""
    call.json(_document(call.app.router.routes))


def docs(call: Call) -> None:
    """This API as a page."""
    page = _page(call.app.router.routes)
    policy = b"Content-Security-Policy: default-src 'none'; style-src 'unsafe-inline'\r\nX-Content-Type-Options: nosniff\r\n"
    call.answer(200, page, b"text/html; charset=utf-8", None, policy)


@cache
def _page(app_routes: tuple[Any, ...]) -> bytes:
    document = msgspec.json.decode(_document(app_routes))
    by_tag: dict[str, list[str]] = {}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            by_tag.setdefault(operation["tags"][0], []).append(_call(method, path, operation))
    sections = "".join(f"<h2>{escape(tag)}</h2>{''.join(calls)}" for tag, calls in by_tag.items())
    shapes = "".join(
        f"<details><summary><code>{escape(name)}</code></summary><div class=in>{_json(shape)}</div></details>"
        for name, shape in sorted(document["components"]["schemas"].items())
    )
    return (
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        f"<title>taskquorum API</title><style>{_STYLE}</style><h1>taskquorum API</h1>"
        f"<p>Version {escape(document['info']['version'])}, as in <code>/openapi.json</code>.</p>"
        f"{sections}<h2>Shapes</h2>{shapes}</html>"
    ).encode()


def _call(method: str, path: str, operation: Mapping[str, Any]) -> str:
    rows = "".join(
        f"<tr><td><code>{escape(item['name'])}</code></td><td>{escape(item['in'])}</td>"
        f"<td>{escape(item.get('description', ''))}</td></tr>"
        for item in operation.get("parameters", ())
    )
    table = f"<table>{rows}</table>" if rows else ""
    body = operation.get("requestBody")
    shown = {"answers": operation["responses"], **({"body": body["content"]} if body else {})}
    return (
        f"<details><summary><b>{method.upper()}</b> <code>{escape(path)}</code> — {escape(operation['summary'])}</summary>"
        f"<div class=in>{table}{_json(shown)}</div></details>"
    )


def _json(value: Any) -> str:
    return f"<pre>{escape(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())}</pre>"

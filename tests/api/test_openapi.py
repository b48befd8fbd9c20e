"""The router, OpenAPI and the docs page say the same."""

import re
from typing import Any

import pytest

from taskquorum.api.openapi import document
from taskquorum.api.routes import ROUTES
from taskquorum.api.routing import Router
from taskquorum.model import API_BASE

from .fake import Api

SEVEN = {
    ("post", "/tasks/distributed"), ("get", "/tasks/distributed/{id}"), ("get", "/cluster/status"), ("get", "/cluster/nodes"),
    ("post", "/cluster/nodes/{id}/drain"), ("get", "/coordination/stats"), ("post", "/tasks/{id}/reschedule"),
}  # fmt: skip
"""The paths of the specification: fixed."""


def operations(shown: dict[str, Any]) -> set[tuple[str, str]]:
    return {(method, path) for path, methods in shown["paths"].items() for method in methods}


async def test_every_route_is_described_and_every_description_routed(api: Api) -> None:
    shown = (await api.call("GET", "/openapi.json")).json
    assert shown["openapi"].startswith("3.1")
    described = operations(shown)
    assert described == {(route.method.lower(), re.sub(r":path", "", route.path)) for route in ROUTES}
    assert {(method, API_BASE + path) for method, path in SEVEN} <= described
    for method, path in described:
        found = api.app.router.match(path.replace("{", "").replace("}", ""))
        assert found is not None and method.upper() in found[0], path


def test_references_resolve_and_names_are_unique() -> None:
    shown = document(ROUTES, "1")
    text = repr(shown)
    for name in re.findall(r"#/components/schemas/([\w.]+)", text):
        assert name in shown["components"]["schemas"]
    identifiers = [operation["operationId"] for methods in shown["paths"].values() for operation in methods.values()]
    assert len(identifiers) == len(set(identifiers))


def test_path_parameters_are_described() -> None:
    for path, methods in document(ROUTES, "1")["paths"].items():
        for operation in methods.values():
            named = {item["name"] for item in operation.get("parameters", ()) if item["in"] == "path"}
            assert named == set(re.findall(r"\{(\w+)\}", path))


def test_fields_of_later_issues_are_absent() -> None:
    task = document(ROUTES, "1")["components"]["schemas"]["TaskSubmit"]["properties"]
    assert not {"gang", "budget", "reads", "decompose"} & set(task)


async def test_the_docs_page_needs_no_network(api: Api) -> None:
    answer = await api.call("GET", "/docs")
    page = answer.body.decode()
    assert answer.headers["content-type"].startswith("text/html")
    assert not re.search(r"(src|href)\s*=", page)
    for route in ROUTES:
        assert re.sub(":path", "", route.path) in page


@pytest.mark.parametrize(
    ("path", "params"),
    [
        ("/api/v1/state/a/b//c", {"key": "a/b//c"}),
        ("/api/v1/agents/a%2Fb/drain", {"id": "a/b"}),
        ("/api/v1/agents/distributed", {"id": "distributed"}),
        ("/api/v1/tasks/distributed/x", {"id": "x"}),
        ("/api/v1/tasks/x/result", {"id": "x"}),
        ("/api/v1/tasks/x", None),
        ("/api/v1/agents/", {"id": ""}),
        ("/api/v1", None),
        ("/", None),
        ("//api/v1/agents", None),
    ],
)
def test_matching(path: str, params: dict[str, str] | None) -> None:
    found = Router(ROUTES).match(path)
    assert (None if found is None else found[1]) == params

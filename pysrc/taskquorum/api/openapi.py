"""OpenAPI 3.1 from the route table and the structs: there is no second description to go stale."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from taskquorum.api.answers import Problem
from taskquorum.api.routing import OneOf, Route

_REF: Final = "#/components/schemas/{name}"
_PARAMETER = re.compile(r"\{(\w+)(:path)?\}")
_STATUS: Final = {200: "Done", 201: "Created", 202: "Accepted"}


def document(routes: Sequence[Route], version: str) -> dict[str, Any]:
    """The whole document."""
    types = _types(routes)
    schemas, components = msgspec.json.schema_components(types, ref_template=_REF)
    by_type = {_key(kind): schema for kind, schema in zip(types, schemas, strict=True)}
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        path = _PARAMETER.sub(r"{\1}", route.path)
        paths.setdefault(path, {})[route.method.lower()] = _operation(route, by_type)
    return {
        "openapi": "3.1.0",
        "info": {"title": "taskquorum", "version": version, "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"}},
        "paths": paths,
        "components": {"schemas": components},
    }


def _types(routes: Sequence[Route]) -> list[Any]:
    found: dict[str, Any] = {_key(Problem): Problem}
    for route in routes:
        for shape in (*route.answers.values(), route.body):
            if shape is not None and not isinstance(shape, str):
                for kind in shape.types if isinstance(shape, OneOf) else (shape,):
                    found[_key(kind)] = kind
    return list(found.values())


def _key(kind: Any) -> str:
    return repr(kind)


def _schema(shape: Any, schemas: Mapping[str, Any]) -> Any:
    if not isinstance(shape, OneOf):
        return schemas[_key(shape)]
    single = [schemas[_key(kind)] for kind in shape.types]
    return {"anyOf": [*single, {"type": "array", "items": {"anyOf": single}}] if shape.array else single}


def _operation(route: Route, schemas: Mapping[str, Any]) -> dict[str, Any]:
    words = re.sub(r"[^a-z0-9]+", "_", _PARAMETER.sub(r"\1", route.path).lower()).strip("_")
    operation: dict[str, Any] = {
        "operationId": f"{route.method.lower()}_{words}",
        "summary": route.summary,
        "tags": [route.tag],
        "responses": _answers(route, schemas),
    }
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name, _ in _PARAMETER.findall(route.path)
    ]
    for query in route.query.values():
        parameter: dict[str, Any] = {"name": query.name, "in": "query", "required": False, "schema": dict(query.schema)}
        if query.schema.get("type") == "array":
            parameter |= {"style": "form", "explode": False}
        if query.description:
            parameter["description"] = query.description
        parameters.append(parameter)
    for name, description in route.headers.items():
        parameters.append(
            {"name": name, "in": "header", "required": False, "schema": {"type": "string"}, "description": description}
        )
    if parameters:
        operation["parameters"] = parameters
    if route.body is not None:
        content = {"application/json": {"schema": _schema(route.body, schemas)}}
        if route.ndjson:
            content["application/x-ndjson"] = {"schema": {"type": "string"}}
        operation["requestBody"] = {"required": route.body_required, "content": content}
    return operation


def _answers(route: Route, schemas: Mapping[str, Any]) -> dict[str, Any]:
    answers: dict[str, Any] = {}
    for status, answer in route.answers.items():
        if isinstance(answer, str):
            content = {answer: {"schema": {"type": "string"}}}
        else:
            content = {"application/json": {"schema": _schema(answer, schemas)}}
        answers[str(status)] = {"description": _STATUS[status], "content": content}
    answers["default"] = {
        "description": "Refused: a problem document (RFC 9457)",
        "content": {"application/problem+json": {"schema": schemas[_key(Problem)]}},
    }
    return answers

"""Query parameters: each route names its own, any other is refused.

A parameter is checked by its kind, and so described in OpenAPI by the same object.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from urllib.parse import unquote_to_bytes

from taskquorum.api.problems import NOT_AVAILABLE, not_available
from taskquorum.api.wire import wall_us
from taskquorum.errors import InvalidError, MalformedError
from taskquorum.model import LIST_LIMIT_MAX, STATUSES, WAIT_MS_MAX, is_uuid

QUERY_FIELDS_MAX: Final = 32


@dataclass(frozen=True, slots=True)
class Query:
    """One parameter. `parse` raises ValueError with the reason."""

    name: str
    parse: Callable[[str], Any]
    schema: Mapping[str, Any]
    description: str = ""


def integer(name: str, low: int, high: int, description: str = "") -> Query:
    def parse(text: str) -> int:
        if not (text.isascii() and text.isdigit()) or len(text) > 19 or not low <= int(text) <= high:
            raise ValueError(f"an integer from {low} to {high}")
        return int(text)

    return Query(name, parse, {"type": "integer", "minimum": low, "maximum": high}, description)


def boolean(name: str, description: str = "") -> Query:
    def parse(text: str) -> bool:
        if text not in ("true", "false", "1", "0"):
            raise ValueError("true or false")
        return text in ("true", "1")

    return Query(name, parse, {"type": "boolean"}, description)


def text(name: str, length_max: int, description: str = "") -> Query:
    def parse(value: str) -> str:
        if not 0 < len(value) <= length_max:
            raise ValueError(f"1 to {length_max} characters")
        return value

    return Query(name, parse, {"type": "string", "minLength": 1, "maxLength": length_max}, description)


def choice(name: str, choices: Sequence[str], description: str = "") -> Query:
    def parse(value: str) -> str:
        if value not in choices:
            raise ValueError("one of " + ", ".join(choices))
        return value

    return Query(name, parse, {"type": "string", "enum": list(choices)}, description)


def choices(name: str, allowed: Sequence[str], description: str = "") -> Query:
    """Several of a few words, with commas between."""

    def parse(value: str) -> frozenset[str]:
        words = frozenset(value.split(","))
        if not words <= set(allowed):
            raise ValueError("words out of " + ", ".join(allowed) + ", with commas between")
        return words

    schema = {"type": "array", "items": {"type": "string", "enum": list(allowed)}}
    return Query(name, parse, schema, description)


def _uuid(value: str) -> str:
    if not is_uuid(value):
        raise ValueError("a UUID")
    return value.lower()


def uuid(name: str, description: str = "") -> Query:
    return Query(name, _uuid, {"type": "string", "format": "uuid"}, description)


def _label(value: str) -> tuple[str, str]:
    key, found, wanted = value.partition("=")
    if not found or not key or len(value) > 511:
        raise ValueError("key=value")
    return key, wanted


def _moment(value: str) -> int:
    try:
        moment = datetime.fromisoformat(value.replace("Z", "+00:00").replace(" ", "+"))
    except ValueError:
        raise ValueError("an RFC 3339 time") from None
    if moment.tzinfo is None:
        raise ValueError("an RFC 3339 time with a time zone")
    return wall_us(moment)


CONSISTENCY: Final = choice("consistency", ("linearizable", "local"), "`local` answers from this node's applied state.")
WAIT_MS: Final = integer("wait_ms", 0, WAIT_MS_MAX, "Longest wait, in milliseconds.")
UNTIL: Final = choice("until", STATUSES, "Status to wait for; any end ends the wait too.")
LIMIT: Final = integer("limit", 1, LIST_LIMIT_MAX, "Items of a page, 100 by default.")
CURSOR: Final = text("cursor", 2048, "`next_cursor` of the page before.")
COUNT: Final = boolean("count", "Also count all that match.")
TENANT: Final = text("tenant", 255, "`default` by default.")
LABEL: Final = Query("label", _label, {"type": "string", "pattern": "^[^=]+=.*$"}, "key=value")
CREATED_AFTER: Final = Query("created_after", _moment, {"type": "string", "format": "date-time"}, "Only what was created later.")


def parse(query: str, known: Mapping[str, Query]) -> dict[str, Any]:
    """The parameters of a query string.

    Raises InvalidError for one that is unknown, stands twice or has a bad value, MalformedError when
    it is not UTF-8 or holds a NUL.
    """
    values: dict[str, Any] = {}
    pairs = query.split("&")
    if len(pairs) > QUERY_FIELDS_MAX:
        raise InvalidError(f"at most {QUERY_FIELDS_MAX} parameters", code="too_many_parameters")
    for pair in pairs:
        if not pair:
            continue
        name, _, raw = pair.partition("=")
        name, value = decode(name, plus=True), decode(raw, plus=True)
        parameter = known.get(name)
        if parameter is None:
            if name in NOT_AVAILABLE:
                raise not_available(name)
            raise InvalidError(f"unknown parameter {name[:100]!r}", code="unknown_parameter", field=name[:100])
        if name in values:
            raise InvalidError("the parameter stands twice", field=name)
        try:
            values[name] = parameter.parse(value)
        except ValueError as error:
            raise InvalidError(f"expected {error}", field=name) from error
    return values


def decode(raw: str, *, plus: bool = False) -> str:
    """Percent-decodes a part of the target. Raises MalformedError: not UTF-8, or a NUL."""
    if plus:
        raw = raw.replace("+", " ")
    if "%" not in raw:
        return raw
    try:
        decoded = unquote_to_bytes(raw).decode()
    except UnicodeDecodeError:
        raise MalformedError("the request target is not UTF-8") from None
    if "\0" in decoded:
        raise MalformedError("the request target holds a NUL character", code="nul_character")
    return decoded

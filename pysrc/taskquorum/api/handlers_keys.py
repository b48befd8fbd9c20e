"""Replicated keys: one JSON value each, with conditions on the revision."""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

from taskquorum.api import wire
from taskquorum.api.call import Call
from taskquorum.api.normalize import DEFAULT_TENANT
from taskquorum.api.schema import KeyPut
from taskquorum.errors import InvalidError, NotFoundError, ProblemError
from taskquorum.model import PAYLOAD_BYTES_MAX
from taskquorum.node import Outcome

KEY_LENGTH_MAX: Final = 512

_put: Final = msgspec.json.Decoder(KeyPut)
_ETAG: Final = re.compile(r'"(\d{1,19})"')


def _condition(call: Call) -> dict[str, Any] | None:
    """What the headers demand of the key."""
    match, none_match = call.request.headers.get("if-match"), call.request.headers.get("if-none-match")
    if match is not None and none_match is not None:
        raise InvalidError("only one of If-Match and If-None-Match", field="If-None-Match")
    if none_match is not None:
        if none_match.strip() != "*":
            raise InvalidError("only If-None-Match: *", field="If-None-Match")
        return {"absent": True}
    if match is None:
        return None
    found = _ETAG.fullmatch(match.strip())
    if found is None or int(found.group(1)) >= 1 << 63:
        raise InvalidError('only one revision in quotes, as in If-Match: "7"', field="If-Match")
    return {"revision": int(found.group(1))}


def _command(call: Call, name: str, **more: Any) -> tuple[str, bytes]:
    key = call.name("key", KEY_LENGTH_MAX)
    fields = {"tenant": call.query.get("tenant", DEFAULT_TENANT), "key": key, **more}
    condition = _condition(call)
    if condition is not None:
        fields["condition"] = condition
    return key, wire.command(name, fields)


def put(call: Call) -> None:
    """Writes a key."""
    body = call.decode(_put)
    if len(bytes(body.value)) > PAYLOAD_BYTES_MAX:
        raise ProblemError(f"at most {PAYLOAD_BYTES_MAX} bytes", status=413, code="payload_too_large", field="/value")
    key, command = _command(call, "put_key", value=body.value)

    def applied(outcome: Outcome) -> None:
        shown = {
            "key": key,
            "revision": outcome.key_revision,
            "create_revision": outcome.create_revision,
            "version": outcome.key_version,
        }
        status = 201 if outcome.key_version == 1 else 200
        call.object(shown, outcome.revision, status, b'ETag: "%d"\r\n' % outcome.key_revision)

    call.propose(command, applied)


def delete(call: Call) -> None:
    """Deletes a key."""
    key, command = _command(call, "delete_key")

    def applied(outcome: Outcome) -> None:
        call.object({"key": key, "revision": outcome.revision}, outcome.revision)

    call.propose(command, applied)


def get(call: Call) -> None:
    """The key's value, with its revision as entity tag."""
    key = call.name("key", KEY_LENGTH_MAX)
    tenant = call.query.get("tenant", DEFAULT_TENANT)

    def show() -> None:
        revision, text, key_revision = call.app.node.native.key(tenant, key)
        if text is None:
            raise NotFoundError("there is no such key", field="key", revision=revision)
        call.json(text, revision, 200, b'ETag: "%d"\r\n' % key_revision)

    call.read(show)

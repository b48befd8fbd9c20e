"""Just enough of our on-disk encoding to look into a stopped node's files (rust/codec).

Frames are `length u32 LE, kind u8, version u8, 2 zero bytes, CRC32C u32 LE, payload`; rows of the
state store are a version byte and a message; messages are protobuf. Nothing here is used to serve.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping

HEADER_BYTES = 12
VERSION = 1
Field = int | bytes
"""Varints and fixed widths as int, length-delimited as bytes."""


class Undecodable(ValueError):
    """Bytes that are not what they should be: damage, or a newer release."""


def frame_payload(raw: bytes) -> bytes:
    """The payload of a buffer that is one frame. Checksums are the node's business at start."""
    if len(raw) < HEADER_BYTES:
        raise Undecodable(f"a frame of {len(raw)} bytes")
    length, _, version = struct.unpack_from("<IBB", raw)
    if version != VERSION:
        raise Undecodable(f"frame version {version}, this release reads {VERSION}")
    if len(raw) != HEADER_BYTES + length:
        raise Undecodable(f"a frame of {len(raw)} bytes says {length} and a header")
    return raw[HEADER_BYTES:]


def row_payload(raw: bytes) -> bytes:
    """The message of a row of the state store."""
    if not raw or raw[0] != VERSION:
        raise Undecodable(f"row version {raw[:1].hex() or 'none'}, this release reads {VERSION:02x}")
    return raw[1:]


def varint(raw: bytes, at: int) -> tuple[int, int]:
    """The number at `at` and the offset behind it."""
    value, shift = 0, 0
    while True:
        if at >= len(raw) or shift > 63:
            raise Undecodable("a cut varint")
        byte = raw[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


def fields(raw: bytes) -> Iterator[tuple[int, Field]]:
    """(tag, value) of a message in the order they are stored."""
    at = 0
    while at < len(raw):
        head, at = varint(raw, at)
        tag, kind = head >> 3, head & 7
        if kind == 0:
            value: Field
            value, at = varint(raw, at)
        elif kind == 2:
            length, at = varint(raw, at)
            value, at = raw[at : at + length], at + length
        elif kind in (1, 5):
            width = 8 if kind == 1 else 4
            value, at = int.from_bytes(raw[at : at + width], "little"), at + width
        else:
            raise Undecodable(f"wire type {kind}")
        if at > len(raw):
            raise Undecodable("a cut field")
        yield tag, value


def message(raw: bytes) -> Mapping[int, list[Field]]:
    """All values of a message by tag."""
    found: dict[int, list[Field]] = {}
    for tag, value in fields(raw):
        found.setdefault(tag, []).append(value)
    return found


def number(found: Mapping[int, list[Field]], tag: int) -> int:
    """The last number under a tag, 0 when absent."""
    value = found.get(tag, [0])[-1]
    return value if isinstance(value, int) else 0


def blob(found: Mapping[int, list[Field]], tag: int) -> bytes:
    """The last bytes under a tag, empty when absent."""
    value = found.get(tag, [b""])[-1]
    return value if isinstance(value, bytes) else b""


def numbers(found: Mapping[int, list[Field]], tag: int, *, width: int = 0) -> list[int]:
    """A repeated number, packed or not; `width` is 8 for fixed64, 0 for varints."""
    values: list[int] = []
    for value in found.get(tag, []):
        if isinstance(value, int):
            values.append(value)
        elif width:
            values += [int.from_bytes(value[at : at + width], "little") for at in range(0, len(value), width)]
        else:
            at = 0
            while at < len(value):
                item, at = varint(value, at)
                values.append(item)
    return values

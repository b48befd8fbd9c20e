"""Commands as they cross into Rust: one JSON object each (`rust/native/src/wire.rs`).

Users' JSON goes in as `msgspec.Raw`, byte for byte.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

_encode: Final = msgspec.json.Encoder().encode
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def command(name: str, fields: Mapping[str, Any]) -> bytes:
    """One externally tagged command."""
    return _encode({name: fields})


def wall_us(moment: datetime) -> int:
    """Microseconds since 1970; moments before are 0."""
    delta = moment - _EPOCH
    return max(0, (delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds)


def basis_points(level: float) -> int:
    """A level 0..1 in 1/10,000."""
    return round(level * 10_000)

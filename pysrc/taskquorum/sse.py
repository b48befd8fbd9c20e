"""Server-sent events, bytes in and messages out (WHATWG HTML §9.2), without any I/O."""

from __future__ import annotations

from dataclasses import dataclass

MESSAGE_BYTES_MAX = 16 << 20
"""A larger message is refused with ValueError: the server's are bounded far below."""


@dataclass(frozen=True, slots=True)
class SseMessage:
    """One message; `id` is None when it carried none, `data` is its lines joined."""

    id: str | None
    data: str


class SseParser:
    """Feed it bytes as they come; it returns the messages that became whole."""

    def __init__(self) -> None:
        self._rest = b""
        self._id: str | None = None
        self._data: list[str] = []

    def feed(self, chunk: bytes) -> list[SseMessage]:
        """Takes any cut of the stream. Raises ValueError for a message over the limit."""
        lines = (self._rest + chunk).split(b"\n")
        self._rest = lines.pop()
        if len(self._rest) + sum(map(len, self._data)) > MESSAGE_BYTES_MAX:
            raise ValueError(f"a message is over {MESSAGE_BYTES_MAX} bytes")
        messages = []
        for raw in lines:
            line = raw.removesuffix(b"\r").decode()
            if line:
                self._field(line)
            elif self._id is not None or self._data:
                messages.append(SseMessage(self._id, "\n".join(self._data)))
                self._id, self._data = None, []
        return messages

    def _field(self, line: str) -> None:
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "id":
            self._id = value
        elif name == "data":
            self._data.append(value)

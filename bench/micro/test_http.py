"""The HTTP codec: request bytes in, answer bytes out, without a socket; and the checks of a body."""

import time

import pytest

from taskquorum._http import Limits, Server, scan_json

BODY = b'{"task_type":"summarize","task_data":{"text":"' + b"x" * 400 + b'"},"priority":3,"labels":{"team":"a"}}'
HEAD = (
    b"POST /api/v1/tasks/distributed?wait_ms=0 HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: bench\r\n"
    b"Accept: application/json\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(BODY)
)


class Sink:
    """A transport that keeps nothing."""

    def __init__(self) -> None:
        self.written = 0

    def write(self, data: bytes) -> None:
        self.written += len(data)

    def writelines(self, pieces) -> None:
        self.written += sum(map(len, pieces))

    def get_extra_info(self, name: str, default: object = None) -> object:
        return default

    def is_closing(self) -> bool:
        return False

    def close(self) -> None: ...
    def abort(self) -> None: ...
    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...
    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...


def test_parse_and_answer(benchmark) -> None:
    answered = []

    def dispatch(request) -> None:
        answered.append(len(request.body))
        request.answer(202, b'{"id":"01a20e80-d343-7019-b054-2546c17215b4","status":"ready","revision":7}')

    server = Server(lambda _: 1 << 20, dispatch, lambda status, code, detail: b"{}", time.monotonic, Limits())
    protocol = server.protocol()
    sink = Sink()
    protocol.connection_made(sink)
    benchmark(protocol.data_received, HEAD + BODY)
    assert answered and set(answered) == {len(BODY)}
    assert sink.written > 0


@pytest.mark.parametrize("size", [500, 1 << 20])
def test_scan_a_body(benchmark, size: int) -> None:
    text = b'{"a":"' + b"x" * size + b'"}'
    assert benchmark(scan_json, text, 64) == 0

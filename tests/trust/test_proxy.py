"""The frame proxy: streams are cut into frames as they were written, and each trouble does what it says to whole frames."""

import random
import socket
import struct
import threading

import pytest
from trust.proxy import CALM, FrameCutter, FrameProxy, Trouble, Troubler


def frame(number: int, size: int = 20) -> bytes:
    """A frame whose payload tells its number."""
    payload = struct.pack("<I", number) * (size // 4)
    return struct.pack("<I", len(payload)) + bytes(8) + payload


def number(seen: bytes) -> int:
    return int(struct.unpack_from("<I", seen, 12)[0])


def test_a_stream_is_cut_into_its_frames_however_it_arrives() -> None:
    frames = [frame(at, size) for at, size in enumerate([0, 4, 400, 0, 40_000, 8])]
    stream, choice = b"".join(frames), random.Random(1)
    for _ in range(50):
        cutter, got, at = FrameCutter(), [], 0
        while at < len(stream):
            step = choice.choice([1, 5, 13, 900, 50_000])
            got += cutter.feed(stream[at : at + step])
            at += step
        assert got == frames


def through(trouble: Trouble, count: int = 1000) -> list[bytes]:
    troubler = Troubler(7)
    passed = [out for at in range(count) for out in troubler.pass_on(frame(at), trouble)]
    return passed + troubler.release()


def test_each_trouble() -> None:
    sent = [frame(at) for at in range(1000)]
    assert through(CALM) == sent
    lost = through(Trouble(lose=0.1))
    assert 850 < len(lost) < 950 and [number(seen) for seen in lost] == sorted({number(seen) for seen in lost})
    doubled = through(Trouble(double=0.1))
    assert 1050 < len(doubled) < 1150 and set(doubled) == set(sent)
    swapped = through(Trouble(swap=0.2))
    assert sorted(swapped) == sorted(sent) and swapped != sent
    places = [number(seen) - at for at, seen in enumerate(swapped)]
    assert set(places) == {-1, 0, 1}, "only neighbours change places"
    damaged = through(Trouble(damage=0.1))
    assert 50 < sum(seen not in sent for seen in damaged) < 150 and len(damaged) == 1000


def test_the_hello_of_a_stream_is_spared() -> None:
    assert through(Trouble(lose=1.0)) == [frame(0)]


@pytest.mark.parametrize("trouble", [CALM, Trouble(delay_ms=(0, 3), swap=0.3, double=0.3)])
def test_what_goes_through_real_sockets(trouble: Trouble) -> None:
    """50 frames through the proxy: all of them arrive, also the last one that waited to be swapped."""
    listener = socket.create_server(("127.0.0.1", 0))
    proxy = FrameProxy(3)
    proxy.trouble = trouble
    sender = socket.create_connection(("127.0.0.1", proxy.front(listener.getsockname()[1])), timeout=10)
    receiver, _ = listener.accept()
    receiver.settimeout(10)
    threading.Thread(target=lambda: [sender.sendall(frame(at)) for at in range(50)]).start()
    cutter, seen = FrameCutter(), set()
    while len(seen) < 50:
        seen |= {number(got) for got in cutter.feed(receiver.recv(1 << 16))}
    assert seen == set(range(50))
    for end in (sender, receiver, listener):
        end.close()
    proxy.close()

"""Namespaces: a cut cuts what it says, in the direction it says, and nothing is left behind."""

import subprocess
import sys
from collections.abc import Iterator

import pytest
from trust.netns import Namespaces
from trust.suite import Skip

from trust import netns

# Answers each datagram to port 26900 with "heard", and says on its standard output who was heard.
ECHO = """
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(("", 26900)); print("up", flush=True)
while True:
    data, sender = s.recvfrom(100); print(data.decode(), flush=True); s.sendto(b"heard", sender)
"""
ASK = """
import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(float(sys.argv[3])); s.sendto(sys.argv[2].encode(), (sys.argv[1], 26900))
try: print(s.recv(100).decode())
except TimeoutError: print("nothing")
"""  # noqa: E501


@pytest.fixture(scope="module")
def pair() -> Iterator[tuple[Namespaces, "subprocess.Popen[str]"]]:
    try:
        netns.need()
    except Skip as skip:
        pytest.skip(str(skip))
    with Namespaces(["a", "b"]) as network:
        listener = subprocess.Popen(
            [*network.inside("b"), sys.executable, "-c", ECHO], stdout=subprocess.PIPE, text=True, bufsize=1
        )
        assert listener.stdout is not None
        assert listener.stdout.readline() == "up\n"
        try:
            yield network, listener
        finally:
            listener.kill()
            listener.wait(10)
    listed = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True).stdout
    assert network.switch not in listed and network.namespace("a") not in listed


def ask(command: list[str], address: str, text: str, timeout_s: float) -> str:
    asked = subprocess.run([*command, sys.executable, "-c", ASK, address, text, str(timeout_s)], capture_output=True, text=True)
    return asked.stdout.strip()


def test_cuts(pair: tuple[Namespaces, "subprocess.Popen[str]"]) -> None:
    """a asks b: answered; b's packets to a are cut: heard, not answered; a's to b too: not heard; the management link is
    never cut; mended: answered."""
    network, listener = pair
    assert listener.stdout is not None
    a, b = network.inside("a"), network.address("b")
    assert ask(a, b, "one", 10) == "heard"
    network.cut({("b", "a")})
    assert ask(a, b, "two", 0.3) == "nothing"
    network.cut({("b", "a"), ("a", "b")})
    assert ask(a, b, "three", 0.3) == "nothing"
    assert ask([], network.management("b"), "from the suite", 10) == "heard"
    network.cut(())
    assert ask(a, b, "four", 10) == "heard"
    heard = [listener.stdout.readline().strip() for _ in range(4)]
    assert heard == ["one", "two", "from the suite", "four"]


def test_losing_some_packets(pair: tuple[Namespaces, "subprocess.Popen[str]"]) -> None:
    """Half of the packets get lost: of 40 questions some are answered, some are not."""
    network, _ = pair
    network.cut({("b", "a")}, loss_percent=50)
    answers = [ask(network.inside("a"), network.address("b"), "x", 0.05 if turn else 1.0) for turn in range(24)]
    network.cut(())
    assert {"heard", "nothing"} == set(answers)

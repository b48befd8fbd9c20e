"""Child processes that cannot outlive their parent, and free ports for them."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import sys

PARENT_VARIABLE = "TASKQUORUM_PARENT_PID"
"""Set by a supervisor in its children's environment: they end when that process does."""
_PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """Has the kernel send SIGTERM to this process when its supervisor dies, however that happens.

    Does nothing without `TASKQUORUM_PARENT_PID` or outside Linux. Call it early: exits at once when
    the parent is gone already.
    """
    parent = os.environ.get(PARENT_VARIABLE)
    if not parent or sys.platform != "linux":
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != int(parent):
        sys.exit(1)


def child_environment() -> dict[str, str]:
    """This process's environment for a child that must end with it."""
    return {**os.environ, PARENT_VARIABLE: str(os.getpid()), "PYTHONUNBUFFERED": "1"}


def free_ports(count: int, preferred: int | None = None, host: str = "127.0.0.1") -> list[int]:
    """`count` ports that were free just now: from `preferred` upwards where those are, else any."""
    with contextlib.ExitStack() as stack:
        ports = []
        for offset in range(count):
            sock = stack.enter_context(socket.socket())
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                sock.bind((host, 0 if preferred is None else preferred + offset))
            except OSError:
                sock.bind((host, 0))
            ports.append(int(sock.getsockname()[1]))
        return ports

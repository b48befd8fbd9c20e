"""Lossy disks: mounts of rust/lossyfs, one a node, that forget what was not synced, fail or are slow on command."""

import os
import socket
import subprocess
from pathlib import Path
from types import TracebackType

from trust.suite import Skip

LOSSES = ("clear", "torn_op", "torn_sequence")
# For one command: a loss of a large disk copies all of it.
ANSWER_S = 60.0


def binary() -> Path:
    """The built file system. Raises [`Skip`] where it is not built or FUSE is missing."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "taskquorum"
    path = Path(os.environ.get("TASKQUORUM_LOSSYFS") or cache / "target-lossyfs" / "release" / "lossyfs")
    if not path.exists():
        raise Skip(f"the lossy file system is not built ({path}): make lossyfs")
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        raise Skip("/dev/fuse cannot be opened: the kernel has no FUSE, or this user may not mount")
    return path


class LossyDisk:
    """One mount; use it as a context manager. Its process ends with this one."""

    def __init__(self, directory: Path) -> None:
        """`directory` is made; the mount is `directory/mount`."""
        self.root = directory / "mount"
        self.root.mkdir(parents=True)
        self._socket = directory / "control"
        self._binary = binary()
        self._log = directory / "lossyfs.log"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "LossyDisk":
        command = [str(self._binary), str(self.root), "--control", str(self._socket)]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log)
        assert self._process.stdout is not None
        if self._process.stdout.readline() != b"ready\n":
            self._process.wait(10)
            raise RuntimeError(f"the lossy file system did not mount: {self._log.read_text()}")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        assert self._process is not None and self._process.stdout is not None
        # Nobody may wait for a frozen disk any more when it is unmounted.
        self.obey("kill")
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(10)
            subprocess.run(["umount", "-l", str(self.root)], check=False, stderr=subprocess.DEVNULL)
        self._process.stdout.close()

    def obey(self, command: str) -> dict[str, int]:
        """Carries out a command of rust/lossyfs/src/control.rs; the numbers of its answer. Raises RuntimeError."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(ANSWER_S)
            connection.connect(str(self._socket))
            connection.sendall(command.encode() + b"\n")
            line = connection.makefile().readline()
        kind, _, rest = line.strip().partition(" ")
        if kind != "ok":
            raise RuntimeError(f"lossyfs: {command}: {line.strip() or 'no answer'}")
        return {name: int(value) for name, _, value in (word.partition("=") for word in rest.split())}

    def rule(self, operation: str, action: str, path: str = "", skip: int = 0, count: int | None = None) -> None:
        """Adds a rule (rust/lossyfs/src/rules.rs)."""
        words = ["rule", operation, action, f"skip={skip}"]
        words += [f"path={path}"] if path else []
        words += [f"count={count}"] if count is not None else []
        self.obey(" ".join(words))

    def wait_frozen(self, timeout_s: float) -> bool:
        """Whether a rule froze the disk in time."""
        return self.obey(f"wait-frozen {round(timeout_s * 1000)}")["frozen"] == 1

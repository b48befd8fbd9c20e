"""Backups as files: fetched from a running cluster, checked, and restored into new data directories.

What always holds: a file with the name asked for is whole, checked and on the disk; until then it has another name, and what
is left of a failed attempt is deleted.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import aiohttp
import orjson

from taskquorum import _native
from taskquorum.errors import ProblemError, ServerUnreachableError, TaskquorumError
from taskquorum.link import API, Link, may_repeat, parse_problem

PIECE_BYTES: Final = 1 << 20
SILENCE_S: Final = 600.0
"""Making the copy and adding it up comes before the first byte; a large state takes minutes."""


class BackupFailedError(TaskquorumError):
    """A backup was not made, or a file of one is not taken; the text says why."""


async def save_backup(servers: str | list[str] | tuple[str, ...], path: Path) -> Mapping[str, Any]:
    """Writes a backup of the cluster to the new file `path`, and returns its manifest. Raises TaskquorumError or OSError."""
    if path.exists():
        raise BackupFailedError(f"{path} exists: a backup is never overwritten")
    draft = path.with_name(f".{path.name}.part-{os.getpid()}")
    link = Link(servers)
    try:
        await _fetch(link, draft)
        manifest: Mapping[str, Any] = orjson.loads(_verify(draft, path))
        os.rename(draft, path)
        _sync(path.parent)
        return manifest
    finally:
        draft.unlink(missing_ok=True)
        await link.close()


async def _fetch(link: Link, draft: Path) -> None:
    """From the first server that has one."""
    failed: BaseException | None = None
    for _ in link.servers:
        server = link.server
        try:
            await _stream(link, server, draft)
            return
        except ProblemError as error:
            if not may_repeat(error, safe=True):
                raise
            failed = error
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            failed = error
        link.next_server(server)
    raise ServerUnreachableError(f"no backup from {', '.join(link.servers)} ({failed})") from failed


async def _stream(link: Link, server: str, draft: Path) -> None:
    timeout = aiohttp.ClientTimeout(total=None, sock_read=SILENCE_S)
    async with link.session().get(f"{server}{API}/cluster/backup", timeout=timeout) as response:
        if response.status != 200:
            raise parse_problem(response.status, await response.read(), response.headers.get("Retry-After"))
        with draft.open("wb") as file:
            async for piece in response.content.iter_chunked(PIECE_BYTES):
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())


def _verify(file: Path, name: Path) -> bytes:
    try:
        return _native.verify_backup(str(file))
    except _native.NativeError as error:
        raise BackupFailedError(str(error).replace(str(file), str(name))) from error


def verify_backup(path: Path) -> Mapping[str, Any]:
    """Reads a whole backup and returns its manifest. Raises BackupFailedError."""
    manifest: Mapping[str, Any] = orjson.loads(_verify(path, path))
    return manifest


def restore_backup(path: Path, data_dir: Path, node_id: str, cluster: Sequence[str] = ()) -> Mapping[str, Any]:
    """Restores a backup into the new directory of a node that has not run yet; returns the manifest.

    With `cluster`, the names of the new cluster's nodes, the node starts only with the same list. Raises BackupFailedError
    with nothing left behind.
    """
    try:
        manifest: Mapping[str, Any] = orjson.loads(_native.restore_backup(str(path), str(data_dir), node_id, list(cluster)))
    except _native.NativeError as error:
        raise BackupFailedError(str(error)) from error
    return manifest


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

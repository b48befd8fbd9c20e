"""A nearly full disk: submits are pushed back before anything is proposed."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from taskquorum.api.disk import LOOK_S, Disk

from .fake import Api


def test_below_five_percent_is_full_and_the_answer_is_kept_for_a_second(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    now, free = [0.0], [60]
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(total=1000, used=0, free=free[0]))
    disk = Disk(tmp_path, lambda: now[0])
    assert not disk.full()
    free[0] = 49
    assert not disk.full(), "looked at just now"
    now[0] += LOOK_S
    assert disk.full()
    free[0] = 50
    now[0] += LOOK_S
    assert not disk.full()


async def test_a_submit_is_refused_and_nothing_is_proposed(api: Api) -> None:
    api.app.disk_full = lambda: True
    refused = await api.call("POST", "/tasks/distributed", {"task_type": "t"})
    assert (refused.status, refused.json["code"]) == (507, "disk_full")
    assert "Retry-After" in refused.headers or "retry-after" in refused.headers
    assert api.native.proposed == []

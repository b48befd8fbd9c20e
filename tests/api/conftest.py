"""The API on a fake node, one for each test."""

from collections.abc import AsyncIterator

import pytest

from .fake import Api, serve_api


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    async with serve_api() as served:
        yield served

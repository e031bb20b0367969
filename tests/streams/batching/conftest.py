"""The topics of a test of this folder."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from tests.streams.batching.harness import Lab


@pytest_asyncio.fixture
async def lab(noida_broker: str, tmp_path: Path) -> AsyncIterator[Lab]:
    """Topics `in` and `out` on the embedded broker; a module that wants others has a `lab` of its own."""
    async with Lab(noida_broker, tmp_path) as lab:
        await lab.create("in", "out")
        yield lab

"""Fixtures of the commands."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.cli.starting_dev import StartDev
from tests.support.commands import Background
from tests.support.stack import Ports


@pytest_asyncio.fixture
async def dev(tmp_path: Path) -> AsyncIterator[StartDev]:
    """Starts `kyb-stream dev` with these arguments and settings in the environment."""
    started: list[Background] = []

    def start(*arguments: str, **env: str) -> Background:
        log = tmp_path / f"dev-{len(started)}.log"
        started.append(Background("dev", *arguments, log=log, env=env, cwd=tmp_path))
        return started[-1]

    yield start
    for process in started:
        await process.close()


@pytest.fixture
def ports() -> Ports:
    """Where the stack is to listen."""
    return Ports.free()

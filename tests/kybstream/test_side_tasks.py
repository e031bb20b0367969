from __future__ import annotations

import asyncio
from functools import partial

import pytest

from kybstream.errors import RunError, UnavailableError
from kybstream.side_tasks import side_tasks


async def _for_ever(ended: list[str]) -> None:
    try:
        await asyncio.Event().wait()
    finally:
        ended.append("task")


async def _failing(error: Exception) -> None:
    await asyncio.sleep(0)
    raise error


async def test_tasks_end_with_the_block() -> None:
    """They are cancelled, and have ended when the block is left; what the block raises is what is raised."""
    ended: list[str] = []
    async with side_tasks("sink", one=partial(_for_ever, ended)):
        await asyncio.sleep(0)
    assert ended == ["task"]

    async def failing_block() -> None:
        async with side_tasks("sink", one=partial(_for_ever, ended)):
            await _failing(KeyError())

    with pytest.raises(KeyError):
        await failing_block()
    assert ended == ["task", "task"]


async def test_a_task_that_fails_ends_the_block() -> None:
    """A bug is worded, without its text; an error of ours is raised as it is."""
    ended: list[str] = []
    with pytest.raises(RunError, match="the sink ended because its task 'two' failed with an unexpected ValueError") as bug:
        async with side_tasks("sink", one=partial(_for_ever, ended), two=partial(_failing, ValueError("secret"))):
            await asyncio.Event().wait()
    assert ended == ["task"]
    assert "secret" not in bug.value.message
    with pytest.raises(UnavailableError, match="away"):
        async with side_tasks("sink", two=partial(_failing, UnavailableError("away"))):
            await asyncio.Event().wait()


async def test_a_block_that_is_cancelled_stays_cancelled() -> None:
    """A cancellation from outside is no failure of a task."""
    entered = asyncio.Event()

    async def body() -> None:
        async with side_tasks("sink", one=partial(_for_ever, [])):
            entered.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(body())
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

from __future__ import annotations

import asyncio
from functools import partial

import pytest
import structlog

from kybstream import side_tasks as module
from kybstream.errors import RunError, UnavailableError
from kybstream.side_tasks import kept_up, side_tasks


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


async def test_a_task_that_is_kept_up_begins_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """After each failure, which is told by its kind and place and without its text, until it returns."""
    monkeypatch.setattr(module, "PAUSE_SECONDS", 0.0)
    begun = 0

    async def task() -> None:
        nonlocal begun
        begun += 1
        if begun < 3:
            await _failing(KeyError("secret") if begun == 1 else UnavailableError("secret"))

    with structlog.testing.capture_logs() as logs:
        await kept_up("ingress", "drain", task)
    assert begun == 3
    assert [(each["event"], each["task"], each["error"]) for each in logs] == [
        ("task_failed", "drain", "KeyError"),
        ("task_failed", "drain", "UnavailableError"),
    ]
    assert "secret" not in str(logs)


async def test_a_task_that_is_kept_up_can_be_cancelled() -> None:
    """It ends, and is not begun again."""
    ended: list[str] = []
    task = asyncio.create_task(kept_up("ingress", "drain", partial(_for_ever, ended)))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended == ["task"]

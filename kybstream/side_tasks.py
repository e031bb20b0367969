"""Tasks that run beside a component's own work, none of which may end unnoticed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager
from typing import Any

import structlog

from kybstream.errors import KybStreamError, RunError
from kybstream.stacks import place_of

SideTask = Callable[[], Awaitable[None]]

PAUSE_SECONDS = 5.0
"""Between the failure of a task that is kept up and its next beginning."""

_log = structlog.get_logger(__name__)


@asynccontextmanager
async def side_tasks(component: str, **tasks: SideTask) -> AsyncIterator[None]:
    """Runs the tasks while the block runs, and cancels them at its end.

    A task that raises ends the block: the block is cancelled and the task's error is raised in its place.

    Args:
        component: Whose tasks they are, for the error.
        tasks: What begins each, by name.

    Raises:
        RunError: A task failed in a way that nobody foresaw. It says where, without the text of that error, which may quote
            data.
        KybStreamError: A task raised it.
    """
    try:
        async with asyncio.TaskGroup() as group:
            started = [group.create_task(_worded(component, name, task), name=name) for name, task in tasks.items()]
            try:
                yield
            finally:
                for task in started:
                    task.cancel()
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0]  # noqa: B904 - it has its own cause; the group adds nothing


async def _worded(component: str, name: str, task: SideTask) -> None:
    try:
        await task()
    except KybStreamError:
        raise
    except Exception as error:
        kind = type(error).__name__
        raise RunError(
            f"the {component} ended because its task {name!r} failed with an unexpected {kind} at {place_of(error)}",
            hint="Please report it. Start the process again: nothing is lost.",
        ) from error


async def kept_up(component: str, name: str, task: SideTask) -> None:
    """Runs a task until it returns; begins it again after a failure that nobody foresaw. For what must not end for it.

    Each failure is told in the log by its kind and place, without its text, which may quote data.

    Args:
        component: Whose task it is, for the log.
        name: What it does, likewise.
        task: What begins it.
    """
    while True:
        try:
            return await task()
        except Exception as error:  # noqa: BLE001 - told, and tried again
            failure = {"error": type(error).__name__, "place": place_of(error), "seconds": PAUSE_SECONDS}
            _log.error("task_failed", component=component, task=name, **failure)
        await asyncio.sleep(PAUSE_SECONDS)


async def settle(tasks: Collection[asyncio.Future[Any]], seconds: float) -> None:
    """Waits for the tasks so long, then cancels those that go on. What they raise is for others to look at."""
    if not tasks:
        return
    _, pending = await asyncio.wait(tasks, timeout=seconds)
    for task in pending:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)

"""Waiting for a condition with a deadline, in place of sleeping and hoping."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import TypeVar, overload

T = TypeVar("T")

_FIRST_PAUSE_SECONDS = 0.01
_LONGEST_PAUSE_SECONDS = 0.25


@overload
async def wait_until(condition: Callable[[], Awaitable[T]], deadline_seconds: float, what: str) -> T: ...
@overload
async def wait_until(condition: Callable[[], T], deadline_seconds: float, what: str) -> T: ...
async def wait_until(condition: Callable[[], T | Awaitable[T]], deadline_seconds: float, what: str) -> T:
    """Calls `condition` until what it returns (or its awaitable does) is true, and returns that.

    Asks often at first and ever less often, at least four times a second.

    Args:
        condition: A function or a coroutine function without arguments. What it raises ends the waiting.
        deadline_seconds: Counted from the call. A condition that hangs is cut off, too.
        what: What is waited for, as in "both records are in the table".

    Raises:
        AssertionError: The condition was not true in time; the message has `what` and the last value.
    """
    pause = _FIRST_PAUSE_SECONDS
    last: object = "no value yet"
    try:
        async with asyncio.timeout(deadline_seconds) as deadline:
            while True:
                answer = condition()
                value: T = await answer if inspect.isawaitable(answer) else answer
                if value:
                    return value
                last = value
                await asyncio.sleep(pause)
                pause = min(pause * 1.5, _LONGEST_PAUSE_SECONDS)
    except TimeoutError:
        if not deadline.expired():  # the condition's own
            raise
    raise AssertionError(f"not within {deadline_seconds:g} s: {what} (last: {last!r})")

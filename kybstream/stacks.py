"""Where code is, in words that hold no values: modules, lines and functions of an error, of all threads, of all tasks."""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from types import AsyncGeneratorType, FrameType

MOST_FRAMES = 25
"""Of one stack: the innermost are kept."""

MOST_STACKS = 60
"""Of tasks: of a thousand that wait, most wait at the same place and are counted as one."""


def place_of(error: BaseException) -> str:
    """The place that raised the error: `streams.intake:77 intake`."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return "an unknown place" if trace is None else _place(trace.tb_frame, trace.tb_lineno)


def thread_stacks() -> list[str]:
    """The stack of each thread of this process, innermost call last."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    return [
        f"{names.get(ident, 'unknown')}: {_joined(_outer_frames(frame))}"
        for ident, frame in sys._current_frames().items()  # noqa: SLF001
    ]


def task_stacks(loop: asyncio.AbstractEventLoop) -> list[str]:
    """The stack of each task of the loop, innermost call last, with how many tasks are there. May be called in any thread."""
    try:
        tasks = asyncio.all_tasks(loop)
    except RuntimeError:  # the set changed under us, again and again: the loop turns, so the threads tell little less
        return []
    stacks = Counter(f"{_name(task)}: {_joined(_awaited(task.get_coro()))}" for task in tasks if not task.done())
    return [f"{count} x {stack}" for stack, count in stacks.most_common(MOST_STACKS)]


def _name(task: asyncio.Task[object]) -> str:
    # Not the task's own name: whoever made it may have put values into it.
    return str(getattr(task.get_coro(), "__qualname__", "task"))


def _awaited(awaitable: object) -> Iterator[str]:
    """The places of a suspended coroutine and of what it awaits, outermost first."""
    while awaitable is not None:
        frame = _attribute(awaitable, "frame")
        if isinstance(frame, FrameType):
            yield _place(frame, frame.f_lineno)
        awaitable = _attribute(awaitable, "await") or _attribute(awaitable, "yieldfrom") or _generator_of(awaitable)


def _attribute(awaitable: object, name: str) -> object:
    """Of a coroutine, a generator or an asynchronous generator, which name it differently."""
    return next(
        (found for prefix in ("cr_", "gi_", "ag_") if (found := getattr(awaitable, prefix + name, None)) is not None), None
    )


def _generator_of(awaitable: object) -> object:
    """The asynchronous generator whose next value is awaited: Python names it nowhere, but knows that it is referred to."""
    if type(awaitable).__name__ != "async_generator_asend":
        return None
    return next((each for each in gc.get_referents(awaitable) if isinstance(each, AsyncGeneratorType)), None)


def _outer_frames(frame: FrameType | None) -> list[str]:
    places = []
    while frame is not None:
        places.append(_place(frame, frame.f_lineno))
        frame = frame.f_back
    return places[::-1]


def _place(frame: FrameType, line: int | None) -> str:
    return f"{frame.f_globals.get('__name__', '?')}:{line} {frame.f_code.co_name}"


def _joined(places: Iterable[str]) -> str:
    return " > ".join(list(places)[-MOST_FRAMES:]) or "running, or not begun"

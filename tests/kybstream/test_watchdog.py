from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import pytest
import structlog

from kybstream.stacks import place_of, task_stacks, thread_stacks
from kybstream.watchdog import Stall, Watchdog
from tests.support.waiting import wait_until

SECRET = "Erika Mustermann"
Entries = list[structlog.typing.EventDict]


@contextmanager
def logged() -> Iterator[Entries]:
    """What is logged meanwhile, in any thread."""
    with structlog.testing.capture_logs() as entries:
        yield entries


def named(entries: Entries, event: str) -> Entries:
    """The entries of one event."""
    return [entry for entry in entries if entry["event"] == event]


class Patient:
    """Something to watch: its stall is set by hand."""

    stall: Stall | None = None

    def __init__(self, give_up_after: float = 100.0) -> None:
        self.given_up: list[Stall] = []
        self.watchdog = Watchdog(
            lambda: self.stall, give_up_after=give_up_after, give_up=self.given_up.append, look_seconds=0.01
        )


async def inner_wait(secret: str, never: asyncio.Event) -> None:
    """Waits for ever, with a value in its frame."""
    assert secret
    await never.wait()


async def outer_wait(never: asyncio.Event) -> None:
    """Waits deeper down."""
    await inner_wait(SECRET, never)


async def test_each_stall_is_logged_once_with_all_stacks() -> None:
    """Threads and tasks, by module, line and function; the next stall is logged again."""
    patient = Patient()
    tasks = [asyncio.create_task(outer_wait(asyncio.Event()), name=SECRET) for _ in range(3)]
    await asyncio.sleep(0)
    with logged() as entries:
        patient.watchdog.start()
        for expected in (1, 2):
            patient.stall = Stall(61.0, "nothing goes on")
            await wait_until(lambda count=expected: len(named(entries, "stalled")) == count, 5, "the stall is logged")  # type: ignore[misc]
            await asyncio.sleep(0.05)  # several looks later
            assert len(named(entries, "stalled")) == expected
            patient.stall = None
            await wait_until(lambda count=expected: len(named(entries, "stall_ended")) == count, 5, "its end is logged")  # type: ignore[misc]
        patient.watchdog.stop()
    entry = named(entries, "stalled")[0]
    assert (entry["seconds"], entry["reason"]) == (61.0, "nothing goes on")
    (waiting,) = [stack for stack in entry["tasks"] if "outer_wait" in stack]
    assert waiting.startswith("3 x outer_wait: tests.kybstream.test_watchdog:")
    assert " outer_wait > tests.kybstream.test_watchdog:" in waiting
    assert " inner_wait > asyncio.locks:" in waiting
    assert any(stack.startswith("watchdog: ") for stack in entry["threads"])
    assert SECRET not in repr(entries)
    assert patient.given_up == []
    for task in tasks:
        task.cancel()


async def test_a_blocked_loop_is_seen_at_its_place() -> None:
    """The thread looks while the loop cannot; the stack shows what blocks."""
    patient = Patient()
    patient.stall = Stall(61.0, "the event loop has not turned for 61 s")
    found = threading.Event()

    def block_here() -> None:
        while not found.wait(0.01):
            if named(entries, "stalled"):
                found.set()

    with logged() as entries:
        patient.watchdog.start()
        block_here()
        patient.watchdog.stop()
    main = next(stack for stack in named(entries, "stalled")[0]["threads"] if stack.startswith("MainThread: "))
    assert " block_here > " in main


async def test_it_gives_up_once_and_only_when_it_lasts() -> None:
    """A stall that ends in time costs nothing; one that does not calls for the end, once."""
    patient = Patient(give_up_after=300.0)
    with logged() as entries:
        patient.watchdog.start()
        patient.stall = Stall(299.0, "x")
        await wait_until(lambda: named(entries, "stalled"), 5, "seen")
        assert patient.given_up == []
        patient.stall = Stall(300.0, "x")
        await wait_until(lambda: patient.given_up, 5, "given up")
        await asyncio.sleep(0.05)
        patient.watchdog.stop()
    assert patient.given_up == [Stall(300.0, "x")]


def test_the_place_of_an_error_is_where_it_was_raised() -> None:
    """Not where it was caught; without its text."""

    def raise_here() -> None:
        raise ValueError(SECRET)

    with pytest.raises(ValueError, match=SECRET) as caught:
        raise_here()
    place = place_of(caught.value)
    assert place.startswith("tests.kybstream.test_watchdog:")
    assert place.endswith(" raise_here")
    assert place_of(ValueError()) == "an unknown place"


async def test_stacks_can_be_taken_at_any_time() -> None:
    """Of the running task, of generators that are awaited, and of a loop without tasks."""

    async def numbers() -> AsyncIterator[object]:
        yield await asyncio.Event().wait()

    async def read() -> None:
        async for _ in numbers():
            pass

    task = asyncio.create_task(read())
    await asyncio.sleep(0)
    assert any("read > " in stack and "numbers > " in stack for stack in task_stacks(asyncio.get_running_loop()))
    assert any("thread_stacks" in stack for stack in thread_stacks())
    task.cancel()
    other = asyncio.new_event_loop()
    assert task_stacks(other) == []
    other.close()

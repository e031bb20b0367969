"""Running a component until a signal ends it."""

from __future__ import annotations

import asyncio
import gc
import signal
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import uvloop

Component = Callable[[asyncio.Event], Awaitable[None]]


def run_component(component: Component, *, fast_loop: bool = False) -> None:
    """Runs a component; SIGINT and SIGTERM set its stop event, a second one of them ends it at once.

    Args:
        component: Runs until the event that it is given is set.
        fast_loop: On uvloop; worth it for the ingress only (docs/performance.md).
    """

    async def until_signalled() -> None:
        stop = asyncio.Event()
        with _signals(stop):
            await component(stop)

    _collect_garbage_less_often()
    factory = uvloop.new_event_loop if fast_loop else None
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(until_signalled())


def _collect_garbage_less_often() -> None:
    """Leaves what the imports made out of garbage collection, and collects after 20,000 new objects instead of 700.

    A component makes many objects that live for one request or one batch and are freed by their counts. Measured: 6 % of the
    ingress's time and 12 % of the intake's (docs/performance.md). What is in cycles is freed all the same, only later.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


@contextmanager
def _signals(stop: asyncio.Event) -> Iterator[None]:
    loop = asyncio.get_running_loop()

    def on_signal(number: signal.Signals) -> None:
        stop.set()
        # The second one takes its usual way.
        loop.remove_signal_handler(number)

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, on_signal, number)
    try:
        yield
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


@contextmanager
def ready_marker(path: Path | None) -> Iterator[Callable[[], None]]:
    """Something to call when ready, that makes the file; the file is removed before and after."""
    if path is None:
        yield lambda: None
        return
    path.unlink(missing_ok=True)
    try:
        yield path.touch
    finally:
        path.unlink(missing_ok=True)

"""The worker under observation: its liveness looked at each second, its health pages served, its watchdog awake."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

from kybstream.errors import RunError
from kybstream.health import HealthPages, serve_health
from kybstream.settings import WorkerSettings
from kybstream.watchdog import LOOK_SECONDS, Stall, Watchdog
from streams.batching import BatchApp
from streams.liveness import Liveness
from streams.metrics import WorkerMetrics

_LOOKS_A_STALL = 4
_ORDERLY_SECONDS = 10.0
"""How long a worker that gives up may take to stop in order; a blocked event loop never does."""


class StalledError(RunError):
    """Nothing went on for `worker.give_up_after_seconds`. What was not committed is processed after a restart."""


@asynccontextmanager
async def monitored(
    app: BatchApp, metrics: WorkerMetrics, settings: WorkerSettings, leave: Callable[[RunError], None] | None
) -> AsyncIterator[int | None]:
    """Watches the app while the block runs; gives the port of the health pages, if there are any.

    Args:
        app: May start and stop within the block.
        metrics: What `/metrics` shows.
        settings: When to worry, and where to say so.
        leave: Ends the process at once; is called, in another thread, when the app has stalled for too long and does not stop.
            Without it a blocked event loop is told of and left alone.

    Raises:
        RunError: The port is in use.
    """
    liveness = Liveness(stalled_after=settings.stalled_after_seconds, rebalance_seconds=app.rebalance_seconds)
    look_seconds = min(LOOK_SECONDS, settings.stalled_after_seconds / _LOOKS_A_STALL)
    loop, over = asyncio.get_running_loop(), threading.Event()

    def give_up(stall: Stall) -> None:
        error = StalledError(
            f"nothing went on for {stall.seconds:.0f} s: {stall.reason}",
            hint="the event `stalled` in the log has the stacks of all threads and tasks",
        )
        with suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(app.crash_soon, error)
        if not over.wait(_ORDERLY_SECONDS) and leave is not None:
            leave(error)

    async def look() -> None:
        while True:
            liveness.turn(app.phase(), app.progress(), app.commits() + app.recovered())
            await asyncio.sleep(look_seconds)

    def unready() -> str | None:
        phase, missing = app.phase(), app.missing_topics()
        if missing:
            return f"topic {min(missing)} does not exist"
        return None if phase == "running" else phase

    def stalled() -> str | None:
        stall = liveness.stall()
        return None if stall is None else stall.reason

    metrics.watch(app, liveness)
    pages = HealthPages(stalled, unready, metrics.render)
    async with serve_health(pages, "worker", settings.health_host, settings.health_port) as port:
        watchdog = Watchdog(
            liveness.stall, give_up_after=settings.give_up_after_seconds, give_up=give_up, look_seconds=look_seconds
        )
        looking = asyncio.create_task(look(), name="liveness")
        looking.add_done_callback(lambda done: _crash_with(app, done))
        watchdog.start()
        try:
            yield port
        finally:
            over.set()
            watchdog.stop()
            looking.cancel()
            await asyncio.gather(looking, return_exceptions=True)


def _crash_with(app: BatchApp, task: asyncio.Task[None]) -> None:
    """A look that died of a bug must not leave a worker behind that nobody looks at."""
    error = None if task.cancelled() else task.exception()
    if error is not None:
        app.crash_soon(error)

"""Running a `BatchApp` inside an event loop that is already there."""

from __future__ import annotations

import asyncio

import structlog

from kybstream.errors import KybStreamError
from streams.batching.app import BatchApp
from streams.batching.errors import StopTimeoutError, WorkerCrashedError

log = structlog.get_logger(__name__)

STOP_SECONDS = 6.0
"""How long a stop may take for one fetch, the batches that have begun and a last commit."""

CRASH_SECONDS = 2.0
"""The same after a crash, when the consumer's thread has gone and a last commit may wait for it in vain."""

CLOSE_SECONDS = 2.0
"""How long closing the connections may take after that."""

START_SECONDS = 4.0
"""How long a stop waits for services that are still starting; without recovery that takes some two seconds."""


async def run(app: BatchApp, stop: asyncio.Event, *, stop_seconds: float = STOP_SECONDS) -> None:
    """Start the app and keep it running until `stop` is set.

    A stop finishes the batches that have begun, leaves the others to be read again, and commits. Signals, logging and the
    event loop stay the caller's.

    Raises:
        KybStreamError: the app's own error, when it crashed with one.
        WorkerCrashedError: it crashed with anything else, which is chained as the cause.
        StopTimeoutError: its batches did not come to rest within `stop_seconds`; end the process, nothing is lost by it.
    """
    starting = asyncio.create_task(_start(app))
    stopping = asyncio.create_task(stop.wait())
    crashed = asyncio.create_task(_crash(app))
    try:
        # The start ends when recovery is over; a stop or a crash may come before.
        await asyncio.wait({starting, stopping, crashed}, return_when=asyncio.FIRST_COMPLETED)
        if not starting.done() or starting.exception() is None:
            await asyncio.wait({stopping, crashed}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        await _started(app, starting)
        await _stop(app, stop_seconds)
        for task in (starting, stopping, crashed):
            task.cancel()
        results = await asyncio.gather(starting, stopping, crashed, return_exceptions=True)
    failure: BaseException | None = app.crash_reason or next((r for r in results if isinstance(r, Exception)), None)
    if isinstance(failure, KybStreamError):
        raise failure
    if failure is not None:
        raise WorkerCrashedError(f"the worker crashed: {type(failure).__name__}") from failure


async def _start(app: BatchApp) -> None:
    app.finalize()
    await app.start()


async def _crash(app: BatchApp) -> None:
    await app._crashed.wait()  # noqa: SLF001 - mode's only way to wait for a crash


async def _started(app: BatchApp, starting: asyncio.Task[None]) -> None:
    """Wait until a stop can reach all services: one that is only just starting would be left behind."""
    services = asyncio.create_task(app.services_started.wait())
    await asyncio.wait({starting, services}, timeout=START_SECONDS, return_when=asyncio.FIRST_COMPLETED)
    services.cancel()


async def _stop(app: BatchApp, seconds: float) -> None:
    # Not wait_for: mode swallows cancellation while it stops its children, so waiting for that could take for ever.
    stopping = asyncio.create_task(app.stop())
    at_rest = asyncio.create_task(app.at_rest.wait())
    seconds = min(seconds, CRASH_SECONDS) if app.crashed else seconds
    await asyncio.wait({stopping, at_rest}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    at_rest.cancel()
    done, _ = await asyncio.wait({stopping}, timeout=CLOSE_SECONDS)
    app.abandon()
    if done:
        # After a crash, the last commit can find its thread gone; what made the app crash matters more than that.
        failure = None if stopping.cancelled() else stopping.exception()
        if failure is not None and app.crash_reason is None:
            raise failure
    elif app.at_rest.is_set() or app.crash_reason is not None:
        # Faust's consumer thread can wait for ever for a rebalance that the stop has cut off. All is committed by then;
        # or the app crashed, which is what the caller should hear of.
        log.warning("connections_left_open", seconds=CLOSE_SECONDS)
    else:
        log.error("worker_stop_timed_out", seconds=seconds)
        raise StopTimeoutError(f"the worker did not stop within {seconds:g} seconds", hint="end the process")

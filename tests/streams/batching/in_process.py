"""An app with one agent inside the test's own process, and what its table holds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from streams.batching import (
    BatchApp,
    BatchResult,
    BatchTable,
    Due,
    Process,
    Record,
    StateReader,
    run,
)
from tests.streams.batching.harness import Lab
from tests.support.waiting import wait_until


def remember(_partition: int, records: Sequence[Record], _state: StateReader) -> BatchResult:
    """Keep each value under its key; an empty value deletes it."""
    return BatchResult(writes={record.key or b"": record.value or None for record in records})


def build(lab: Lab, process: Process, *, topic: str = "in", partitions: int = 4, **options: Any) -> tuple[BatchApp, BatchTable]:
    """Return an app with one agent and its table; `options` are more of the app's."""
    options = {"commit_interval": 0.2, "batch_bytes": 50_000} | options
    app = BatchApp(lab.topic("app"), broker=lab.bootstrap, datadir=lab.folder / "data", partitions=partitions, **options)
    table = app.batch_table("values", lambda _, value: Due(0, len(value)))
    app.batch_agent(app.batch_topic(lab.topic(topic)), table, process)
    return app, table


@asynccontextmanager
async def running(app: BatchApp) -> AsyncIterator[asyncio.Task[None]]:
    """Run the app until it is ready; stop it at the end, which must take less than the promised eight seconds."""
    stop = asyncio.Event()
    task = asyncio.create_task(run(app, stop))
    await wait_until(lambda: app.ready() or task.done(), 15, "ready")
    yield task
    stop.set()
    async with asyncio.timeout(8):
        await task


async def crash_of(app: BatchApp, cause: Callable[[], Awaitable[None]]) -> Exception:
    """Run the app, do what makes it crash, and return what `run` raised."""
    try:
        async with running(app) as task:
            await cause()
            await wait_until(task.done, 15, "the crash")
    except Exception as error:  # noqa: BLE001 - the tests look at it
        return error
    pytest.fail("it did not crash")


async def committed(lab: Lab, app: BatchApp) -> None:
    """Wait until all input is committed."""

    async def caught_up() -> bool:
        return await lab.committed(str(app.conf.id)) == await lab.end(lab.topic("in"))

    await wait_until(caught_up, 15, "all committed")


def contents(table: BatchTable) -> dict[bytes, bytes]:
    """Return what the table holds here."""
    return {key: value for number in table.owned_partitions() for key, value in table.data.local.scan(number)}


def due(table: BatchTable, until: int) -> list[bytes]:
    """Return the keys of what is due here."""
    return [key for number in sorted(table.owned_partitions()) for key, _ in table.due(number, 0, until)]

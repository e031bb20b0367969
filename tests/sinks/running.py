"""A sink between real servers: topics filled, the sink run, rows counted."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient

from kybstream.kafka import ensure_topics
from kybstream.settings import Settings
from schemas.codec import encode
from schemas.records import Record
from sinks.migrate import migrate
from sinks.run import run_sink
from sinks.tables import TABLES
from tests.sinks.making import rows, table_of
from tests.support.waiting import wait_until

DEADLINE = 30.0
"""Seconds that anything awaited here may take."""


async def made(settings: Settings) -> Settings:
    """Makes topics and tables."""
    await ensure_topics(settings.kafka, {settings.topic(table.topic): {} for table in TABLES})
    await migrate(settings.clickhouse)
    return settings


@asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[asyncio.Event]:
    """A sink while the block runs; stopped at its end, which must not take longer than 5 s."""
    stop, ready = asyncio.Event(), asyncio.Event()
    task = asyncio.create_task(run_sink(settings, stop=stop, ready=ready.set))
    body = asyncio.current_task()
    assert body is not None
    task.add_done_callback(lambda ended: body.cancel() if not stop.is_set() and ended.exception() else None)
    try:
        yield ready
    finally:
        stop.set()
        began = time.monotonic()
        await asyncio.wait_for(task, 10)
        assert time.monotonic() - began < 5


async def produce(settings: Settings, values: Sequence[Record | bytes], topic: str | None = None, partition: int = 0) -> None:
    """Puts records, or bytes, on their topic."""
    async with AIOKafkaProducer(bootstrap_servers=settings.kafka.bootstrap_servers, acks="all", linger_ms=5) as producer:
        for value in values:
            raw = value if isinstance(value, bytes) else encode(value)
            suffix = topic or table_of(type(value)).topic  # type: ignore[arg-type]
            await producer.send(settings.topic(suffix), raw, key=b"key", partition=partition, headers=[("ce_id", b"1")])
        await producer.flush()


async def row_count(settings: Settings, table: str, *, final: bool = False) -> int:
    """Rows of a table; with repeats that are not merged yet, unless `final`."""
    (row,) = await rows(settings.clickhouse, f"SELECT count() AS n FROM {table}", final=final)  # noqa: S608
    assert isinstance(row["n"], int)
    return row["n"]


async def landed(settings: Settings, table: str, count: int) -> None:
    """Waits until a table has so many rows."""

    async def enough() -> bool:
        return await row_count(settings, table) >= count

    await wait_until(enough, DEADLINE, f"{count} rows in {table}")


def with_sink(settings: Settings, **sink: str | float) -> Settings:
    """The same with other settings of the sink."""
    return settings.model_copy(update={"sink": settings.sink.model_copy(update=sink)})


async def make_anew(settings: Settings, topic: str) -> None:
    """Deletes a topic and makes it again, empty."""
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.kafka.bootstrap_servers)
    await admin.start()
    try:
        await admin.delete_topics([topic])

        async def gone() -> bool:
            return topic not in await admin.list_topics()

        await wait_until(gone, DEADLINE, "the topic is gone")
    finally:
        await admin.close()
    await ensure_topics(settings.kafka, {topic: {}})

"""Starting and stopping the sink: what it needs is checked first, and named when it is missing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any, TypeVar

import structlog
from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError

from kybstream.errors import RunError, UnavailableError
from kybstream.kafka import client_options, durable_producer, pace_fetches, reading, unreachable
from kybstream.kafka_outages import telling_kafka_outages
from kybstream.producing import ReplacedProducer
from kybstream.settings import Settings
from kybstream.side_tasks import settle
from sinks.clickhouse import Client, connected
from sinks.consumer import GOODBYE_SECONDS, SinkLoop
from sinks.errors import MIGRATE_HINT
from sinks.migrate import missing_migrations, table_columns
from sinks.monitoring import monitored
from sinks.outages import telling_clickhouse_outages
from sinks.rebuild import unfinished
from sinks.tables import TABLES
from sinks.writer import Writer

_log = structlog.get_logger(__name__)

_SESSION_MS = 10_000
_METADATA_MS = 5_000
"""Within so long partitions that were added are found, and a topic that was made again; aiokafka's own is 5 minutes."""
_NEVER_MS = 24 * 3_600_000
_START_RETRY_SECONDS = 1.0
_CONNECT_SECONDS = 10.0
_TOPICS_SECONDS = 2.0
"""Topics made a moment ago are not known to every broker at once."""

T = TypeVar("T")


async def run_sink(
    settings: Settings,
    *,
    stop: asyncio.Event,
    ready: Callable[[], None] | None = None,
    listening: Callable[[int | None], None] | None = None,
) -> None:
    """Writes the topics to ClickHouse until `stop` is set; then writes the tail and ends, within 5 s.

    Kafka or ClickHouse may be away, at the start too: it waits and goes on by itself.

    Args:
        settings: Sections kafka, clickhouse and sink.
        stop: Set it to end.
        ready: Called once, when the group has given out partitions and it is known where each goes on.
        listening: Is told the port of the health pages, if there are any, before anything else is done.

    Raises:
        RunError: Topics or tables are missing or older than this version, ClickHouse refuses what is written for no record's
            fault, or the port of the health pages is in use.
        RejectionLimitError: So many records cannot be rows that it cannot be their fault.
        ExpiredUnreadError: Records expired before they were read, and the settings say to stop.
        UnavailableError: Kafka refuses to go on serving this group: access was taken away, say.
    """
    async with AsyncExitStack() as stack:
        monitor = await stack.enter_async_context(monitored(settings.sink, listening))
        topics = [settings.topic(table.topic) for table in TABLES]
        await stack.enter_async_context(telling_kafka_outages(settings.kafka, topics))
        await stack.enter_async_context(telling_clickhouse_outages(settings.clickhouse, monitor.inserts_delayed))
        client = await _started(stop, "clickhouse", lambda: _enter(stack, settings))
        if client is None:
            return
        columns = await _started(stop, "clickhouse", lambda: _checked_tables(settings, client))
        if columns is None or await _started(stop, "kafka", lambda: _checked_topics(settings)) is None:
            return
        producer = ReplacedProducer(lambda: durable_producer(settings.kafka))
        stack.push_async_callback(_goodbye, producer)
        if await _started(stop, "kafka", lambda: _connect(producer)) is None:
            return
        consumer = AIOKafkaConsumer(
            **client_options(settings.kafka),
            group_id=settings.sink.group,
            group_instance_id=settings.sink.instance,
            enable_auto_commit=False,
            # Where to go on is what the tables say; an offset that a topic does not have is looked into (sinks/consumer.py).
            auto_offset_reset="none",
            session_timeout_ms=_SESSION_MS,
            metadata_max_age_ms=_METADATA_MS,
            # Who waits for ClickHouse is not stuck, and another process would wait for it too.
            max_poll_interval_ms=_NEVER_MS,
        )
        writer = Writer(settings, client, producer, columns, monitor.metrics)
        loop = SinkLoop(settings, consumer, client, writer, monitor.metrics)
        monitor.observe(loop)
        pace_fetches(consumer)
        consumer.subscribe(topics, listener=loop)
        stack.push_async_callback(_goodbye, consumer)
        if await _started(stop, "kafka", lambda: _start(settings, consumer)) is None:
            return
        _log.info("sink.started", group=settings.sink.group)
        try:
            await loop.run(stop, ready or (lambda: None))
        except KafkaError as error:
            raise unreachable(settings.kafka, error) from None
        finally:
            await loop.abandon()
    _log.info("sink.stopped")


async def _enter(stack: AsyncExitStack, settings: Settings) -> Client:
    return await stack.enter_async_context(connected(settings.clickhouse))


async def _checked_tables(settings: Settings, client: Client) -> dict[str, frozenset[str]]:
    missing = await missing_migrations(settings.clickhouse, client)
    if missing:
        raise RunError(
            f"the ClickHouse database {settings.clickhouse.database!r} lacks {', '.join(missing)}", hint=MIGRATE_HINT
        )
    for table in await unfinished(settings.clickhouse, client):
        _log.warning(
            "sink.rebuild_unfinished", table=table, hint=f"Run `kyb-stream sink --rebuild {table}` again: it finishes it."
        )
    return await table_columns(settings.clickhouse, client)


async def _checked_topics(settings: Settings) -> bool:
    wanted = {settings.topic(table.topic) for table in TABLES}
    deadline = time.monotonic() + _TOPICS_SECONDS
    async with reading(settings.kafka) as consumer:
        missing = sorted(wanted - set(await consumer.topics()))
        while missing and time.monotonic() < deadline:
            await asyncio.sleep(_TOPICS_SECONDS / 10)
            missing = sorted(wanted - set(await consumer.topics()))
    if missing:
        raise RunError(f"Kafka lacks the topics {', '.join(missing)}", hint=MIGRATE_HINT)
    return True


async def _connect(producer: ReplacedProducer) -> bool:
    await producer.start(_CONNECT_SECONDS)
    return True


async def _start(settings: Settings, client: Any) -> bool:
    try:
        await client.start()
    except (KafkaError, OSError) as error:
        raise unreachable(settings.kafka, error) from None
    return True


async def _started(stop: asyncio.Event, what: str, attempt: Callable[[], Awaitable[T]]) -> T | None:
    """What the attempt gives, tried once a second while the other side is away; None when `stop` came first.

    An attempt that waits is not waited for then: a group may take minutes to give out partitions.
    """
    stopping = asyncio.create_task(stop.wait())
    try:
        while not stop.is_set():
            attempting = asyncio.ensure_future(attempt())
            try:
                await asyncio.wait({attempting, stopping}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                if not attempting.done():
                    await settle([attempting], 0)
            if stop.is_set() and attempting.cancelled():
                return None
            try:
                return attempting.result()
            except UnavailableError as error:
                _log.warning("sink.waiting", what=what, error=error.message, outage=what)
            await asyncio.wait({stopping}, timeout=_START_RETRY_SECONDS)
        return None
    finally:
        stopping.cancel()


async def _goodbye(client: Any) -> None:
    """Stops a Kafka client; with the broker gone its own stop can hang."""
    try:
        await asyncio.wait_for(client.stop(), GOODBYE_SECONDS)
    except (KafkaError, TimeoutError) as error:
        _log.info("sink.left_without_goodbye", error=type(error).__name__)

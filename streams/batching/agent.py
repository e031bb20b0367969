"""The Faust agent that runs a pure function over batches."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import structlog

from streams.batching.records import Output, Process, Record
from streams.batching.steps import run_batch
from streams.batching.table import BatchTable, TableReader

if TYPE_CHECKING:
    from streams.batching.app import BatchApp

log = structlog.get_logger(__name__)


class KafkaEffects:
    """`steps.Effects` of one batch: the app's producer, the agent's table and Faust's event."""

    def __init__(self, app: BatchApp, table: BatchTable, event: Any) -> None:
        self._app = app
        self._table = table
        self._event = event
        self._partition: int = event.message.partition

    def current(self) -> bool:
        """Tell whether no rebalance came between: generations count them."""
        same: bool = self._event.message.generation_id == self._app.consumer_generation_id
        return same

    def reader(self) -> TableReader:
        """Return the state of the batch's partition number."""
        return self._table.reader(self._partition)

    async def send_outputs(self, outputs: Sequence[Output]) -> None:
        """Write the outputs to their topics."""
        await self._app.producer.send_outputs(outputs, self._partition)

    async def append_changelog(self, writes: dict[bytes, bytes | None]) -> int:
        """Write the new values to the table's changelog."""
        offset: int = await self._table.append(self._partition, writes.items())
        return offset

    def write_store(self, writes: dict[bytes, bytes | None], offset: int) -> None:
        """Write the new values to the table's local store."""
        self._table.write(self._partition, writes.items(), offset)

    def acknowledge(self) -> None:
        """Acknowledge the event."""
        self._event.ack()


class BatchAgent:
    """Runs `process` for each batch of its topics.

    Batches of one partition number run one at a time and in the order they came, whichever of the topics they are from,
    because they share that partition of the table; different partition numbers overlap. An exception ends the app.
    """

    def __init__(self, app: BatchApp, table: BatchTable, process: Process, *, retells: bool) -> None:
        self._app = app
        self._table = table
        self._process = process
        self._retells = retells
        self._turns: defaultdict[int, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._running: set[asyncio.Task[None]] = set()

    async def consume(self, stream: Any) -> None:
        """The agent's body: hand each event to a task of its own; they queue up by partition number.

        `noack` is vital: otherwise Faust's iterator acknowledges by itself, before the work is done.
        """
        try:
            async for event in stream.noack().events():
                task = asyncio.create_task(self._run(event))
                self._running.add(task)
                task.add_done_callback(self._running.discard)
        except Exception as error:  # noqa: BLE001 - Faust would restart the agent and go on
            await self._app.crash(error)

    def cancel(self) -> None:
        """Abandon what is still running; nothing of it has been acknowledged."""
        for task in self._running:
            task.cancel()

    async def _run(self, event: Any) -> None:
        message = event.message
        effects = KafkaEffects(self._app, self._table, event)
        try:
            async with self._turns[message.partition]:
                # A rebalance or a stop waits for batches that began; the others it will deliver again.
                if not (self._app.consumer.flow_active and effects.current()) or self._app.should_stop:
                    return
                records = [_record(raw) for raw in message.value]
                if not await run_batch(message.partition, records, self._process, effects, retells=self._retells):
                    log.info("batch_abandoned", topic=message.topic, partition=message.partition, end=message.offset)
        except Exception as error:
            log.exception("batch_failed", topic=message.topic, partition=message.partition, first=message.value[0].offset)
            await self._app.crash(error)
        finally:
            if not message.acked:
                self._app.consumer.forget(message)


def _record(raw: Any) -> Record:
    return Record(raw.topic, raw.partition, raw.offset, raw.timestamp, raw.key, raw.value, raw.headers)

"""The Faust agent that runs a pure function over batches."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import structlog
from aiokafka.errors import KafkaError

from kybstream.errors import KybStreamError
from streams.batching.errors import RecordTooLargeError, StateUnavailableError
from streams.batching.observing import Measured
from streams.batching.records import BatchResult, Output, Process, Record, StateReader
from streams.batching.slices import Slices
from streams.batching.steps import run_batch
from streams.batching.table import BatchTable, TableReader
from streams.batching.turns import Chunk, Turns

if TYPE_CHECKING:
    from streams.batching.app import BatchApp

log = structlog.get_logger(__name__)

FIRST_PAUSE_SECONDS = 0.2
LONGEST_PAUSE_SECONDS = 5.0
"""Between attempts at a batch: doubles from the first to the longest."""


class KafkaEffects:
    """`steps.Effects` of one batch: the app's producer, the agent's table and Faust's events, of one assignment."""

    def __init__(self, app: BatchApp, table: BatchTable, events: Sequence[Any]) -> None:
        self._app = app
        self._table = table
        self._events = events
        self._partition: int = events[0].message.partition

    def take(self, count: int) -> None:
        """Leave all but the first events for a later batch."""
        self._events = self._events[:count]

    def current(self) -> bool:
        """Tell whether no rebalance came between: generations count them."""
        same: bool = self._events[0].message.generation_id == self._app.consumer_generation_id
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
        """Acknowledge the events, in their order."""
        for event in self._events:
            event.ack()


class BatchAgent:
    """Runs `process` for each batch of its topics.

    Batches of one partition number run one at a time and in the order they came, whichever of the topics they are from,
    because they share that partition of the table; different partition numbers overlap. What waits for its turn is joined into
    one batch, as far as it is of one topic (`turns`). A batch that meets trouble of Kafka's
    or of the disk's is tried again, whole, as after a kill, until it succeeds or the flow stops; any other exception ends the
    app.
    """

    def __init__(self, app: BatchApp, table: BatchTable, process: Process, *, retells: bool) -> None:
        self._app = app
        self._name = table.name
        self._table = table
        self._slices = Slices(process, app.computing)
        self._retells = retells
        self._turns = Turns(app.batch_records)
        self._running: set[asyncio.Task[None]] = set()

    def piece(self) -> int:
        """Return the most records that one message may hold."""
        return self._slices.piece()

    async def consume(self, stream: Any) -> None:
        """The agent's body: queue each event by its partition number; a task serves each number that has some.

        `noack` is vital: otherwise Faust's iterator acknowledges by itself, before the work is done.
        """
        try:
            async for event in stream.noack().events():
                message = event.message
                chunk = Chunk((message.topic, message.generation_id), len(message.value), event)
                if self._turns.add(message.partition, chunk):
                    task = asyncio.create_task(self._serve(message.partition))
                    self._running.add(task)
                    task.add_done_callback(self._running.discard)
        except Exception as error:  # noqa: BLE001 - Faust would restart the agent and go on
            await self._app.crash(error)

    def cancel(self) -> None:
        """Abandon what is still running; nothing of it has been acknowledged."""
        for task in self._running:
            task.cancel()

    async def _serve(self, number: int) -> None:
        events: list[Any] = []
        try:
            while chunks := self._turns.take(number):
                events = [chunk.event for chunk in chunks]
                while events:
                    # A batch that would take too long ends early; the rest is the next one.
                    events = events[await self._run(events) :]
        except asyncio.CancelledError:
            # Abandoned: what still waits is forgotten, too.
            self._forget(events)
            while chunks := self._turns.take(number):
                self._forget([chunk.event for chunk in chunks])
            raise

    async def _run(self, events: Sequence[Any]) -> int:
        """Run a batch of the first of these events; returns how many these are, all if they were abandoned."""
        first = events[0].message
        done = 0
        try:
            done = await self._process_until_done(events)
        except Exception as error:
            log.exception("batch_failed", topic=first.topic, partition=first.partition, first=first.value[0].offset)
            await self._app.crash(error)
        done = done or len(events)
        self._forget(events[:done])
        return done

    def _forget(self, events: Sequence[Any]) -> None:
        for event in events:
            if not event.message.acked:
                self._app.consumer.forget(event.message)

    async def _process_until_done(self, events: Sequence[Any]) -> int:
        message = events[-1].message
        where = {"topic": message.topic, "partition": message.partition, "end": message.offset}
        pause = FIRST_PAUSE_SECONDS
        effects = KafkaEffects(self._app, self._table, events)
        # A rebalance or a stop waits for batches that began; the others, and what would be tried again, it delivers again.
        while self._app.consumer.flow_active and effects.current() and not self._app.should_stop:
            known = self._app.sizes.version
            try:
                done = await self._attempt(events)
            except Exception as error:
                # Computed anew, a batch says nothing larger than what is known by now, whichever partition met the limit.
                learnt = isinstance(error, RecordTooLargeError) and self._app.sizes.version != known
                if not (learnt or _retriable(error)):
                    raise
                outage = "disk" if isinstance(error, StateUnavailableError) else "kafka"
                failure = {"error": type(error).__name__, "reason": str(error), "seconds": pause, "outage": outage}
                log.warning("batch_tried_again", **failure, **where)
                self._app.observer.batch_retried(self._name)
            else:
                if not done:
                    log.info("batch_abandoned", **where)
                return done
            with suppress(TimeoutError):
                await asyncio.wait_for(self._app.consumer.suspend_flow.wait(), pause)
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
        return 0

    async def _attempt(self, events: Sequence[Any]) -> int:
        """Try a batch of the first of these events; returns how many, none if the partition is lost."""
        messages = [event.message for event in events]
        records = [_record(raw) for message in messages for raw in message.value]
        ends = list(accumulate(len(message.value) for message in messages))
        effects = KafkaEffects(self._app, self._table, events)
        taken = 0

        async def compute(state: StateReader) -> BatchResult:
            nonlocal taken
            number, producer = messages[0].partition, self._app.producer
            result, taken = await self._slices.compute(number, records, state, ends=ends, current=effects.current)
            exceeded = self._app.sizes.exceeded()
            if exceeded and await producer.renew_sizes(exceeded):
                # Kafka's limits are others meanwhile.
                result, taken = await self._slices.compute(number, records, state, ends=ends, current=effects.current)
            if taken:
                effects.take(ends.index(taken) + 1)
            return result

        batch = Measured(self._name, compute, effects, self._app.observer)
        if not await run_batch(batch, batch, retells=self._retells):
            return 0
        self._done(records[:taken], batch.result)
        return ends.index(taken) + 1

    def _done(self, records: Sequence[Record], result: BatchResult) -> None:
        self._app.observer.batch_done(self._name, len(records), result)
        suspects = [dead for dead in result.dead if dead.may_be_ours or dead.detail]
        if suspects:
            log.warning(
                "records_dead_lettered",
                agent=self._name,
                topic=records[0].topic,
                partition=records[0].partition,
                first=suspects[0].offset,
                count=len(suspects),
                reasons=sorted({dead.reason for dead in suspects}),
                detail=next((dead.detail for dead in suspects if dead.detail), None),
            )


def _retriable(error: Exception) -> bool:
    """Tell whether the same batch can succeed later without anybody changing anything."""
    return isinstance(error, KybStreamError | KafkaError) and bool(error.retriable)


def _record(raw: Any) -> Record:
    return Record(raw.topic, raw.partition, raw.offset, raw.timestamp, raw.key, raw.value, raw.headers)

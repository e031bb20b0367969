"""The sink's loop: topics in, batches out. It only moves bytes; what to do is decided in `batch`, `interval`, `resume`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Mapping
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.abc import ConsumerRebalanceListener
from aiokafka.errors import NoOffsetForPartitionError, OffsetOutOfRangeError

from kybstream.errors import UnavailableError
from kybstream.settings import Settings
from kybstream.side_tasks import settle, side_tasks
from sinks.batch import Limits, has_room
from sinks.clickhouse import Client
from sinks.errors import NotNowError
from sinks.framing import Message
from sinks.interval import Interval, classify
from sinks.metrics import SinkMetrics, Standing
from sinks.offsets import Offsets
from sinks.partition import Partition, taken_together
from sinks.tables import TABLES, Table
from sinks.telling import Telling
from sinks.writer import Writer

_log = structlog.get_logger(__name__)

STOP_SECONDS = 3.0
"""How long the tail may take at a stop; with the last commit and the goodbyes to Kafka it stays under 5 s."""
GOODBYE_SECONDS = 0.7
REVOKE_SECONDS = 5.0
"""How long inserts under way may take to finish when their partition goes to another process; then they are abandoned."""
LAST_COMMIT_SECONDS = 0.3
_IDLE_SECONDS = 0.1
_RETRY_SECONDS = 1.0


class SinkLoop(ConsumerRebalanceListener):  # type: ignore[misc]
    """Reads, batches and writes the partitions that the group gives to this process."""

    def __init__(
        self, settings: Settings, consumer: AIOKafkaConsumer, client: Client, writer: Writer, metrics: SinkMetrics
    ) -> None:
        self._settings = settings
        self._consumer: Any = consumer
        self._client = client
        self._writer = writer
        self._limits = Limits.of(settings.sink)
        self._tables = {settings.topic(table.topic): table for table in TABLES}
        self._partitions: dict[TopicPartition, Partition] = {}
        self._offsets = Offsets(settings, consumer, self._partitions, metrics, doubt=self._doubt, bury=writer.tell)
        self._telling = Telling(self._offsets.tell)
        self._assigned = False
        self._ask_again_at = 0.0
        self._phase = "starting"

    # How it does.

    def phase(self) -> str:
        """`starting` until it is known where the partitions go on, then `running`; `stopping` at the end."""
        return self._phase

    def standings(self) -> dict[tuple[str, int], Standing]:
        """How each partition of ours does."""
        held = self.buffered_bytes()
        return {
            (place.topic, place.partition): Standing(
                lag=each.lag,
                unread_expires_seconds=each.unread_expires_seconds(time.time()),
                settled=self._writer.settled[place.topic, place.partition],
                paused=not has_room(each.waiting, self._limits, held),
            )
            for place, each in self._partitions.items()
        }

    def buffered_bytes(self) -> int:
        """Values that were read and have not landed."""
        return sum(each.waiting.bytes + each.under_way for each in self._partitions.values())

    def last_insert(self) -> float | None:
        """When rows landed last, in seconds of the monotonic clock."""
        return self._writer.last_insert

    def inserts_delayed(self) -> bool:
        """Whether an insert has failed and is to be sent again."""
        return self._writer.inserts_delayed

    # What the group says.

    def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        """Takes the partitions, but reads nothing of them before ClickHouse has said where to go on."""
        for place in assigned:
            self._consumer.pause(place)
            self._partitions[place] = Partition(place, self._tables[place.topic])
        self._ask_again_at = 0.0
        self._assigned = True
        _log.info("sink.assigned", partitions=len(assigned))

    async def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        """Lets inserts under way finish, so that the next owner sees them in the table, and forgets what only waits."""
        gone = [self._partitions.pop(place) for place in revoked if place in self._partitions]
        self._telling.drop(gone)
        await settle([partition.writing for partition in gone if partition.writing], REVOKE_SECONDS)
        for place, stays in self._partitions.items():
            if stays.writing is not None and stays.writing.cancelled():
                # It shared an insert with one that goes, so whether its rows landed only the table can tell.
                self._consumer.pause(place)
                self._partitions[place] = Partition(place, stays.table)
        if gone:
            _log.info("sink.revoked", partitions=len(gone))

    # The loop.

    async def run(self, stop: asyncio.Event, ready: Callable[[], None]) -> None:
        """Until `stop`: read, batch, write. Then the tail.

        Raises:
            RunError: ClickHouse refuses what no record is to blame for.
        """
        try:
            async with side_tasks(
                "sink",
                commits=self._offsets.commit_often,
                ends=self._offsets.look_at_ends,
                unread=self._offsets.look_at_unread,
            ):
                await self._read_and_write(stop, ready)
        finally:
            self._phase = "stopping"
        await self._write_tail()
        await self._offsets.commit(LAST_COMMIT_SECONDS)

    async def _read_and_write(self, stop: asyncio.Event, ready: Callable[[], None]) -> None:
        while not stop.is_set():
            await self._find_resume_points()
            if self._assigned and self._phase == "starting" and not self._unresolved():
                self._phase = "running"
                ready()
            await self._read()
            self._write_what_is_due()
            self._raise_failures()

    async def abandon(self) -> None:
        """Cancels what is under way: after a failure, nothing more may land."""
        self._telling.drop_all()
        await settle(self._under_way(), 0.0)

    def _doubt(self, partition: Partition, why: str) -> None:
        """Reads nothing more of it before table and topic are compared again."""
        if not partition.doubted:
            place = partition.place
            _log.warning("sink.topic_went_back", topic=place.topic, partition=place.partition, why=why)
            partition.doubted = True
            self._consumer.pause(place)

    def _unresolved(self) -> list[Partition]:
        return [each for each in self._partitions.values() if each.next_offset is None and each not in self._telling]

    async def _find_resume_points(self) -> None:
        for each in self._partitions.values():
            if each.doubted and each.writing is None and not each.waiting:
                each.doubted, each.next_offset, each.taken = False, None, None
        for partition, offset in self._telling.told():
            self._go_on(partition, offset)
        wanted = self._unresolved()
        if not wanted or time.monotonic() < self._ask_again_at:
            return
        try:
            points = await self._offsets.resume_points(self._client, [each.place for each in wanted])
        except UnavailableError as error:
            away = "clickhouse" if isinstance(error, NotNowError) else "kafka"
            _log.warning("sink.resume_delayed", error=error.message, outage=away)
            self._ask_again_at = time.monotonic() + _RETRY_SECONDS
            return
        for partition in wanted:
            if self._partitions.get(partition.place) is not partition:
                continue  # taken away while we asked
            point = points[partition.place]
            expired = self._offsets.resumed(partition.place, point)
            if expired is None:
                self._go_on(partition, point.offset)
            else:
                self._telling.begin(partition, expired, point.offset)

    def _go_on(self, partition: Partition, offset: int) -> None:
        partition.next_offset = partition.landed_to = partition.end = offset
        self._consumer.seek(partition.place, offset)
        self._consumer.resume(partition.place)

    async def _read(self) -> None:
        """Takes in what came, of partitions that are not far ahead of ClickHouse; waits a moment when there is nothing."""
        held = self.buffered_bytes()
        wanted = [
            place
            for place, partition in self._partitions.items()
            if partition.next_offset is not None and not partition.doubted and has_room(partition.waiting, self._limits, held)
        ]
        pause = self._next_due()
        if not wanted:
            await asyncio.sleep(min(pause, _IDLE_SECONDS / 10))
            return
        try:
            came = await self._consumer.getmany(*wanted, timeout_ms=int(1000 * pause))
        except NoOffsetForPartitionError:
            return  # from before it was known where to go on
        except OffsetOutOfRangeError as error:
            # Records expired before they were read, or the topic was made anew.
            for place in error.args[0].keys() & self._partitions.keys():
                self._doubt(self._partitions[place], "the topic does not have the offset that was next")
            return
        now = time.monotonic()
        for place, messages in came.items():
            partition = self._partitions.get(place)
            if partition is not None and partition.next_offset is not None and not partition.doubted:
                self._take_in(partition, messages, now)

    def _take_in(self, partition: Partition, messages: list[Message], now: float) -> None:
        expected = partition.next_offset or 0
        first, last = messages[0].offset, messages[-1].offset
        interval = classify(first, last, next_offset=expected, taken=partition.taken)
        if interval is not Interval.NEW:
            place = partition.place._asdict()
            _log.info("sink.interval", **place, case=interval.value, first=first, last=last, expected=expected)
        if not interval.is_taken:
            self._doubt(partition, f"offsets {first} to {last} came where {expected} was next")
            return
        partition.waiting.add(messages, now)
        partition.taken = (first, last)
        partition.next_offset = last + 1
        partition.end = max(partition.end, self._consumer.highwater(partition.place) or 0, last + 1)

    def _next_due(self) -> float:
        """Seconds the loop may wait for records; never long, so that a stop is seen."""
        if not self._slots():
            return _IDLE_SECONDS  # who finishes begins the next
        now = time.monotonic()
        free = (each.waiting.due_in(self._limits, now) for each in self._partitions.values() if each.writing is None)
        return min((due for due in free if due is not None and due < _IDLE_SECONDS), default=_IDLE_SECONDS)

    def _write_what_is_due(self, *, everything: bool = False) -> None:
        """Begins as many writes as can be under way, the longest waiting first.

        Who is due takes along what waits for the same table, as much as one insert may hold: most of what a small insert costs
        ClickHouse is not its rows. Who is due and finds no slot goes on collecting, so the busier ClickHouse is, the fewer
        and larger inserts it gets.
        """
        now = time.monotonic()
        idle = [each for each in self._partitions.values() if each.writing is None and each.waiting]
        idle.sort(key=lambda each: each.waiting.waited(now), reverse=True)
        for partition in idle:
            if not self._slots():
                return
            if partition.writing is None and (everything or partition.waiting.due_in(self._limits, now) == 0):
                batches = taken_together(partition, [each for each in idle if each.writing is None], self._limits, now)
                writing = asyncio.create_task(self._write(partition.table, batches))
                for taken in batches:
                    taken.writing = writing

    def _slots(self) -> int:
        """How many more writes may begin."""
        return max(0, self._writer.slots - len(self._under_way()))

    def _under_way(self) -> set[asyncio.Task[None]]:
        return {each.writing for each in self._partitions.values() if each.writing is not None}

    async def _write(self, table: Table, batches: Mapping[Partition, tuple[Message, ...]]) -> None:
        in_order = sorted(batches, key=lambda partition: partition.place.partition)
        written = await self._writer.write(table, [message for partition in in_order for message in batches[partition]])
        _log.debug("sink.written", table=table.name, partitions=len(batches), rows=written.rows, dead=written.dead)
        for partition, batch in batches.items():
            partition.landed_to = self._offsets.to_commit[partition.place] = batch[-1].offset + 1
            partition.writing = None
            partition.under_way = 0
        self._write_what_is_due()

    def _raise_failures(self) -> None:
        for partition in self._partitions.values():
            if partition.writing is not None and partition.writing.done():
                partition.writing.result()

    # The end.

    async def _write_tail(self) -> None:
        """Writes what was read, within STOP_SECONDS; what is left then stays in Kafka for the next start."""
        deadline = time.monotonic() + STOP_SECONDS
        while time.monotonic() < deadline:
            self._write_what_is_due(everything=True)
            self._raise_failures()
            if not (tasks := self._under_way()):
                return
            await asyncio.wait(tasks, timeout=deadline - time.monotonic(), return_when=asyncio.FIRST_COMPLETED)
        left = sum(len(each.waiting) for each in self._partitions.values())
        _log.warning("sink.tail_left", records_waiting=left, hint="They are still in Kafka, for the next start.")
        await self.abandon()

"""Where a committed offset no longer leads into its topic: records expired unread, or the topic was made anew.

Kafka's client goes on at the beginning without a word, and what this worker has read counts by offsets. So the offsets are
compared with the topics when partitions are assigned, where offsets are missing while reading, and every `LOOK_SECONDS`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING

import structlog
from aiokafka.errors import KafkaError
from faust.types import TP

from kybstream.errors import KybStreamError
from kybstream.expired import ExpiredUnread
from streams.batching.records import Output

if TYPE_CHECKING:
    from streams.batching.consumer import BatchConsumer

log = structlog.get_logger(__name__)

LOOK_SECONDS = 2.0
PAUSE_SECONDS = 1.0
"""Between two attempts to ask a broker that does not answer."""


async def patiently(
    ask: Callable[..., Awaitable[Mapping[TP, int]]], places: Collection[TP], given_up: Callable[[], bool]
) -> Mapping[TP, int]:
    """Ask for offsets until a broker answers.

    A rebalance in an outage asks for them, and Kafka's client gives up after its request timeout: that ended the worker.
    """
    while True:
        try:
            return await ask(*places)
        except (KafkaError, TimeoutError) as error:
            # KafkaTimeoutError says of itself that it is not retriable; the request may be sent again all the same.
            lasting = isinstance(error, KafkaError) and not error.retriable and "Timeout" not in type(error).__name__
            if lasting or given_up():
                raise
            log.warning("waiting_for_offsets", error=type(error).__name__, outage="kafka")
            await asyncio.sleep(PAUSE_SECONDS)


class Starting:
    """Compares the offsets of a consumer with its topics."""

    def __init__(self, consumer: BatchConsumer) -> None:
        self._consumer = consumer
        self._expired = ExpiredUnread()
        self._telling = asyncio.Lock()
        self.missing: frozenset[str] = frozenset()
        """Topics that should be read and do not exist."""

    async def compare(self, before: Mapping[TP, int | None] | None = None, *, running: bool = False) -> None:
        """Compare all partitions, and go on where their topics begin if that is elsewhere.

        Args:
            before: What this process has committed before the partitions were assigned anew.
            running: Batches are processed: of a partition of which records are on their way, nothing is said to have expired.
        """
        consumer = self._consumer
        places = [tp for tp in consumer.assignment() if tp.topic in consumer.app.source_topics]
        if not places:
            return
        beginnings, ends = await consumer.earliest_offsets(*places), await consumer.highwaters(*places)
        for tp in places:
            beginning, end = beginnings.get(tp) or 0, ends.get(tp) or 0
            following = consumer.next_offset(tp)
            # Kafka forgets what was committed of a topic when it deletes it.
            deleted = (before or {}).get(tp) if not consumer.committed_offset(tp) else None
            if following > end or deleted:
                log.error("topic_made_anew", topic=tp.topic, partition=tp.partition, read_to=deleted or following, end=end)
                self._expired.forget((tp.topic, tp.partition))
                await consumer.begin_at(tp, beginning, anew=True)
            elif following >= beginning or (running and consumer.holds(tp)):
                continue
            elif await self.tell(tp, following, beginning):
                await consumer.begin_at(tp, beginning)

    async def tell(self, tp: TP, following: int, beginning: int) -> bool:
        """Tell of records that expired before they were read; returns when Kafka has it, whether to go on behind them.

        Who comes while another one tells it waits: nobody goes on behind records of which Kafka has nothing. An error of ours
        that `tell_expired` raises ends the app.
        """
        app = self._consumer.app
        async with self._telling:
            expired = self._expired.find((tp.topic, tp.partition), following, beginning)
            if expired is None:
                return True
            try:
                await self._send(app.tell_expired(expired))
            except KybStreamError as error:
                app.crash_soon(error)
                return False
            self._expired.told(expired)
            app.observer.records_expired(expired)
        return True

    async def _send(self, outputs: Sequence[Output]) -> None:
        app = self._consumer.app
        while outputs:
            try:
                await app.publish(outputs)
                outputs = ()
            except (KafkaError, TimeoutError) as error:
                log.warning("expired_records_not_told", error=type(error).__name__, outage="kafka")
                await asyncio.sleep(PAUSE_SECONDS)

    def forget(self, tp: TP) -> None:
        """Begin again with a partition whose topic was made anew."""
        self._expired.forget((tp.topic, tp.partition))

    def _tell_missing(self, missing: frozenset[str]) -> None:
        for topic in sorted(missing - self.missing):
            log.error("topic_missing", topic=topic, hint="kyb-stream migrate makes it; it is then read from its beginning")
        for topic in sorted(self.missing - missing):
            log.warning("topic_is_back", topic=topic)
        self.missing = missing

    async def watch(self) -> None:
        """Compare again and again while batches are processed."""
        app = self._consumer.app
        while not app.should_stop:
            await asyncio.sleep(LOOK_SECONDS)
            if not app.ready():
                continue
            try:
                self._tell_missing(self._consumer.missing_topics())
                await self.compare(running=True)
            except (KafkaError, TimeoutError) as error:
                log.warning("offsets_not_compared", error=type(error).__name__, outage="kafka")

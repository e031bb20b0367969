"""A connection to Kafka that outlives its producers: made in the background, watched, and made anew after a failure.

aiokafka's idempotent producer retries for ever when the broker is away, and is of no use any more after an error that it does
not retry (the sequence of its partition then has a gap). So a record waits for its acknowledgement only so long, and a producer
that failed, or has been silent, is replaced; what is under way on the old one may still end well.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from time import perf_counter

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from ingress.lanes import Headers, Lanes, Outgoing, RefusedBySizeError
from ingress.metrics import IngressMetrics
from ingress.topic_facts import TopicFacts
from kybstream.errors import UnavailableError
from kybstream.kafka import durable_producer
from kybstream.kafka_outages import telling_kafka_outages
from kybstream.partitions import partition_of
from kybstream.producing import CLOSE_SECONDS, close_producer
from kybstream.settings import KafkaSettings
from kybstream.side_tasks import kept_up

CONNECT_SECONDS = 10.0
"""How long one attempt to connect may take."""

SILENT_SECONDS = 2.0
"""How long nothing may be acknowledged, although records are sent, before the producer is replaced."""

PROBE_SECONDS = 2.0
"""How often an idle connection is tried, and how long the broker may take to answer."""

MAX_BATCH_BYTES = 64 * 1024
"""A larger record is sent alone."""

_FIRST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 2.0

CONNECTING = "connecting to Kafka"
STOPPED = "the connection to Kafka is closed"

__all__ = ["KafkaConnection", "RefusedBySizeError"]

_log = structlog.get_logger(__name__)


class KafkaConnection:
    """Produces records, each acknowledged by all in-sync replicas, whenever Kafka is there.

    Args:
        kafka: Where.
        topics: Topics that must exist before anything is taken.
        ack_timeout_seconds: How long a record waits for its acknowledgement.
        metrics: Where acknowledgements and replacements are counted.
    """

    def __init__(
        self, kafka: KafkaSettings, topics: Sequence[str], *, ack_timeout_seconds: float, metrics: IngressMetrics
    ) -> None:
        self._kafka = kafka
        self._topics = frozenset(topics)
        self._ack_timeout = ack_timeout_seconds
        self._metrics = metrics
        self._producer: AIOKafkaProducer | None = None
        self._reason: str | None = CONNECTING
        self._settled = asyncio.Event()  # the attempt under way has succeeded or failed
        self._lost = asyncio.Event()  # the producer is to be replaced
        self._last_ack = 0.0
        self._silent_since: float | None = None  # the first record since the last acknowledgement was sent then
        self._keeper: asyncio.Task[None] | None = None
        self._retiring: set[asyncio.Task[None]] = set()
        self._facts = TopicFacts(self._topics, kafka.partitions, metrics)
        self._lanes = Lanes(self)

    @property
    def unavailable(self) -> str | None:
        """Why nothing can be produced now, or None when it can."""
        return self._reason

    @property
    def misconfigured(self) -> str | None:
        """What is wrong with the topics although records are produced, or None."""
        return self._facts.wrong

    def partition(self, topic: str, key: bytes) -> int:
        """The partition of a key, as long as the topic is as it is configured."""
        return partition_of(key, self._facts.partitions(topic) or self._kafka.partitions)

    def check_size(self, topic: str, key: bytes, value: bytes, headers: Headers) -> None:
        """Finds out what Kafka would refuse for its size before it is sent, or stored elsewhere, as far as that is known.

        Raises:
            RefusedBySizeError: It would.
        """
        if self._facts.too_large(topic, key, value, headers):
            raise RefusedBySizeError("the record is larger than Kafka takes")

    def start(self) -> None:
        """Begins to connect, in the background; returns at once, whether or not Kafka is there."""
        self._keeper = asyncio.create_task(
            kept_up("ingress", "kafka-connection", self._keep_connected), name="kafka-connection"
        )

    async def produce(
        self, topic: str, key: bytes, value: bytes, headers: Headers, *, ack_timeout_seconds: float | None = None
    ) -> None:
        """Returns when Kafka has acknowledged the record.

        Args:
            topic: Where to; one of the topics of this connection.
            key: The record's key.
            value: The record's value.
            headers: The record's headers.
            ack_timeout_seconds: How long to wait; as the connection was made when not given.

        Raises:
            UnavailableError: It has not in time, or cannot be reached. The record may be in the topic nevertheless.
            RefusedBySizeError: It is too large.
        """
        if self._producer is None and self._settled.is_set():
            raise UnavailableError(self._reason or CONNECTING)
        self.check_size(topic, key, value, headers)
        started = perf_counter()
        timeout = ack_timeout_seconds or self._ack_timeout
        partitions = self._facts.partitions(topic)
        if partitions is None:
            partitions = await self._partitions_once_connected(topic, timeout)
        await self._lanes.put(topic, partition_of(key, partitions), Outgoing(key, value, headers, started), timeout)

    async def stop(self, seconds: float) -> None:
        """Sends what is under way and closes; what is not acknowledged within `seconds` is given up."""
        if self._keeper is not None:
            self._keeper.cancel()
            with suppress(asyncio.CancelledError):
                await self._keeper
        producer, self._producer = self._producer, None
        self._set_reason(STOPPED)
        self._settled.set()
        self._lanes.refuse(STOPPED)
        if producer is not None:
            self._lanes.leave(producer)
            self._retire(producer, seconds)
        if self._retiring:
            await asyncio.wait(self._retiring, timeout=seconds + 2 * CLOSE_SECONDS)

    def acknowledged(self, seconds: float) -> None:
        """Of `Watcher`."""
        self._last_ack, self._silent_since = perf_counter(), None
        self._metrics.ack_seconds.observe(seconds)

    def overdue(self, started: float) -> None:
        """Of `Watcher`."""
        producer = self._producer
        if producer is not None and self._last_ack < started and self._silent_for(started) >= SILENT_SECONDS:
            # Nothing was acknowledged all the while: not this record is slow, the producer is stuck.
            self._give_up(producer, "silent")

    def failed(self, producer: AIOKafkaProducer, error: KafkaError) -> None:
        """Of `Watcher`. The broker may refuse what follows: the batch has its place in the partition's sequence."""
        self._give_up(producer, type(error).__name__)

    async def _partitions_once_connected(self, topic: str, seconds: float) -> int:
        try:
            async with asyncio.timeout(seconds):
                await self._settled.wait()
        except TimeoutError:
            raise UnavailableError("Kafka did not answer in time") from None
        partitions = self._facts.partitions(topic)
        if self._producer is None or partitions is None:
            raise UnavailableError(self._reason or CONNECTING)
        return partitions

    def _silent_for(self, started: float) -> float:
        """Seconds without an acknowledgement although records were sent; a short ack_timeout alone is no silence."""
        if self._silent_since is None or self._silent_since < self._last_ack:
            self._silent_since = started
        return perf_counter() - self._silent_since

    def _give_up(self, producer: AIOKafkaProducer, reason: str) -> None:
        if producer is self._producer and not self._lost.is_set():
            self._metrics.producers_replaced.inc()
            _log.warning("kafka_producer_replaced", reason=reason, outage="kafka")
            self._lost.set()
            self._silent_since = None
            # From here on records wait for the next producer.
            self._producer = None
            self._lanes.leave(producer)
            self._settled.clear()
            self._set_reason(CONNECTING)
            self._retire(producer, self._ack_timeout)

    async def _keep_connected(self) -> None:
        """Connects, waits until the connection is lost, and so on; ends only by being cancelled."""
        async with telling_kafka_outages(self._kafka, self._topics):
            await self._connect_whenever_lost()

    async def _connect_whenever_lost(self) -> None:
        pause = _FIRST_PAUSE_SECONDS
        while True:
            producer = durable_producer(self._kafka, max_batch_size=MAX_BATCH_BYTES)
            reason = await self._failure_to_start(producer)
            if reason is None:
                connected_at = perf_counter()
                self._take(producer)
                try:
                    await self._until_lost(producer)
                except Exception:
                    self._give_up(producer, "not_watched")
                    raise
                if perf_counter() - connected_at > _LONGEST_PAUSE_SECONDS:
                    pause = _FIRST_PAUSE_SECONDS
                    continue
            else:
                if self._reason != reason:
                    _log.warning("kafka_unavailable", reason=reason, outage="kafka")
                self._set_reason(reason)
                self._settled.set()
                self._lanes.refuse(reason)
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)

    async def _failure_to_start(self, producer: AIOKafkaProducer) -> str | None:
        """Starts the producer; None when it is ready, else why not (it is closed then)."""
        reason: str | None = None
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await producer.start()
                # Asked for all topics, a broker does not create those that are missing.
                present = await producer.client.fetch_all_metadata()
            missing = sorted(self._topics - set(present.topics()))
            self._facts.see_partitions(present)
            if not missing:
                await self._facts.ask_limits(producer.client)
            else:
                reason = f"Kafka has no topic {missing[0]}: run kyb-stream migrate"
        except (KafkaError, OSError, TimeoutError) as error:
            reason = f"Kafka cannot be reached ({type(error).__name__})"
        except BaseException:
            await _close(producer, 0)
            raise
        if reason is not None:
            await _close(producer, 0)
        return reason

    def _take(self, producer: AIOKafkaProducer) -> None:
        self._lost.clear()
        self._producer = producer
        self._lanes.use(producer)
        self._set_reason(None)
        self._settled.set()
        _log.info("kafka_connected")

    async def _until_lost(self, producer: AIOKafkaProducer) -> None:
        """Returns when the producer was given up; tries the broker when nothing was acknowledged for a while."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(PROBE_SECONDS):
                    await self._lost.wait()
                return
            self._facts.see_partitions(producer.client.cluster)
            await self._facts.ask_limits_again(producer.client)
            if perf_counter() - self._last_ack < PROBE_SECONDS:
                continue
            try:
                async with asyncio.timeout(PROBE_SECONDS):
                    answered = await producer.client.force_metadata_update()
            except (KafkaError, OSError, TimeoutError):
                answered = False
            if not answered:
                self._give_up(producer, "unreachable")

    async def _close(self, producer: AIOKafkaProducer, seconds: float) -> None:
        await _close(producer, seconds)
        self._lanes.forget(producer)

    def _set_reason(self, reason: str | None) -> None:
        self._reason = reason
        self._metrics.kafka_up.set(1 if reason is None else 0)

    def _retire(self, producer: AIOKafkaProducer, seconds: float) -> None:
        task = asyncio.create_task(self._close(producer, seconds), name="kafka-producer-retiring")
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)


async def _close(producer: AIOKafkaProducer, seconds: float) -> None:
    """Closes the producer, giving what is under way `seconds`."""
    if seconds > 0:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await producer.flush()
    await close_producer(producer)

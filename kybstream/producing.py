"""A durable producer that is replaced when it fails.

aiokafka's idempotent producer is of no use any more after an error that it does not retry: the batch has taken its place in the
sequence of its partition, and the broker refuses all that follows (`OutOfOrderSequenceNumber`). A partition without a leader is
enough. One that does not acknowledge in time is replaced as well: it may be stuck.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, MessageSizeTooLargeError, RecordListTooLargeError

from kybstream.errors import KybStreamError, UnavailableError

CLOSE_SECONDS = 2.0
"""How long each step of closing a producer may take; with the broker gone it would wait for ever."""

_log = structlog.get_logger(__name__)


class RecordTooLargeError(KybStreamError):
    """Kafka does not take a record of this size, here or on this topic: sending it again will not help."""


class ReplacedProducer:
    """Sends records one by one, by a producer that is made anew after a failure; safe to use from several tasks at once.

    Args:
        make: Makes a producer, not started.
    """

    def __init__(self, make: Callable[[], AIOKafkaProducer]) -> None:
        self._make = make
        self._producer: AIOKafkaProducer | None = None
        self._one_starts = asyncio.Lock()
        self._closing: set[asyncio.Task[None]] = set()

    async def start(self, seconds: float) -> None:
        """Connects, so that a missing Kafka is known before anything is to be sent.

        Raises:
            UnavailableError: Kafka does not answer in time.
        """
        try:
            async with asyncio.timeout(seconds):
                await self._started()
        except (KafkaError, OSError, TimeoutError) as error:
            raise UnavailableError(f"Kafka cannot be reached ({type(error).__name__})") from None

    async def send(
        self, topic: str, value: bytes, *, key: bytes | None, headers: Sequence[tuple[str, bytes]], seconds: float
    ) -> None:
        """Returns when all in-sync replicas have the record.

        Raises:
            UnavailableError: They have not in time. The record may be in the topic nevertheless; sending it again is right.
            RecordTooLargeError: They never will.
        """
        producer: AIOKafkaProducer | None = None
        try:
            async with asyncio.timeout(seconds):
                producer = await self._started()
                await producer.send_and_wait(topic, value, key=key, headers=headers)
        except (MessageSizeTooLargeError, RecordListTooLargeError) as error:
            self._replace(producer, type(error).__name__)
            raise RecordTooLargeError(f"topic {topic} does not take a record of {len(value)} bytes") from None
        except (KafkaError, OSError, TimeoutError) as error:
            self._replace(producer, type(error).__name__)
            raise UnavailableError(f"topic {topic} does not take records ({type(error).__name__})") from None

    async def stop(self) -> None:
        """Closes it; what was not acknowledged is given up. Takes a few seconds at most."""
        if self._producer is not None:
            self._close_soon(self._producer)
            self._producer = None
        if self._closing:
            await asyncio.wait(self._closing)

    async def _started(self) -> AIOKafkaProducer:
        async with self._one_starts:
            if self._producer is None:
                producer = self._make()
                try:
                    await producer.start()
                except BaseException:
                    self._close_soon(producer)
                    raise
                self._producer = producer
            return self._producer

    def _replace(self, producer: AIOKafkaProducer | None, reason: str) -> None:
        if producer is not None and producer is self._producer:
            _log.warning("kafka_producer_replaced", reason=reason, outage="kafka")
            self._producer = None
            self._close_soon(producer)

    def _close_soon(self, producer: AIOKafkaProducer) -> None:
        task = asyncio.create_task(close_producer(producer), name="kafka-producer-closing")
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)


async def close_producer(producer: AIOKafkaProducer) -> None:
    """Closes a producer within bounds, whatever it still has to send, and ends what `stop` leaves running."""
    sender, accumulator = producer._sender, producer._message_accumulator  # noqa: SLF001
    with suppress(Exception):
        async with asyncio.timeout(CLOSE_SECONDS):
            await sender.close()
    # `stop` waits for what is left here, and goes on sending it.
    accumulator._batches.clear()  # noqa: SLF001
    accumulator._pending_batches.clear()  # noqa: SLF001
    with suppress(Exception):
        async with asyncio.timeout(CLOSE_SECONDS):
            await producer.stop()

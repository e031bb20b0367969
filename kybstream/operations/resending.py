"""Writing records to their topics again: in order, with a bounded number of them under way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from kybstream.errors import RunError, UnavailableError
from kybstream.kafka import durable_producer, unreachable
from kybstream.settings import KafkaSettings
from schemas.cloudevents import cloud_event_headers
from schemas.codec import encode
from schemas.records import Replay
from schemas.topics import REPLAYS

MOST_RECORDS = 500
"""Records that may wait for their acknowledgement."""

MOST_BYTES = 16 * 1024 * 1024
"""Bytes of their values; reached, the next record waits until all are acknowledged."""

_START_SECONDS = 10.0
_ACK_SECONDS = 30.0
_STOP_SECONDS = 2.0


class Resender:
    """Writes records; those of one partition keep their order."""

    def __init__(self, kafka: KafkaSettings, producer: AIOKafkaProducer) -> None:
        self._kafka = kafka
        self._producer = producer
        self._under_way: list[asyncio.Future[object]] = []
        self._bytes = 0

    async def send(self, topic: str, key: bytes | None, value: bytes | None, headers: Sequence[tuple[str, bytes]]) -> None:
        """Hands one record over; waits first when too much is under way.

        Raises:
            UnavailableError: Kafka does not acknowledge; sending all again is safe.
            RunError: Kafka refuses a record.
        """
        if len(self._under_way) >= MOST_RECORDS or self._bytes >= MOST_BYTES:
            await self.flush()
        with _in_our_words(self._kafka):
            async with asyncio.timeout(_ACK_SECONDS):
                self._under_way.append(await self._producer.send(topic, key=key, value=value, headers=list(headers)))
        self._bytes += len(value or b"")

    async def flush(self) -> None:
        """Returns when everything handed over is acknowledged; raises as `send`."""
        under_way, self._under_way, self._bytes = self._under_way, [], 0
        with _in_our_words(self._kafka):
            async with asyncio.timeout(_ACK_SECONDS):
                await asyncio.gather(*under_way)

    async def record(self, replays: Sequence[Replay]) -> None:
        """Writes down who replayed what, and returns when that is acknowledged; raises as `send`."""
        for replay in replays:
            key = (replay.dead_letter_id or replay.replay_id).encode()
            await self.send(self._kafka.topic_prefix + REPLAYS, key, encode(replay), cloud_event_headers(replay))
        await self.flush()


@asynccontextmanager
async def resending(kafka: KafkaSettings) -> AsyncIterator[Resender]:
    """What writes records again, stopped at the end; what was not flushed may be lost.

    Raises:
        UnavailableError: Kafka cannot be reached.
    """
    producer = durable_producer(kafka)
    try:
        with _in_our_words(kafka):
            async with asyncio.timeout(_START_SECONDS):
                await producer.start()
        yield Resender(kafka, producer)
    finally:
        with suppress(TimeoutError):
            # A producer whose broker is gone never stops by itself.
            await asyncio.wait_for(producer.stop(), _STOP_SECONDS)


@contextmanager
def _in_our_words(kafka: KafkaSettings) -> Iterator[None]:
    try:
        yield
    except TimeoutError:
        raise UnavailableError(
            f"Kafka at {kafka.bootstrap_servers} did not acknowledge in {_ACK_SECONDS:.0f} s",
            hint="Run it again: what was written twice is processed once.",
        ) from None
    except KafkaError as error:
        if error.retriable:
            raise unreachable(kafka, error) from None
        raise RunError(f"Kafka at {kafka.bootstrap_servers} refused a record: {type(error).__name__}") from None
    except OSError as error:
        raise unreachable(kafka, error) from None

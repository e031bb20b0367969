"""Workers as in production: processes of their own, static members of one group, on topics that a load is written to."""

from __future__ import annotations

import asyncio
import random
import shutil
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from deploy.embedded.configuration import new_configuration, write_configuration
from kybstream.kafka import client_options, ensure_topics, reading
from kybstream.settings import Settings, load_settings
from schemas.topics import ALL_TOPICS, CASE_EVENTS, LINKS, RAW
from streams.worker import changelog_topics
from tests.chaos.production import PROGRESS_SECONDS, Component
from tests.chaos.streams_load import Load
from tests.support.body_keys import ENCRYPTION
from tests.support.waiting import wait_until

CHUNK = 100
STOP_SECONDS = 30.0
LONGEST_SECONDS = 900.0


@dataclass(frozen=True)
class Station:
    """Where one worker runs: its configuration and its local state."""

    worker: Component
    data_dir: Path

    async def start(self) -> None:
        """Starts it, and waits until it is ready."""
        self.worker.start()
        await self.worker.ready()

    async def stop(self) -> None:
        """Ends it as an operator does: SIGTERM."""
        self.worker.running.send(signal.SIGTERM)
        assert await self.worker.running.ended(STOP_SECONDS) == 0, self.worker.running.output

    def delete_store(self) -> None:
        """Deletes its local state; it must not run."""
        assert self.data_dir.exists()
        shutil.rmtree(self.data_dir)


@dataclass
class Fleet:
    """Two stations on one set of topics, and a load that is being written.

    Attributes:
        settings: Of the first worker.
        first: Runs from the beginning.
        second: Does not yet.
        load: What is written.
        rate: How many records of it a second, at most.
        written: How many so far.
    """

    settings: Settings
    first: Station
    second: Station
    load: Load
    rate: float
    consumer: AIOKafkaConsumer
    admin: AIOKafkaAdminClient
    written: int = 0

    async def write(self) -> None:
        """Writes the load. It needs the broker to answer in the end, not all the time."""
        began = time.monotonic()
        options = client_options(self.settings.kafka)
        async with AIOKafkaProducer(**options, acks="all", enable_idempotence=True, linger_ms=5) as producer:
            sent = []
            for message in self.load.messages():
                topic = self.settings.topic(message.topic)
                sent.append(await producer.send(topic, message.value, key=message.key, headers=message.headers))
                if len(sent) >= CHUNK:
                    await asyncio.gather(*sent)
                    self.written += len(sent)
                    sent.clear()
                    await asyncio.sleep(max(0.0, began + self.written / self.rate - time.monotonic()))
            await asyncio.gather(*sent)
            self.written += len(sent)

    async def committed(self, *, every_topic: bool = False) -> int:
        """Raw deliveries, or all records, that the workers will not be given again."""
        offsets = await self.admin.list_consumer_group_offsets(self.settings.worker.group)
        raw = self.settings.topic(RAW)
        return sum(each.offset for partition, each in offsets.items() if every_topic or partition.topic == raw)

    async def gets_on(self, deliveries: int) -> None:
        """Waits until so many more deliveries are committed, or all."""
        goal = min((await self._or_none() or 0) + deliveries, self.load.deliveries)

        async def reached() -> bool:
            return (await self._or_none() or 0) >= goal

        await self._reaches(reached, f"{goal} deliveries are committed")

    async def drained(self) -> None:
        """Waits until the workers have committed all that is in their topics."""
        partitions = [each for suffix in (RAW, LINKS, CASE_EVENTS) for each in self._partitions(suffix)]

        async def committed() -> bool:
            # The offsets first: what is told meanwhile is not committed yet.
            offsets = await self.admin.list_consumer_group_offsets(self.settings.worker.group)
            ends = await self.consumer.end_offsets(partitions)
            return all(each in offsets and offsets[each].offset == end for each, end in ends.items() if end)

        await self._reaches(committed, "everything is committed")

    async def _reaches(self, reached: Callable[[], Awaitable[bool]], what: str) -> None:
        """Waits as long as the workers get on: how fast they are is not the question here."""
        done, since = -1, time.monotonic()

        async def reached_or_stuck() -> bool:
            nonlocal done, since
            for station in (self.first, self.second):
                process = station.worker.process
                assert process is None or process.exit_code in {None, 0}, process.output
            if await reached():
                return True
            now = await self._or_none(every_topic=True) or done
            if now != done:
                done, since = now, time.monotonic()
            assert time.monotonic() - since < PROGRESS_SECONDS, f"nothing was committed for {PROGRESS_SECONDS:g} s: {what}"
            return False

        await wait_until(reached_or_stuck, LONGEST_SECONDS, what)

    def _partitions(self, suffix: str) -> list[TopicPartition]:
        return [TopicPartition(self.settings.topic(suffix), number) for number in range(self.settings.kafka.partitions)]

    async def _or_none(self, *, every_topic: bool = False) -> int | None:
        """What is committed; None while the broker is restarted."""
        try:
            return await self.committed(every_topic=every_topic)
        except (KafkaError, OSError, TimeoutError):
            return None


@asynccontextmanager
async def fleet(
    folder: Path, *, bootstrap_servers: str, topic_prefix: str, deliveries: int, rate: float, dice: random.Random
) -> AsyncIterator[Fleet]:
    """Topics of this prefix, a load for them, and a worker that runs."""
    stations, settings = [], None
    for name in ("worker-0", "worker-1"):
        place = folder / name
        place.mkdir()
        values = new_configuration(bootstrap_servers=bootstrap_servers, clickhouse_port=1, ingress_port=1)
        values["kafka"] = {"bootstrap_servers": bootstrap_servers, "topic_prefix": topic_prefix}
        values["worker"] = {"group": f"{topic_prefix}worker", "instance": name, "data_dir": str(place / "data")}
        values["encryption"] = ENCRYPTION
        keys = {"pseudonym_key": "pseudonym-key-of-acme", "case_token_keys": ["token-key-of-acme-000"]}
        values["tenants"] = [{"name": "acme", **keys}]
        write_configuration(place / "kyb-stream.toml", values, comment="Made by the tests.")
        settings = settings or load_settings(place / "kyb-stream.toml", {})
        stations.append(Station(Component("worker", place / "kyb-stream.toml", place), place / "data"))
    assert settings is not None
    topics = {settings.topic(topic.suffix): topic.config(settings.kafka) for topic in ALL_TOPICS}
    await ensure_topics(settings.kafka, topics | changelog_topics(settings))
    load = Load(settings, deliveries, dice, datetime.now(UTC).replace(microsecond=0) - timedelta(hours=1))
    admin = AIOKafkaAdminClient(**client_options(settings.kafka))
    async with reading(settings.kafka) as consumer:
        try:
            await admin.start()
            yield Fleet(settings, stations[0], stations[1], load, rate, consumer, admin)
        finally:
            await admin.close()
            await asyncio.gather(*(each.worker.process.close() for each in stations if each.worker.process))

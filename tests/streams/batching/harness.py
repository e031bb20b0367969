"""Topics, records and worker processes for the tests of this folder."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from streams.batching import Record
from tests.streams.batching.dedupe_worker import WorkerConfig

ROOT = Path(__file__).parents[3]
WORKER = "tests.streams.batching.dedupe_worker"
LONG = bool(os.environ.get("KYB_STREAM_LONG_TESTS"))
"""Set the variable for the long forms: more records, more kills, and the sabotaged control on a real Kafka."""


class Worker:
    """A dedupe worker in a process of its own."""

    def __init__(self, config: WorkerConfig, log: Path) -> None:
        self.log = log
        with log.open("ab") as out:
            self._process = subprocess.Popen(
                [sys.executable, "-m", WORKER, msgspec.json.encode(config).decode()],
                stdout=out,
                stderr=subprocess.STDOUT,
                cwd=ROOT,
            )

    @property
    def exit_code(self) -> int | None:
        """The exit code, or None while it runs."""
        return self._process.poll()

    async def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        self._process.kill()
        await asyncio.to_thread(self._process.wait)

    async def stop(self, seconds: float = 15) -> int:
        """SIGTERM; returns the exit code."""
        self._process.terminate()
        return await self.ended(seconds)

    async def ended(self, seconds: float) -> int:
        """Wait for its end; returns the exit code."""
        return await asyncio.to_thread(self._process.wait, seconds)


class Lab:
    """One test's topics on a broker; everything is named after a random run id, and nothing is left running."""

    def __init__(self, bootstrap: str, folder: Path, partitions: int = 4) -> None:
        self.run = f"t{uuid.uuid4().hex[:10]}"
        self.bootstrap = bootstrap
        self.folder = folder
        self.partitions = partitions
        self._workers: list[Worker] = []

    async def __aenter__(self) -> Self:
        self._admin = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap)
        self._producer = AIOKafkaProducer(
            bootstrap_servers=self.bootstrap, acks="all", enable_idempotence=True, linger_ms=5, max_batch_size=200_000
        )
        self._consumer = AIOKafkaConsumer(bootstrap_servers=self.bootstrap, auto_offset_reset="earliest")
        await self._admin.start()
        await self._producer.start()
        await self._consumer.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for worker in self._workers:
            if worker.exit_code is None:
                await worker.kill()
            if error is not None:
                print(worker.log.read_text()[-4000:])  # noqa: T201 - shown with the failure
        await self._consumer.stop()
        await self._producer.stop()
        await self._admin.close()

    def topic(self, name: str) -> str:
        """Return the full name of a topic of this test."""
        return f"{self.run}.{name}"

    async def create(self, *names: str, config: Mapping[str, str] | None = None) -> None:
        """Create topics."""
        await self._admin.create_topics(
            [NewTopic(self.topic(name), self.partitions, 1, topic_configs=dict(config or {})) for name in names]
        )

    async def create_full(self, topic: str) -> None:
        """Create a compacted topic by its full name."""
        compacted = {"cleanup.policy": "compact"}
        await self._admin.create_topics([NewTopic(topic, self.partitions, 1, topic_configs=compacted)])

    async def end_of(self, topic: str, partition: int) -> int:
        """Return the end of a partition of a topic (full name), which may be beyond its last record."""
        part = TopicPartition(topic, partition)
        return int((await self._consumer.end_offsets([part]))[part])

    async def produce(self, name: str, values: Iterable[bytes], headers: Iterable[tuple[str, bytes]] = ()) -> None:
        """Write values, each its own key."""
        sent = [await self._producer.send(self.topic(name), value, key=value, headers=list(headers)) for value in values]
        await asyncio.gather(*sent)

    async def send(self, name: str, key: bytes, value: bytes) -> None:
        """Write one record."""
        await self._producer.send_and_wait(self.topic(name), value, key=key)

    async def append(self, topic: str, partition: int, key: bytes, value: bytes) -> None:
        """Write one record to a topic by its full name, as another process would."""
        await self._producer.send_and_wait(topic, value, key=key, partition=partition)

    async def end(self, topic: str) -> int:
        """Return how many records a topic (full name) has had."""
        parts = [TopicPartition(topic, number) for number in range(self.partitions)]
        return sum((await self._consumer.end_offsets(parts)).values())

    async def read(self, topic: str) -> list[Record]:
        """Return all records of a topic (full name), partition by partition."""
        parts = [TopicPartition(topic, number) for number in range(self.partitions)]
        self._consumer.assign(parts)
        ends = await self._consumer.end_offsets(parts)
        await self._consumer.seek_to_beginning(*parts)
        records: list[Any] = []
        while any([await self._consumer.position(part) < ends[part] for part in parts]):
            for chunk in (await self._consumer.getmany(timeout_ms=500)).values():
                records += chunk
        records.sort(key=lambda r: (r.partition, r.offset))
        return [Record(r.topic, r.partition, r.offset, r.timestamp, r.key, r.value, r.headers) for r in records]

    async def committed(self, app_id: str) -> int:
        """Return the sum of a group's committed offsets."""
        return sum((await self.commits(app_id)).values())

    async def commits(self, app_id: str) -> dict[int, int]:
        """Return a group's committed offsets by partition number; those of all its topics are added up."""
        commits: dict[int, int] = {}
        for part, found in (await self._admin.list_consumer_group_offsets(app_id)).items():
            if found.offset >= 0:
                commits[part.partition] = commits.get(part.partition, 0) + found.offset
        return commits

    def config(self, *sources: str, app: str = "dedupe", **options: Any) -> WorkerConfig:
        """Return the configuration of a worker from `sources` to `out`."""
        app_id = self.topic(app)
        return WorkerConfig(
            app_id=app_id,
            broker=self.bootstrap,
            sources=[self.topic(name) for name in sources],
            target=self.topic("out"),
            datadir=str(self.folder / app_id),
            partitions=self.partitions,
            **options,
        )

    def start(self, config: WorkerConfig) -> Worker:
        """Start a worker."""
        worker = Worker(config, self.folder / "worker.log")
        self._workers.append(worker)
        return worker

    async def state(self, config: WorkerConfig) -> dict[bytes, bytes]:
        """Return the worker's state as its changelog has it."""
        state: dict[bytes, bytes] = {}
        for record in await self.read(f"{config.app_id}-seen-changelog"):
            if record.key is not None and record.value is not None:
                state[record.key] = record.value
            elif record.key is not None:
                state.pop(record.key, None)
        return state


def first_places(records: Iterable[Record]) -> dict[bytes, bytes]:
    """Return each id's first topic and offset: the state a worker must end with."""
    places: dict[bytes, bytes] = {}
    for record in records:
        if record.value is not None:
            places.setdefault(record.value, f"{record.topic}:{record.offset}".encode())
    return places

"""The three components as in production: processes of their own, on a real Kafka, killed and started again at will."""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from deploy.embedded.configuration import new_configuration, write_configuration
from deploy.embedded.ports import free_port
from kybstream.kafka import client_options, reading
from kybstream.settings import Settings, load_settings
from schemas.topics import DELIVERIES, RAW
from sinks.query import query
from tests.support.commands import Background, kyb_stream
from tests.support.waiting import wait_until

READY_SECONDS = 60.0
PROGRESS_SECONDS = 90.0

Count = Callable[[], Awaitable[int]]


@dataclass
class Component:
    """One component, started by its public command.

    Attributes:
        name: ingress, worker or sink.
        config_path: Its configuration.
        folder: For its logs (one a start) and its ready file.
        starts: How often it was started.
    """

    name: str
    config_path: Path
    folder: Path
    starts: int = 0
    process: Background | None = field(default=None, repr=False)

    @property
    def running(self) -> Background:
        """Its process."""
        assert self.process is not None
        return self.process

    def start(self) -> None:
        """Starts it, and does not wait."""
        self.starts += 1
        self._ready_file.unlink(missing_ok=True)
        arguments = ("--config", str(self.config_path), "--ready-file", str(self._ready_file))
        log = self.folder / f"{self.name}-{self.starts}.log"
        self.process = Background(self.name, *arguments, log=log)

    async def ready(self, deadline_seconds: float = READY_SECONDS) -> None:
        """Waits until it says that it is ready."""

        def there() -> bool:
            assert self.running.exit_code is None, self.running.output
            return self._ready_file.exists()

        await wait_until(there, deadline_seconds, f"the {self.name} is ready")

    async def kill(self) -> None:
        """SIGKILL."""
        self.running.send(signal.SIGKILL)
        assert await self.running.ended() == -signal.SIGKILL, self.running.output

    async def kill_often(self, times: int, done: Count, written: Count, total: int, dice: random.Random) -> None:
        """Kills it when a random share more is done, and starts it again at once.

        Two of three times it is killed once more: while it starts, or as soon as it has written something, when none of that
        can be committed yet.

        Args:
            times: How often, second kills not counted.
            done: How many of `total` are done for good; reaches `total`.
            written: How many it has written, repeated ones too.
            total: All there is to do.
            dice: Chooses the moments.
        """
        for left in range(times, 0, -1):
            before = await done()
            await self._reaches(done, min(total, before + dice.randint(1, max(1, (total - before) // (left + 1)))))
            await asyncio.sleep(dice.random())  # commits are a second apart: any moment between two
            await self.kill()
            self.start()
            if left % 3 == 1 and await done() < total:
                await self._reaches(written, await written() + 1)
                await self.kill()
                self.start()
            elif left % 3 == 0:
                await asyncio.sleep(dice.uniform(0.1, 3.0))
                await self.kill()
                self.start()

    async def _reaches(self, count: Count, goal: int) -> None:
        async def reached() -> bool:
            assert self.running.exit_code is None, self.running.output
            return await count() >= goal

        await wait_until(reached, PROGRESS_SECONDS, f"{self.name}: {goal}")

    @property
    def _ready_file(self) -> Path:
        return self.folder / f"{self.name}.ready"


@dataclass
class Production:
    """The components and their configuration."""

    settings: Settings
    config_path: Path
    ingress: Component
    worker: Component
    sink: Component
    consumer: AIOKafkaConsumer
    admin: AIOKafkaAdminClient

    async def committed(self) -> int:
        """Raw deliveries that the worker will not be given again."""
        offsets = await self.admin.list_consumer_group_offsets(self.settings.worker.group)
        return sum(each.offset for partition, each in offsets.items() if partition.topic == self.settings.topic(RAW))

    async def told(self) -> int:
        """Records in the topic of deliveries, repeated ones too."""
        topic = self.settings.topic(DELIVERIES)
        ends = await self.consumer.end_offsets([TopicPartition(topic, each) for each in range(self.settings.kafka.partitions)])
        return sum(ends.values())

    async def landed(self) -> int:
        """Deliveries in ClickHouse."""
        return await self._rows(final=True)

    async def inserted(self) -> int:
        """Rows of deliveries in ClickHouse, repeated ones too."""
        return await self._rows(final=False)

    async def _rows(self, *, final: bool) -> int:
        answer = await query(self.settings.clickhouse, "SELECT count() FROM deliveries", final=final)
        return int(str(answer.rows[0][0]))


@asynccontextmanager
async def production(folder: Path, *, bootstrap_servers: str, clickhouse_url: str, name: str) -> AsyncIterator[Production]:
    """Topics and tables of this name's own, and the three components running on them."""
    values = new_configuration(bootstrap_servers=bootstrap_servers, clickhouse_port=1, ingress_port=free_port())
    values["kafka"] = {"bootstrap_servers": bootstrap_servers, "topic_prefix": f"{name}."}
    values["clickhouse"] = {"url": clickhouse_url, "database": name}
    values["worker"] = {"group": f"{name}-worker", "instance": "chaos", "data_dir": str(folder / "worker-data")}
    values["sink"] = {"group": f"{name}-sink"}
    config_path = folder / "kyb-stream.toml"
    write_configuration(config_path, values, comment="Made by the tests.")
    migrated = await kyb_stream("migrate", "--config", str(config_path))
    assert migrated.exit_code == 0, migrated
    settings = load_settings(config_path, {})
    ingress, worker, sink = components = [Component(each, config_path, folder) for each in ("ingress", "worker", "sink")]
    admin = AIOKafkaAdminClient(**client_options(settings.kafka))
    async with reading(settings.kafka) as consumer:
        try:
            await admin.start()
            for component in components:
                component.start()
            await asyncio.gather(*(component.ready() for component in components))
            yield Production(settings, config_path, ingress, worker, sink, consumer, admin)
        finally:
            await admin.close()
            await asyncio.gather(*(each.process.close() for each in components if each.process))

"""A worker killed under load, another beside it: for how long nothing is told of the partitions of the killed one."""

from __future__ import annotations

import asyncio
import itertools
import subprocess
import sys
import time
from pathlib import Path

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from bench.state.filling import PARTITIONS, SECRET, kyb_delivery
from deploy.embedded.configuration import write_configuration
from kybstream.settings import Settings
from schemas.codec import encode
from schemas.topics import DELIVERIES, RAW

RATE = 200
"""Deliveries a second."""

_READY_SECONDS = 240.0
_AWAY_SECONDS = 240.0


class _Worker:
    """The public command, in a process of its own."""

    def __init__(self, settings: Settings, scratch: Path, name: str) -> None:
        self.ready = scratch / f"{name}.ready"
        config = scratch / f"{name}.toml"
        kafka = settings.kafka.model_dump(include={"bootstrap_servers", "partitions"})
        worker = {"data_dir": str(scratch / name), "instance": name, "health_port": 0}
        tenant = {"name": "acme", "pseudonym_key": SECRET, "case_token_keys": [SECRET]}
        write_configuration(config, {"kafka": kafka, "worker": worker, "tenants": [tenant]}, comment="of one run")
        command = [sys.executable, "-m", "kybstream.cli", "worker", "--config", str(config), "--ready-file", str(self.ready)]
        self.log = scratch / f"{name}.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)

    async def is_ready(self) -> None:
        """Waits until it processes batches."""
        async with asyncio.timeout(_READY_SECONDS):
            while not self.ready.exists():
                if self.process.poll() is not None:
                    raise AssertionError(self.log.read_text()[-2_000:])
                await asyncio.sleep(0.1)

    def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()
        self.process.wait()


class _Load:
    """Deliveries at a steady rate, and when the last verdict of each partition was told."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.told_at = dict.fromkeys(range(PARTITIONS), 0.0)
        self.longest = dict.fromkeys(range(PARTITIONS), 0.0)

    async def send(self) -> None:
        """Deliveries of companies of their own, until it is cancelled."""
        topic = self._settings.topic(RAW)
        async with AIOKafkaProducer(bootstrap_servers=self._settings.kafka.bootstrap_servers) as producer:
            for number in itertools.count():
                delivery = kyb_delivery(f"load-{number}")
                await producer.send(topic, encode(delivery), key=(delivery.entity_key or "").encode())
                await asyncio.sleep(1 / RATE)

    async def watch(self) -> None:
        """Notes the longest silence of each partition, until it is cancelled."""
        options = {"bootstrap_servers": self._settings.kafka.bootstrap_servers, "auto_offset_reset": "latest"}
        async with AIOKafkaConsumer(**options) as consumer:
            consumer.assign([TopicPartition(self._settings.topic(DELIVERIES), number) for number in range(PARTITIONS)])
            while True:
                for part in await consumer.getmany(timeout_ms=100):
                    now = time.perf_counter()
                    if self.told_at[part.partition]:
                        silence = now - self.told_at[part.partition]
                        self.longest[part.partition] = max(self.longest[part.partition], silence)
                    self.told_at[part.partition] = now

    async def all_told_since(self, moment: float) -> None:
        """Waits until there was a verdict in each partition after that moment."""
        async with asyncio.timeout(_AWAY_SECONDS):
            while min(self.told_at.values()) < moment:  # noqa: ASYNC110 (a poll of what another task writes)
                await asyncio.sleep(0.05)


async def seconds_without_verdict(settings: Settings, scratch: Path) -> float:
    """Kills one of two workers under load; the longest silence of a partition.

    Args:
        settings: Of the first worker, which has its local store.
        scratch: Where the second has its own.
    """
    first = _Worker(settings, Path(settings.worker.data_dir).parent, Path(settings.worker.data_dir).name)
    load = _Load(settings)
    workers = [first]
    tasks: list[asyncio.Task[None]] = []
    try:
        await first.is_ready()
        workers.append(_Worker(settings, scratch, "second"))
        await workers[1].is_ready()
        tasks = [asyncio.create_task(load.send()), asyncio.create_task(load.watch())]
        await load.all_told_since(time.perf_counter() + 2)
        killed = time.perf_counter()
        load.longest = dict.fromkeys(range(PARTITIONS), 0.0)
        await asyncio.to_thread(first.kill)
        # The partitions of the second worker are silent, too, from the end of the first one's session on.
        await load.all_told_since(killed + 1)
        await load.all_told_since(time.perf_counter())
        return max(load.longest.values())
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for worker in workers:
            worker.kill()

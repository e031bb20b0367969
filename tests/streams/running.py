"""A worker on a real broker: in this process, or as the public command in a process of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import msgspec
import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient

from deploy.embedded.configuration import write_configuration
from deploy.embedded.ports import free_port
from kybstream.errors import RunError
from kybstream.kafka import client_options, ensure_topics, require_topics
from kybstream.settings import Settings
from schemas.codec import encode
from schemas.topics import ALL_TOPICS, RAW
from streams.batching.records import Record as KafkaRecord
from streams.worker import Clock, changelog_topics, run_worker, utc_now
from tests.streams.pipeline import Door, as_record, kyb_body
from tests.support.topics import whole_topic
from tests.support.waiting import wait_until

PARTITIONS = 2
TENANT = {"name": "acme", "pseudonym_key": "pseudonym-key-of-acme", "case_token_keys": ["token-key-of-acme-000"]}
READY_SECONDS = 30.0


@dataclass(frozen=True)
class Lab:
    """Topics of a test's own, and what goes in and out of them."""

    settings: Settings
    producer: AIOKafkaProducer
    admin: AIOKafkaAdminClient

    async def send(self, records: Iterable[KafkaRecord]) -> None:
        """Writes records to the topics they name, below this lab's prefix."""
        for record in records:
            topic = self.settings.topic(record.topic.removeprefix("kyb."))
            await self.producer.send_and_wait(topic, record.value, key=record.key)

    async def committed(self) -> int:
        """Raw deliveries that a worker will not be given again."""
        offsets = await self.admin.list_consumer_group_offsets(self.settings.worker.group)
        return sum(each.offset for partition, each in offsets.items() if partition.topic == self.settings.topic(RAW))

    async def read(self, suffix: str) -> list[bytes]:
        """The values of all records of a topic."""
        records = await whole_topic(self.settings.kafka, self.settings.topic(suffix), PARTITIONS)
        return [record.value for record in records]

    async def all_committed(self, count: int) -> None:
        """Waits until so many raw deliveries are committed."""

        async def committed() -> bool:
            return await self.committed() == count

        await wait_until(committed, READY_SECONDS, f"{count} deliveries are committed")

    @property
    def url(self) -> str:
        """Where the health pages are."""
        return f"http://127.0.0.1:{self.settings.worker.health_port}"


@asynccontextmanager
async def lab(bootstrap: str, prefix: str, folder: Path, **worker: object) -> AsyncIterator[Lab]:
    """Topics under this prefix, and settings of a worker on them with health pages; `worker` adds to its section."""
    settings = Settings.model_validate(
        {
            "kafka": {"bootstrap_servers": bootstrap, "topic_prefix": prefix, "partitions": PARTITIONS},
            "worker": {
                "group": f"{prefix}worker",
                "instance": "worker-0",  # the one after a killed one has its partitions at once
                "data_dir": str(folder / "worker"),
                "commit_interval_seconds": 0.2,
                "timer_seconds": 3_600,  # the cases of these tests are past their deadline: none expires but at a start
                "health_port": free_port(),
                **worker,
            },
            "tenants": [TENANT],
        }
    )
    # Some records here are of long ago, and the embedded broker deletes what is past its retention within a second.
    kept = {"retention.ms": "-1"}
    topics = {settings.topic(topic.suffix): {**topic.config(settings.kafka), **kept} for topic in ALL_TOPICS}
    topics |= changelog_topics(settings)
    await ensure_topics(settings.kafka, topics)
    await topics_are_there(settings, topics)
    options = client_options(settings.kafka)
    async with AIOKafkaProducer(**options, acks="all") as producer:
        admin = AIOKafkaAdminClient(**options)
        await admin.start()
        try:
            yield Lab(settings, producer, admin)
        finally:
            await admin.close()


async def topics_are_there(settings: Settings, topics: Iterable[str]) -> None:
    """Waits until the broker lists topics that it has just made."""

    async def there() -> bool:
        try:
            await require_topics(settings.kafka, topics)
        except RunError:
            return False
        return True

    await wait_until(there, 10, "the topics are there")


def write_config(settings: Settings, folder: Path) -> Path:
    """The settings of a lab as a file, for the command."""
    path = folder / "kyb-stream.toml"
    kafka = settings.kafka.model_dump(include={"bootstrap_servers", "topic_prefix", "partitions"})
    worker = settings.worker.model_dump(exclude_none=True)
    write_configuration(path, {"kafka": kafka, "worker": worker, "tenants": [TENANT]}, comment="Made by the tests.")
    return path


@asynccontextmanager
async def running_worker(settings: Settings, clock: Clock = utc_now) -> AsyncIterator[asyncio.Task[None]]:
    """The worker in this process, from when it is ready; it is stopped at the end, which raises what it raised."""
    stop, ready = asyncio.Event(), asyncio.Event()
    task = asyncio.create_task(run_worker(settings, stop=stop, ready=ready.set, clock=clock))
    try:
        await wait_until(lambda: ready.is_set() or task.done(), READY_SECONDS, "the worker is ready")
        yield task
    finally:
        stop.set()
        await asyncio.wait({task}, timeout=15)
    await task


async def crash_of(settings: Settings) -> Exception:
    """Runs the worker until it ends by itself; what it raised."""
    try:
        async with running_worker(settings) as task:
            await wait_until(task.done, READY_SECONDS, "the worker ends")
    except Exception as error:  # noqa: BLE001 - the tests look at it
        return error
    pytest.fail("it ended without an error")


def deliveries(count: int, door: Door | None = None) -> list[KafkaRecord]:
    """Raw records of so many deliveries, each of a case of its own."""
    made = door or Door()
    return [made.record(made.delivery(kyb_body(service_id=f"667ab56f0e4e65{made.drawn:06}"))) for _ in range(count)]


def misplaced(count: int) -> list[KafkaRecord]:
    """Raw records that are keyed by something else than they are about."""
    door = Door()
    return [
        as_record("kyb." + RAW, f"acme/another-{number}", encode(door.delivery(kyb_body(service_id=f"company-{number}"))))
        for number in range(count)
    ]


async def page(url: str) -> tuple[int, str]:
    """Status and body of a page."""
    async with aiohttp.ClientSession() as http, http.get(url, timeout=aiohttp.ClientTimeout(total=5)) as answer:
        return answer.status, await answer.text()


async def metric(url: str, name: str, **labels: str) -> float | None:
    """The value of a sample of /metrics, or the sum of those that have the labels; None when there is none."""
    _, text = await page(f"{url}/metrics")
    wanted = {f'{key}="{value}"' for key, value in labels.items()}
    found = []
    for line in text.splitlines():
        head, _, value = line.rpartition(" ")
        sample, _, rest = head.partition("{")
        if sample == name and wanted <= set(filter(None, rest.removesuffix("}").split(","))):
            found.append(float(value))
    return sum(found) if found else None


def reason_of(problem: str) -> str:
    """The `reason` of a problem document."""
    return str(msgspec.json.decode(problem, type=dict[str, object])["reason"])

"""A topic that is deleted, made anew and filled past the offset that was read, while the sink stands still."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from deploy.embedded.apache_kafka import KafkaNode
from kybstream.kafka import administering
from kybstream.settings import Settings
from schemas import topics
from tests.sinks.making import delivery, settings_for
from tests.sinks.running import DEADLINE, landed, made, make_anew, produce, row_count, running, with_sink
from tests.support.waiting import wait_until

pytestmark = pytest.mark.kafka


@pytest.fixture
def settings(apache_kafka: KafkaNode, topic_prefix: str, clickhouse_server: str, database_name: str) -> Settings:
    """A sink's settings on the real Kafka."""
    return settings_for(clickhouse_server, database_name, bootstrap=apache_kafka.bootstrap_servers, prefix=topic_prefix)


@asynccontextmanager
async def sink_process(settings: Settings) -> AsyncIterator[asyncio.subprocess.Process]:
    """A sink in a process of its own, killed at the end."""
    given = settings.model_dump(mode="json", include={"kafka", "sink"})
    given["clickhouse"] = {"url": settings.clickhouse.url, "database": settings.clickhouse.database}
    command = [sys.executable, "-m", "tests.sinks.sink_process", json.dumps(given)]
    process = await asyncio.create_subprocess_exec(*command, cwd=Path(__file__).parents[2])
    try:
        yield process
    finally:
        process.kill()
        await process.wait()


async def notes(settings: Settings) -> set[str]:
    """What the sink has committed beside its offset of the deliveries."""
    async with administering(settings.kafka) as admin:
        offsets = await admin.list_consumer_group_offsets(settings.sink.group)
    return {each.metadata for place, each in offsets.items() if place.topic == settings.topic(topics.DELIVERIES)}


async def all_landed(settings: Settings) -> None:
    """Waits for the rows of both topics."""

    async def there() -> bool:
        return await row_count(settings, "deliveries", final=True) == 36

    await wait_until(there, DEADLINE, "36 deliveries")


@pytest.mark.parametrize("killed", [False, True], ids=["notices", "killed-before"])
async def test_a_topic_made_anew_while_the_sink_stood_still_is_read_from_its_beginning(
    settings: Settings, *, killed: bool
) -> None:
    """It goes on at its old offset, in the new topic, and the newest row is of that one then; so it is at the next start."""
    await made(settings)
    settings = with_sink(settings, flush_seconds=0.1)
    async with sink_process(settings) as process:
        await produce(settings, [delivery(number) for number in range(6)])
        await landed(settings, "deliveries", 6)
        await wait_until(lambda: notes(settings), DEADLINE, "its offset is committed")
        process.send_signal(signal.SIGSTOP)
        await make_anew(settings, settings.topic(topics.DELIVERIES))
        await produce(settings, [delivery(100 + number) for number in range(30)])
        process.send_signal(signal.SIGCONT)
        if killed:
            await wait_until(lambda: notes(settings), DEADLINE, "it commits in the new topic")
        else:
            await all_landed(settings)
    async with running(settings):
        await all_landed(settings)

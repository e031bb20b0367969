"""A topic that is deleted, made anew and filled past the offset that was read, while nobody looks."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.structs import OffsetAndMetadata

from deploy.embedded.apache_kafka import KafkaNode
from kybstream.kafka import client_options, reading
from kybstream.topic_ids import note_of, topic_ids
from schemas.codec import decode
from schemas.records import Delivery
from schemas.topics import DELIVERIES, RAW
from tests.streams.pipeline import Door
from tests.streams.running import PARTITIONS, Lab, deliveries, lab, running_worker, write_config
from tests.streams.test_unread import make_anew, told
from tests.support.commands import environment
from tests.support.waiting import wait_until

pytestmark = pytest.mark.kafka


def partitions_of(given: Lab) -> list[TopicPartition]:
    """Those of the raw topic."""
    return [TopicPartition(given.settings.topic(RAW), number) for number in range(PARTITIONS)]


async def id_of(given: Lab) -> str:
    """The id of the raw topic."""
    places = partitions_of(given)
    async with reading(given.settings.kafka) as consumer:
        await consumer.beginning_offsets(places)
        (found,) = set((await topic_ids(consumer._client, places)).values())
    return found


async def commit(given: Lab, note: str) -> None:
    """Commits that all of the raw topic was read, as a worker does."""
    places = partitions_of(given)
    options = client_options(given.settings.kafka) | {"group_id": given.settings.worker.group, "enable_auto_commit": False}
    async with AIOKafkaConsumer(**options) as consumer:
        consumer.assign(places)
        ends = await consumer.end_offsets(places)
        await consumer.commit({place: OffsetAndMetadata(end, note) for place, end in ends.items()})


@asynccontextmanager
async def worker_process(given: Lab, folder: Path) -> AsyncIterator[subprocess.Popen[bytes]]:
    """The command, from when it is ready; its log is `folder/log`."""
    ready = folder / "ready"
    command = [sys.executable, "-m", "kybstream.cli", "worker", "--config", str(write_config(given.settings, folder))]
    with (folder / "log").open("wb") as output:
        process = subprocess.Popen([*command, "--ready-file", str(ready)], stdout=output, stderr=output, env=environment())  # noqa: ASYNC220 - a command of ours
    try:
        await wait_until(ready.exists, 40, "the worker is ready")
        yield process
    finally:
        process.kill()
        process.wait()


async def notes(given: Lab) -> list[str]:
    """What the worker has committed beside its offsets of the raw topic."""
    offsets = await given.admin.list_consumer_group_offsets(given.settings.worker.group)
    return [each.metadata for place, each in offsets.items() if place.topic == given.settings.topic(RAW)]


async def verdicts(given: Lab) -> list[Delivery]:
    """Of all deliveries."""
    return [decode(value, Delivery) for value in await given.read(DELIVERIES)]


async def test_a_topic_made_anew_while_the_worker_stood_still_is_read_from_its_beginning(
    apache_kafka: KafkaNode, topic_prefix: str, tmp_path: Path
) -> None:
    """It goes on at its old offset, in the new topic, and notices within seconds; the next start loses nothing either."""
    door = Door()
    async with lab(apache_kafka.bootstrap_servers, topic_prefix, tmp_path) as given:
        await given.send(deliveries(6, door))
        async with worker_process(given, tmp_path) as process:
            await given.all_committed(6)
            process.send_signal(signal.SIGSTOP)
            await make_anew(given, given.settings.topic(RAW))
            await given.send(deliveries(60, door))
            process.send_signal(signal.SIGCONT)
            anew = note_of(await id_of(given))

            async def noticed() -> bool:
                # Before that it can have committed as much, of the offsets that it went on at.
                return set(await notes(given)) == {anew}

            await wait_until(noticed, 40, "what is committed is of the new topic")
            await given.all_committed(60)
            assert len({verdict.delivery_id for verdict in await verdicts(given)}) == 66
        assert "topic_made_anew" in (tmp_path / "log").read_text()
        await given.send(deliveries(4, door))
        with structlog.testing.capture_logs() as logs:
            async with running_worker(given.settings):
                await given.all_committed(64)
        assert not [line for line in logs if line["event"] == "topic_made_anew"]
        said = {(each.delivery_id, each.verdict, each.event_id) for each in await verdicts(given)}
        assert len(said) == len({delivery for delivery, *_ in said}) == 70  # what is read twice is judged the same


async def test_an_offset_committed_of_an_earlier_topic_is_not_gone_on_at(
    apache_kafka: KafkaNode, topic_prefix: str, tmp_path: Path
) -> None:
    """A process that stood still commits in the new topic, and is killed before it notices: the next one does."""
    door = Door()
    async with lab(apache_kafka.bootstrap_servers, topic_prefix, tmp_path) as given:
        earlier = await id_of(given)
        await make_anew(given, given.settings.topic(RAW))
        await given.send(deliveries(10, door))
        await commit(given, note_of(earlier))
        with structlog.testing.capture_logs() as logs:
            async with running_worker(given.settings):
                await told(given, 10)
                await given.all_committed(10)
        made = [line for line in logs if line["event"] == "topic_made_anew"]
        assert {(line["was"], line["topic_id"]) for line in made} == {(earlier, await id_of(given))}
        assert len(made) == PARTITIONS


@pytest.mark.parametrize("note", ["this topic's id", "", "a note of somebody"])
async def test_an_offset_of_the_topic_that_is_there_is_gone_on_at(
    apache_kafka: KafkaNode, topic_prefix: str, tmp_path: Path, note: str
) -> None:
    """So is one of an older version, or of Kafka's own tools, which say nothing of the topic."""
    door = Door()
    async with lab(apache_kafka.bootstrap_servers, topic_prefix, tmp_path) as given:
        await given.send(deliveries(10, door))
        await commit(given, note_of(await id_of(given)) if note == "this topic's id" else note)
        await given.send(deliveries(3, door))
        async with running_worker(given.settings):
            await given.all_committed(13)
            await told(given, 3)

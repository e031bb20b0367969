"""A send that was given up and succeeds later is a second copy on the raw topic: whoever reads it drops the copy by its id."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from deploy.embedded.apache_kafka import KafkaNode
from kybstream.kafka import client_options, reading
from kybstream.settings import Settings
from schemas.codec import decode
from schemas.records import Case, DeadLetter, Delivery, Event, Record
from schemas.topics import CASE_EVENTS, CASES, DEAD_LETTERS, DELIVERIES, EVENTS, RAW
from tests.chaos import failures
from tests.chaos.door import Door, MakeDoor
from tests.chaos.failures import ROUNDS, TIMEOUT_SECONDS, account_of
from tests.chaos.production import Component
from tests.support.load_process import RunningLoad
from tests.support.topics import whole_topic
from tests.support.waiting import wait_until

FREEZES = 3
FROZEN_SECONDS = 1.2
"""Longer than a delivery waits for its acknowledgement, shorter than the ingress waits before it gives up its producer: all
that was handed to the producer meanwhile reaches the topic, and all of it was spooled as well."""

LOAD = failures.DELIVERIES // 4
"""Enough: this is about the copies, and the worker has to judge them all."""

WORKED_SECONDS = 120.0

R = TypeVar("R", bound=Record)

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(TIMEOUT_SECONDS)]


async def test_a_late_copy_counts_once(
    open_door: MakeDoor, breakable_kafka: KafkaNode, tmp_path: Path, dice: random.Random
) -> None:
    """The broker freezes for a moment, again and again: ids are on the raw topic twice, with equal bytes.

    The worker says the same of each copy. So by its id each delivery is there once and `new`, never a `duplicate` of itself;
    each event is there once; and no case moves twice.
    """

    async def breaking(load: RunningLoad) -> None:
        for _ in range(FREEZES * ROUNDS):
            await load.gets_on(dice.randint(LOAD // ROUNDS // 10, LOAD // ROUNDS // 5))
            breakable_kafka.pause()
            await asyncio.sleep(FROZEN_SECONDS)
            breakable_kafka.resume()

    async with open_door(spool_dir=tmp_path / "spool") as opened:
        found = await account_of(opened, breaking, LOAD)
        settings = opened.settings
    assert found.copies > 0
    # Nobody sent anything twice, so nothing may be judged a duplicate.
    assert not found.failures
    assert found.stored == found.claimed

    await work(opened, tmp_path)
    ids = found.claimed.keys()
    deliveries = await told(settings, DELIVERIES, Delivery)
    assert len(deliveries) == found.records  # it speaks of each copy
    by_delivery = once(deliveries, lambda delivery: delivery.delivery_id)
    assert by_delivery.keys() == ids
    assert Counter(delivery.verdict for delivery in by_delivery.values()) == {"new": len(ids)}
    events = once(await told(settings, EVENTS, Event), lambda event: event.event_id)
    assert events.keys() == {delivery.event_id for delivery in by_delivery.values()}
    assert sorted(event.delivery_id for event in events.values()) == sorted(ids)
    cases = await told(settings, CASES, Case)
    assert {case.version for case in cases} == {1}
    assert len({case.case_id for case in cases}) == len(cases) == len(ids)
    assert await told(settings, DEAD_LETTERS, DeadLetter) == []


async def work(opened: Door, folder: Path) -> None:
    """Runs the worker until it has committed everything, and ends it."""
    worker = Component("worker", opened.config_path, folder)
    topics = [opened.settings.topic(suffix) for suffix in (RAW, CASE_EVENTS)]
    admin = AIOKafkaAdminClient(**client_options(opened.settings.kafka))
    async with reading(opened.settings.kafka) as consumer:
        partitions = [TopicPartition(topic, number) for topic in topics for number in range(opened.settings.kafka.partitions)]

        async def committed() -> bool:
            offsets = await admin.list_consumer_group_offsets(opened.settings.worker.group)
            ends = await consumer.end_offsets(partitions)
            return all(
                partition in offsets and offsets[partition].offset == ends[partition] for partition in ends if ends[partition]
            )

        await admin.start()
        try:
            worker.start()
            await worker.ready()
            await wait_until(committed, WORKED_SECONDS, "the worker has committed every delivery and every case event")
        finally:
            await admin.close()
            await worker.running.close()


async def told(settings: Settings, suffix: str, kind: type[R]) -> list[R]:
    """All records of one of our topics."""
    return [
        decode(record.value, kind)
        for record in await whole_topic(settings.kafka, settings.topic(suffix), settings.kafka.partitions)
    ]


def once(records: Iterable[R], identify: Callable[[R], str]) -> dict[str, R]:
    """The records as who drops copies by their id has them; a copy that says anything else is an error."""
    kept: dict[str, R] = {}
    for record in records:
        assert kept.setdefault(identify(record), record) == record
    return kept

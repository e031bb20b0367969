"""Partitions that wait until what expired of them is told."""

from __future__ import annotations

import asyncio

import pytest
from aiokafka.structs import TopicPartition

from kybstream.expired import Expired
from sinks.partition import Partition
from sinks.tables import TABLES
from sinks.telling import Telling
from tests.support.waiting import wait_until

PARTITIONS = [Partition(TopicPartition("t", number), TABLES[0]) for number in range(3)]


def gone(number: int) -> Expired:
    """What expired of a partition."""
    return Expired("t", number, 0, 9)


async def test_each_goes_on_when_its_own_loss_is_told_and_once() -> None:
    """The others wait; one whose dead letter is refused for good ends the sink."""
    answers: dict[int, asyncio.Future[None]] = {number: asyncio.get_running_loop().create_future() for number in range(3)}

    async def tell(expired: Expired) -> None:
        await answers[expired.partition]

    telling = Telling(tell)
    for partition in PARTITIONS:
        telling.begin(partition, gone(partition.place.partition), 10 + partition.place.partition)
    assert telling.told() == []
    answers[1].set_result(None)
    assert await wait_until(telling.told, 5, "one is told") == [(PARTITIONS[1], 11)]
    assert [partition in telling for partition in PARTITIONS] == [True, False, True]
    assert telling.told() == []
    answers[2].set_exception(RuntimeError("refused"))
    with pytest.raises(RuntimeError, match="refused"):
        await wait_until(telling.told, 5, "the other one is refused")
    telling.drop_all()


async def test_what_is_dropped_tells_nothing_more() -> None:
    """A partition that goes to another process, and all of them at the end."""
    ended: list[int] = []

    async def tell(expired: Expired) -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.append(expired.partition)

    telling = Telling(tell)
    for partition in PARTITIONS:
        telling.begin(partition, gone(partition.place.partition), 0)
    await asyncio.sleep(0)
    telling.drop(PARTITIONS[:1])
    assert [partition in telling for partition in PARTITIONS] == [False, True, True]
    await wait_until(lambda: ended == [0], 5, "the first has ended")
    telling.drop_all()
    await wait_until(lambda: sorted(ended) == [0, 1, 2], 5, "all have ended")
    assert telling.told() == []

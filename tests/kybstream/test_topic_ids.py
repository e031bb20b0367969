"""The ids of topics, as a broker tells them, and what follows from them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import IncompatibleBrokerVersion, NodeNotReadyError

from deploy.embedded.apache_kafka import KafkaNode
from kybstream import topic_ids as module
from kybstream.kafka import administering, ensure_topics, reading
from kybstream.settings import KafkaSettings
from kybstream.topic_ids import KnownTopic, note_of, noted_id, shown, topic_ids
from tests.support.waiting import wait_until

ID, ANOTHER = "EqnIXxtbTWSLLFpB3B9Lkw", "_wgVvIv3Sp2fzRHxHOB4Vg"


async def _ids(kafka: KafkaSettings, *topics: str) -> dict[TopicPartition, str]:
    places = [TopicPartition(topic, number) for topic in topics for number in range(kafka.partitions)]
    async with reading(kafka) as consumer:
        await consumer.beginning_offsets(places)
        return await topic_ids(consumer._client, places)


@pytest.mark.kafka
async def test_a_topic_made_anew_has_another_id(apache_kafka: KafkaNode, topic_prefix: str) -> None:
    """All its partitions have the same, and other topics have others."""
    kafka = KafkaSettings(bootstrap_servers=apache_kafka.bootstrap_servers, partitions=2)
    one, two = topic_prefix + "one", topic_prefix + "two"
    await ensure_topics(kafka, {one: {}, two: {}})
    found = await _ids(kafka, one, two)
    assert len(found) == 4
    assert found[TopicPartition(one, 0)] == found[TopicPartition(one, 1)] != found[TopicPartition(two, 0)]
    async with administering(kafka) as admin:
        await admin.delete_topics([one])

        async def gone() -> bool:
            return one not in await admin.list_topics()

        await wait_until(gone, 15, "the topic is gone")
    await ensure_topics(kafka, {one: {}})
    assert (await _ids(kafka, one))[TopicPartition(one, 0)] not in found.values()
    assert await _ids(kafka, two) == {place: found[place] for place in found if place.topic == two}


async def test_a_broker_that_tells_no_ids_is_no_error(noida_broker: str, topic_prefix: str) -> None:
    """The embedded one."""
    kafka = KafkaSettings(bootstrap_servers=noida_broker, partitions=2)
    await ensure_topics(kafka, {topic_prefix + "one": {}})
    assert await _ids(kafka, topic_prefix + "one") == {}


class _Cluster:
    """An aiokafka client of three brokers: 0 fails, 1 does not answer, 2 does; partition 3 has no leader, 4 is unknown."""

    def __init__(self, failure: Exception) -> None:
        self.cluster = self
        self.failure = failure
        self.asked: list[int] = []

    @staticmethod
    def leader_for_partition(place: TopicPartition) -> int | None:
        return {3: -1, 4: None}.get(place.partition, place.partition)

    async def send(self, node: int, _request: object) -> Any:
        self.asked.append(node)
        if node == 0:
            raise self.failure
        if node == 1:
            await asyncio.sleep(3_600)
        return type("Answer", (), {"topics": [(0, "t", b"\1" * 16, False, [], 0, {}), (3, "u", bytes(16), False, [], 0, {})]})


FAILURES = (NodeNotReadyError(), IncompatibleBrokerVersion(), NotImplementedError(), OSError(), TimeoutError())


@pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: type(failure).__name__)
async def test_what_a_leader_does_not_tell_holds_up_nothing(failure: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each leader is asked once and by itself; a topic that it does not know, or that has no id, is left out."""
    monkeypatch.setattr(module, "ANSWER_SECONDS", 0.05)
    client = _Cluster(failure)
    places = [TopicPartition(topic, number) for topic in "tu" for number in range(5)]
    async with asyncio.timeout(2):
        assert await topic_ids(client, places) == {TopicPartition("t", 2): shown(b"\1" * 16)}
    assert sorted(client.asked) == [0, 1, 2]


def test_a_topic_is_another_one_when_its_id_differs() -> None:
    """Not when nothing is known, and not when a broker that lags behind tells an id that was given up."""
    topic = KnownTopic()
    assert not topic.is_another(ID)
    topic.take(ID)
    assert not topic.is_another(ID)
    assert topic.is_another(ANOTHER)
    topic.take(ANOTHER)
    assert not topic.is_another(ID)
    topic.take(ID)
    assert topic.id == ANOTHER
    topic.begin(ID)  # as it is committed
    assert topic.is_another(ANOTHER)


@pytest.mark.parametrize("note", [None, "", "topic-id=", "topic-id=short", f"topic-id={ID} ", f"x topic-id={ID}", "Ümlaut"])
def test_what_somebody_else_committed_names_no_topic(note: str | None) -> None:
    """Its offset is taken as it is."""
    assert noted_id(note) is None


def test_what_was_committed_beside_an_offset_is_read_back() -> None:
    """In a form that is short, and that Kafka's own tools show."""
    assert noted_id(note_of(ID)) == ID
    assert note_of(None) == ""
    assert shown(b"\x12\xa9\xc8_\x1b[Md\x8b,ZA\xdc\x1fK\x93") == ID

"""`tail` of every topic, with records of every kind that travels."""

from __future__ import annotations

import asyncio
import json

import msgspec
import pytest

from kybstream.kafka import durable_producer, ensure_topics
from kybstream.operations.tail import HIDDEN, tail_line
from kybstream.operations.topic_reader import read_topic
from kybstream.settings import KafkaSettings
from schemas.asyncapi import blank
from schemas.codec import encode
from schemas.records import Record
from schemas.topics import ALL_TOPICS, topic_named

SECRET = "Erika-Mustermann"
WITH_PERSONAL_DATA = {"body", "case_token", "origin_value", "origin_headers"}
"""Fields that docs/explanation/privacy.md names, of whatever record."""


def sample(kind: type[Record]) -> Record:
    """A record of the kind, with personal data in every field that may have it."""
    private: dict[str, object] = {
        "body": SECRET.encode(),
        "case_token": SECRET,
        "origin_value": SECRET.encode(),
        "origin_headers": {"x": SECRET.encode()},
    }
    return msgspec.structs.replace(blank(kind), **{name: private[name] for name in private if name in kind.__struct_fields__})


async def fill(kafka: KafkaSettings) -> None:
    """One record of each kind on its topic; on each also one that is none of ours, and a tombstone."""
    await ensure_topics(kafka, {kafka.topic_prefix + topic.suffix: {} for topic in ALL_TOPICS}, partitions=1)
    producer = durable_producer(kafka)
    await producer.start()
    try:
        for topic in ALL_TOPICS:
            values = [*(encode(sample(kind)) for kind in topic.records), SECRET.encode(), None]
            sent = [await producer.send(kafka.topic_prefix + topic.suffix, value, b"acme/key") for value in values]
            await asyncio.gather(*sent)
    finally:
        await producer.stop()


async def tailed(kafka: KafkaSettings, name: str) -> list[str]:
    """What `kyb-stream tail NAME --from-beginning --no-follow` prints; the command itself is in test_reading.py."""
    topic = topic_named(name, kafka.topic_prefix)
    assert topic is not None
    return [tail_line(record) async for record in read_topic(kafka, kafka.topic_prefix + topic.suffix)]


async def test_every_topic_can_be_tailed_without_personal_data(noida_broker: str, topic_prefix: str) -> None:
    """By its short name: each field but the private ones, of which the size; what is none of our records by its size alone."""
    kafka = KafkaSettings(bootstrap_servers=noida_broker, topic_prefix=topic_prefix)
    await fill(kafka)
    of_all = await asyncio.gather(*(tailed(kafka, topic.suffix.rpartition(".v")[0]) for topic in ALL_TOPICS))
    for topic, lines in zip(ALL_TOPICS, of_all, strict=True):
        assert SECRET not in "".join(lines)
        *shown, bad, tombstone = map(json.loads, lines)
        for kind, line in zip(topic.records, shown, strict=True):
            hidden = {name for name in kind.__struct_fields__ if name in WITH_PERSONAL_DATA}
            assert set(line["record"]) == set(kind.__struct_fields__) - hidden | {f"{name}_size" for name in hidden}
            assert line["key"] == "acme/key"
        assert (bad["value_size"], "record" in bad) == (len(SECRET), False)
        assert tombstone["record"] is None


@pytest.mark.parametrize("kind", [kind for topic in ALL_TOPICS for kind in topic.records], ids=lambda kind: kind.__name__)
def test_every_field_with_personal_data_is_hidden(kind: type[Record]) -> None:
    """A kind of record that gets such a field is found here, not by a reader of a log."""
    assert set(HIDDEN.get(kind, ())) == {name for name in kind.__struct_fields__ if name in WITH_PERSONAL_DATA}
    raw = {name for name, hint in kind.__annotations__.items() if "bytes" in str(hint)}
    assert raw <= WITH_PERSONAL_DATA | {"origin_key"}

"""The topics of a stack as Kafka has them: all configured alike, whoever made them."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer

from deploy.embedded.apache_kafka import KafkaNode
from kybstream.encryption import BodyEncryptor
from kybstream.errors import RunError
from kybstream.kafka import durable_producer, ensure_topics
from kybstream.partitions import partition_of
from kybstream.settings import Settings
from kybstream.settings.values import MAX_BODY_BYTES
from schemas.codec import encode
from schemas.records import DeadLetter, WebhookDelivery
from schemas.topics import DEAD_LETTERS, RAW
from streams.worker import every_topic, new_app
from tests.streams.running import TENANT, running_worker, topics_are_there
from tests.support.topic_configs import topic_configs, topics_of


def settings_for(bootstrap: str, prefix: str, folder: Path, **kafka: object) -> Settings:
    """Of a stack whose topics and group begin with the prefix."""
    return Settings.model_validate(
        {
            "kafka": {"bootstrap_servers": bootstrap, "topic_prefix": prefix, "partitions": 2, **kafka},
            "worker": {"group": f"{prefix}worker", "data_dir": str(folder), "store": "memory"},
            "tenants": [TENANT],
        }
    )


@pytest.mark.kafka
async def test_every_topic_of_a_running_stack_has_the_settings(
    apache_kafka: KafkaNode, topic_prefix: str, tmp_path: Path
) -> None:
    """Changelogs, too: without `min.insync.replicas` of two, one broker's disk would be all that remembers a case."""
    settings = settings_for(apache_kafka.bootstrap_servers, topic_prefix, tmp_path, min_insync_replicas=2)
    await ensure_topics(settings.kafka, every_topic(settings))
    await topics_are_there(settings, every_topic(settings))
    async with running_worker(settings):
        names = await topics_of(settings.kafka, topic_prefix)
    assert names == sorted(every_topic(settings))
    for name, found in (await topic_configs(settings.kafka, *names)).items():
        assert found["min.insync.replicas"] == "2", name
        assert int(found["max.message.bytes"]) > MAX_BODY_BYTES, name
        wanted = every_topic(settings)[name]
        assert {key: found[key] for key in wanted} == wanted, name


@pytest.mark.kafka
async def test_a_changelog_that_faust_makes_is_configured_like_the_others(
    apache_kafka: KafkaNode, topic_prefix: str, tmp_path: Path
) -> None:
    """It is made where `migrate` has not: with the configuration of the settings, not with Kafka's defaults."""
    settings = settings_for(apache_kafka.bootstrap_servers, topic_prefix, tmp_path, min_insync_replicas=2)
    app = new_app(settings)
    changelog = app.batch_table("cases").changelog.name
    assert changelog not in await topics_of(settings.kafka, topic_prefix)
    await app.producer.start()
    try:
        [found] = (await topic_configs(settings.kafka, changelog)).values()
    finally:
        await app.producer.stop()
    assert found["min.insync.replicas"] == "2"
    wanted = every_topic(settings)[changelog]
    assert {key: found[key] for key in wanted} == wanted


async def test_a_worker_makes_no_changelog_in_place_of_a_lost_one(noida_broker: str, topic_prefix: str, tmp_path: Path) -> None:
    """A changelog that is missing is said; an empty one made on the way would begin every case anew."""
    settings = settings_for(noida_broker, topic_prefix, tmp_path)
    topics = every_topic(settings)
    lost = f"{topic_prefix}worker-cases-changelog"
    del topics[lost]
    await ensure_topics(settings.kafka, topics)
    with pytest.raises(RunError, match=f"topic {lost} does not exist"):
        async with running_worker(settings):
            pass
    assert lost not in await topics_of(settings.kafka, topic_prefix)


@pytest.mark.kafka
async def test_the_largest_delivery_and_its_dead_letter_fit_their_topics(
    apache_kafka: KafkaNode, topic_prefix: str, tmp_path: Path
) -> None:
    """A body of the greatest size that a source may take, encrypted, with the longest fields, whole in a dead letter."""
    settings = settings_for(apache_kafka.bootstrap_servers, topic_prefix, tmp_path)
    await ensure_topics(settings.kafka, every_topic(settings))
    sent_at = datetime(2026, 1, 2, tzinfo=UTC)
    body, key_id = BodyEncryptor("k" * 63, bytes(32)).encrypt(
        bytes(MAX_BODY_BYTES), tenant="t" * 63, delivery_id="d" * 36, day=sent_at.date()
    )
    raw = encode(
        WebhookDelivery(
            delivery_id="d" * 36, received_at=sent_at, tenant="t" * 63, source="s" * 63, source_kind="kyc-registration",
            entity_key="e" * 1024, case_token="c" * 4096, content_type="c" * 255, body=body, body_key_id=key_id,
        )
    )  # fmt: skip
    letter = encode(
        DeadLetter(
            dead_letter_id="l" * 64, received_at=sent_at, tenant="t" * 63, source="s" * 63, stage="intake", reason="failed",
            detail="d" * 4096, origin_topic=settings.topic(RAW), origin_key=b"e" * 1024,
            origin_headers={f"h{number}": b"v" * 1024 for number in range(32)}, origin_value=raw, body_size=MAX_BODY_BYTES,
        )
    )  # fmt: skip
    async with durable_producer(settings.kafka) as producer:
        for topic, value in ((RAW, raw), (DEAD_LETTERS, letter)):
            await producer.send_and_wait(settings.topic(topic), value, key=b"e" * 1024, headers=[("h", b"v" * 1024)] * 32)


async def test_what_is_written_keeps_to_the_configured_partitions(noida_broker: str, topic_prefix: str, tmp_path: Path) -> None:
    """Where somebody added partitions nobody reads; whatever else writes goes by Kafka's own hash."""
    settings = settings_for(noida_broker, topic_prefix, tmp_path)
    topic = settings.topic(RAW)
    await ensure_topics(settings.kafka, {topic: {}}, partitions=5)
    keys = [b"key-%d" % number for number in range(40)]

    async def places(producer: AIOKafkaProducer) -> list[int]:
        sent = await asyncio.gather(*[producer.send_and_wait(topic, b"value", key=key) for key in [*keys, None]])
        return [each.partition for each in sent]

    async with durable_producer(settings.kafka) as ours:
        *keyed, keyless = await places(ours)
    assert keyed == [partition_of(key, 2) for key in keys]
    assert keyless in {0, 1}

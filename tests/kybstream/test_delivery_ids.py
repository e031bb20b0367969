"""Reading the ids of a topic from its bytes: the same as decoding every record, whatever lies there."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic, RecordsToDelete

from deploy.embedded.apache_kafka import KafkaNode
from kybstream.errors import UnavailableError
from kybstream.ids import new_delivery_id
from kybstream.operations import collecting, delivery_ids
from kybstream.operations.delivery_ids import TopicScan, scan_ids
from kybstream.operations.id_buckets import IdBuckets
from kybstream.operations.topic_reader import read_topic
from kybstream.settings import KafkaSettings
from schemas.codec import encode
from schemas.records import WebhookDelivery

_RECEIVED = datetime(2026, 3, 10, 12, tzinfo=UTC)


def _delivery(delivery_id: str, **fields: object) -> bytes:
    made: dict[str, object] = {
        "received_at": _RECEIVED,
        "tenant": "acme",
        "source": "kyb",
        "source_kind": "kyb-service",
        "body": b"x" * 300,
    }
    return encode(WebhookDelivery(delivery_id=delivery_id, **made | fields))  # type: ignore[arg-type]


async def _scanned(bootstrap: str, topic: str, **options: object) -> tuple[list[str], TopicScan]:
    ids: list[str] = []
    kafka = KafkaSettings(bootstrap_servers=bootstrap)
    scan = await scan_ids(
        kafka,
        topic,
        WebhookDelivery,
        lambda some: ids.extend(each.decode() for each in some),
        **options,  # type: ignore[arg-type]
    )
    return ids, scan


async def _filled(
    bootstrap: str, topic: str, values: list[bytes | None], *, compression: str | None, first_ms: int | None = None
) -> None:
    """Puts values on a new topic; with `first_ms`, as written then, a second apart."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(topic, 3, 1)])
    finally:
        await admin.close()
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all", compression_type=compression, linger_ms=5)
    await producer.start()
    try:
        sent = [
            await producer.send(
                topic,
                value,
                key=None if number % 7 == 0 else b"k" * (number % 200),
                headers=[("ce_id", b"x" * (number % 90))],
                timestamp_ms=None if first_ms is None else first_ms + 1_000 * number,
            )
            for number, value in enumerate(values)
        ]
        for each in sent:
            await each
    finally:
        await producer.stop()


async def _every_form_is_read(bootstrap: str, topic: str, compression: str | None) -> None:
    ids = [new_delivery_id() for _ in range(3_000)]
    values: list[bytes | None] = [_delivery(each, body=b"x" * (number % 9_000)) for number, each in enumerate(ids)]
    values += [_delivery(ids[0]), _delivery("an id of another form"), b"no delivery", b"", None, encode_wrong()]
    await _filled(bootstrap, topic, values, compression=compression)
    found, scan = await _scanned(bootstrap, topic)
    assert sorted(found) == sorted([*ids, ids[0], "an id of another form"])
    assert (scan.records, scan.undecodable) == (len(values), 4)
    assert scan.complete_since_ms == _RECEIVED.timestamp() * 1000
    later, behind = await _scanned(bootstrap, topic, begin=scan.ends)
    assert (later, behind.records) == ([], 0)
    assert sum(scan.ends.values()) == len(
        [record async for record in read_topic(KafkaSettings(bootstrap_servers=bootstrap), topic)]
    )


def encode_wrong() -> bytes:
    """The fingerprint of no schema."""
    return b"\xc3\x01" + b"\x00" * 60


@pytest.mark.parametrize("compression", [None, "gzip"])
async def test_every_form_of_record_is_read(noida_broker: str, topic_prefix: str, compression: str | None) -> None:
    """Large and small bodies, keys and headers, compressed or not, repeats, ids of another form, and what is no delivery."""
    await _every_form_is_read(noida_broker, f"{topic_prefix}raw-{compression}", compression)


@pytest.mark.kafka
@pytest.mark.parametrize("compression", [None, "gzip"])
async def test_every_form_of_record_is_read_from_apache_kafka(
    apache_kafka: KafkaNode, topic_prefix: str, compression: str | None
) -> None:
    """The same of the real one, whose fetches end in the middle of a batch."""
    await _every_form_is_read(apache_kafka.bootstrap_servers, f"{topic_prefix}raw-{compression}", compression)


@pytest.mark.kafka
async def test_what_retention_removes_meanwhile_is_passed_over(
    apache_kafka: KafkaNode, topic_prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The scan goes on where the partition begins by then, and says that it is complete only from there on."""
    ids = [new_delivery_id() for _ in range(300)]
    topic, bootstrap = f"{topic_prefix}raw", apache_kafka.bootstrap_servers
    received = [_RECEIVED + timedelta(seconds=number) for number in range(len(ids))]
    values = [_delivery(each, received_at=at, body=b"x" * 5_000) for each, at in zip(ids, received, strict=True)]
    first_ms = time.time_ns() // 1_000_000 - 1_000 * len(ids)
    await _filled(bootstrap, topic, [*values], compression=None, first_ms=first_ms)
    _, whole = await _scanned(bootstrap, topic)
    monkeypatch.setattr(delivery_ids, "_PARTITION_BYTES", 20_000)
    fetch, fetches = delivery_ids._fetch, 0

    async def fetch_and_cut(*args: Any) -> Any:
        nonlocal fetches
        fetches += 1
        if fetches == 4:  # both halves have read something by then, and not all
            await _cut(bootstrap, topic, {partition: end - 5 for partition, end in whole.ends.items()})
        return await fetch(*args)

    monkeypatch.setattr(delivery_ids, "_fetch", fetch_and_cut)
    found, scan = await _scanned(bootstrap, topic)
    assert len(found) == len(set(found)) < len(ids)
    assert len(found) >= 15
    assert set(found) <= set(ids)
    assert whole.cut_ms is None
    # The newest of the partitions' beginnings: some records before the last.
    assert scan.cut_ms is not None
    assert scan.cut_ms > first_ms + 1_000 * (len(ids) - 100)


async def _cut(bootstrap: str, topic: str, before: dict[int, int]) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        await admin.delete_records({TopicPartition(topic, each): RecordsToDelete(offset) for each, offset in before.items()})
    finally:
        await admin.close()


def _dies(*_args: object) -> None:
    os._exit(1)


@pytest.mark.parametrize("beside", ["works", "dies"])
async def test_two_processes_collect_what_one_does(
    noida_broker: str, topic_prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, beside: str
) -> None:
    """Each reads some of the partitions; where the second one dies, the first one reads its share."""
    ids = [new_delivery_id() for _ in range(1_000)]
    topic = f"{topic_prefix}raw-{beside}"
    await _filled(noida_broker, topic, [*(_delivery(each) for each in ids), b"no delivery"], compression=None)
    _, alone = await _scanned(noida_broker, topic)
    monkeypatch.setattr(collecting, "WORTH_A_PROCESS", 0)
    if beside == "dies":
        monkeypatch.setattr(collecting, "_scan", _dies)
    buckets, scan = await collecting.collect_ids(KafkaSettings(bootstrap_servers=noida_broker), topic, tmp_path)
    assert sorted(each for key in buckets.keys() for each in buckets.take(key)) == sorted(ids)  # noqa: SIM118
    assert scan == alone
    assert any((tmp_path / "beside").iterdir()) == (beside == "works")


async def test_a_broker_that_is_away_is_told_whoever_reads(tmp_path: Path) -> None:
    """Collecting ends with the error of any other reading."""
    with pytest.raises(UnavailableError):
        await collecting.collect_ids(KafkaSettings(bootstrap_servers="127.0.0.1:1"), "kyb.webhooks.raw.v1", tmp_path)


@pytest.mark.parametrize(
    ("one", "two", "since"),
    [
        (TopicScan(), TopicScan(), None),
        (TopicScan(oldest_ms=5), TopicScan(oldest_ms=7), 5),
        (TopicScan(oldest_ms=5), TopicScan(), 5),
        (TopicScan(oldest_ms=5, cut_ms=6), TopicScan(oldest_ms=3), 6),
        (TopicScan(oldest_ms=5, cut_ms=6), TopicScan(oldest_ms=8, cut_ms=9), 9),
    ],
)
def test_since_when_both_halves_are_complete(one: TopicScan, two: TopicScan, since: int | None) -> None:
    """From the newest cut of retention; where there is none, from the oldest receipt."""
    assert one.and_of(two).complete_since_ms == two.and_of(one).complete_since_ms == since


def test_ids_that_went_to_files_come_back(tmp_path: Path) -> None:
    """With room for a few in memory, every id is in its bucket as often as it was put there."""
    buckets = IdBuckets(tmp_path, hold_bytes=500)
    ids = [new_delivery_id() for _ in range(400)]
    for begin in range(0, 400, 7):
        buckets.add(each.encode() for each in ids[begin : begin + 7])
    buckets.add([ids[0].encode()])
    assert any(tmp_path.iterdir())
    found = [each for key in buckets.keys() for each in buckets.take(key)]  # noqa: SIM118 (no dictionary)
    assert sorted(found) == sorted([*ids, ids[0]])
    assert all(each.endswith(key) for key in buckets.keys() for each in buckets.take(key))  # noqa: SIM118
    assert buckets.take("no") == []

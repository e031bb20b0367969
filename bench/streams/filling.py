"""What is measured on: topics filled once, before the first run, and emptied outputs before each."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from kybstream.encryption import BodyEncryptor
from kybstream.ids import derived_id
from kybstream.partitions import partition_of
from schemas.cloudevents import cloud_event_headers
from schemas.codec import encode
from schemas.records import CaseEvent, Record, WebhookDelivery
from schemas.topics import case_key, entity_key

RECORD_BYTES = 500
"""Of a JSON record, and of a delivery's body in clear."""

DUPLICATES_IN = 10
"""One record in so many repeats the one before."""

PARTITIONS = 8
TENANT = "acme"
_TOPIC_SECONDS = 30.0
_LOOK_SECONDS = 0.1
_START = datetime.now(UTC) - timedelta(hours=1)
"""Receipt of the first record: so lately that no deadline passes, and no case expires, while a worker is measured."""
_DAY = _START.date()
_PAYLOADS = Path(__file__).parents[2] / "tests/fixtures/kyb"
_PAYLOAD = "01_business_information_service_initiated.json"
_CASE_EVENTS = (("business_information_service_initiated", "pending"), ("business_information_service_resolved", "success"))
"""What a case of the benchmark goes through."""

Row = tuple[bytes, bytes, Sequence[tuple[str, bytes]]]
"""Key, value, headers."""


def repeats(number: int) -> int:
    """The number of the record that this one repeats, or its own."""
    return number - (number % DUPLICATES_IN == DUPLICATES_IN - 1)


def distinct(records: int) -> int:
    """How many of so many records repeat none."""
    return records - records // DUPLICATES_IN


def json_records(count: int) -> Iterator[Row]:
    """JSON records with an `id`, which is their key as well."""
    for number in range(count):
        identity = f"{repeats(number):016x}"
        value = json.dumps({"id": identity, "filler": ""}, separators=(",", ":"))
        yield identity.encode(), _padded(value, '"}').encode(), ()


def raw_deliveries(count: int, encryptor: BodyEncryptor) -> Iterator[Row]:
    """Encrypted deliveries of a documented payload, each of a case of its own but for the duplicates."""
    payload = json.loads((_PAYLOADS / _PAYLOAD).read_text(encoding="utf-8"))
    for number in range(count):
        service_id = f"667ab56f{repeats(number):012x}"
        body = json.dumps(payload | {"service_id": service_id, "url_token": ""}).encode()
        body = body.replace(b'"url_token": ""', b'"url_token": "%s"' % (b"x" * (RECORD_BYTES - len(body))))
        delivery_id = f"01a20612-5a43-72a9-a4d0-{number:012x}"
        sealed, key_id = encryptor.encrypt(body, tenant=TENANT, delivery_id=delivery_id, day=_DAY)
        delivery = WebhookDelivery(
            delivery_id=delivery_id,
            received_at=_START + timedelta(milliseconds=number),
            tenant=TENANT,
            source="kyb",
            source_kind="kyb-service",
            entity_key=entity_key(TENANT, service_id),
            content_type="application/json",
            body=sealed,
            body_key_id=key_id,
        )
        yield _row(entity_key(TENANT, service_id), delivery)


def case_events(count: int) -> Iterator[Row]:
    """Events of cases, as the intake tells them: each case begins and is resolved."""
    for number in range(count):
        case, step = divmod(number, len(_CASE_EVENTS))
        case_id = f"667ab56f{case:012x}"
        kind, status = _CASE_EVENTS[step]
        event = CaseEvent(
            event_id=derived_id("event", str(number)),
            tenant=TENANT,
            case_id=case_id,
            received_at=_START + timedelta(milliseconds=number),
            kind="kyb",
            type=kind,
            status=status,
            services=("questionnaire", "kyc"),
        )
        yield _row(case_key(TENANT, case_id), event)


def _row(key: str, record: Record) -> Row:
    return key.encode(), encode(record), cloud_event_headers(record)


def _has_leaders(described: dict[str, Any]) -> bool:
    partitions = described["partitions"]
    return len(partitions) == PARTITIONS and all(partition["leader"] >= 0 for partition in partitions)


def _padded(text: str, end: str) -> str:
    return text.removesuffix(end) + "x" * (RECORD_BYTES - len(text)) + end


class Topics:
    """Makes topics, fills them, and empties them.

    Args:
        bootstrap: Of the broker.
    """

    def __init__(self, bootstrap: str) -> None:
        self._bootstrap = bootstrap

    async def renew(self, topics: Iterable[str]) -> None:
        """Makes topics that are empty, whatever was there before."""
        admin = AIOKafkaAdminClient(bootstrap_servers=self._bootstrap)
        await admin.start()
        try:
            wanted = {topic: NewTopic(topic, PARTITIONS, 1) for topic in topics}
            if there := set(await admin.list_topics()) & set(wanted):
                await admin.delete_topics(sorted(there))
            async with asyncio.timeout(_TOPIC_SECONDS):
                # Kafka deletes a topic, and finds its leaders, behind the answer, and tells nobody when.
                while set(wanted) & set(await admin.list_topics()):  # noqa: ASYNC110
                    await asyncio.sleep(_LOOK_SECONDS)
                await admin.create_topics(list(wanted.values()))
                while not all(map(_has_leaders, await admin.describe_topics(list(wanted)))):  # noqa: ASYNC110
                    await asyncio.sleep(_LOOK_SECONDS)
        finally:
            await admin.close()

    async def fill(self, topic: str, rows: Iterable[Row]) -> None:
        """Writes rows to the partitions of their keys."""
        producer = AIOKafkaProducer(bootstrap_servers=self._bootstrap, acks="all", max_batch_size=1_000_000)
        await producer.start()
        try:
            builders = {number: producer.create_batch() for number in range(PARTITIONS)}
            for key, value, headers in rows:
                number = partition_of(key, PARTITIONS)
                fields = {"timestamp": None, "key": key, "value": value, "headers": list(headers)}
                if builders[number].append(**fields) is None:
                    await (await producer.send_batch(builders[number], topic, partition=number))
                    builders[number] = producer.create_batch()
                    builders[number].append(**fields)
            for number, builder in builders.items():
                if builder.record_count():
                    await (await producer.send_batch(builder, topic, partition=number))
        finally:
            await producer.stop()

"""What the tables hold of a typical case, and changelogs of many such cases.

The case is a typical one: its company is verified in three services, its person by a registered link. Its entries are what the
intake and the cases really write; for the other cases their ids are drawn anew.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
import uuid
from collections.abc import Collection, Iterator
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaProducer

from bench.tables import DictTable
from kybstream.errors import RunError
from kybstream.ids import new_delivery_id
from kybstream.kafka import require_topics
from kybstream.partitions import partition_of
from kybstream.privacy import Pseudonymiser
from kybstream.settings import Settings
from schemas.codec import encode
from schemas.links import make_link
from schemas.providers.identity import identify_bytes
from schemas.records import WebhookDelivery
from schemas.topics import entity_key
from streams.batching import Record, changelog_topic
from streams.policy import TenantPolicy
from streams.processing import CasesProcess, IntakeProcess, TopicNames
from streams.worker import CASES_TABLE, INTAKE_TABLE, TABLES

START = datetime.now(UTC).replace(microsecond=0)
NAMES = TopicNames("kyb.")
SERVICE_ID = "667ab56f0e4e6520880"
SECRET = "0123456789abcdef0123456789abcdef"  # noqa: S105 (of nothing)
POLICIES = {"acme": TenantPolicy(Pseudonymiser(SECRET.encode()), (SECRET.encode(),))}
PAYLOADS = Path(__file__).parents[2] / "tests/fixtures"
SERVICES = ("questionnaire", "company_register", "documents")
PARTITIONS = 8

_ID = re.compile(rb"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")

_IDS = 100_000
"""Ids to draw from: drawing each anew took longer than all that is measured."""

Entries = dict[str, dict[bytes, bytes]]
"""Keys and values by table."""


def typical_case(*, open_: bool = False) -> Entries:
    """What the tables hold of one case after seven deliveries and a link; an open one lacks the last."""
    intake, cases = DictTable(), DictTable()
    process, fold = IntakeProcess(POLICIES, NAMES), CasesProcess(POLICIES, NAMES)
    for record in islice(_records(), 7 if open_ else None):
        result = process(0, [record], intake)
        intake.write(result.writes)
        for output in result.outputs:
            if output.topic == NAMES.case_events:
                told = Record(output.topic, 0, 0, 0, output.key, output.value, ())
                cases.write(fold(0, [told], cases).writes)
    # The provisional case does not come into being: the link came first.
    return {INTAKE_TABLE: intake.values, CASES_TABLE: cases.values}


def _records() -> Iterator[Record]:
    person = json.loads((PAYLOADS / "kyc/registration_callback.json").read_text(encoding="utf-8"))
    company = json.loads((PAYLOADS / "kyb/01_business_information_service_initiated.json").read_text(encoding="utf-8"))
    identity = identify_bytes("kyc-registration", json.dumps(person).encode(), POLICIES["acme"].pseudonymiser)
    if identity is None:
        raise AssertionError("the fixture names nobody")
    subject = identity.entity
    link = make_link("acme", SERVICE_ID, subject, expected_subjects=1, registered_at=START)
    yield Record(NAMES.links, 0, 0, 0, entity_key("acme", subject).encode(), encode(link), ())
    bodies = [
        ("kyb", SERVICE_ID, company | {"service_id": SERVICE_ID, "services": [service], "type": kind, "status": status})
        for service in SERVICES
        for kind, status in (("service_initiated", "pending"), ("service_resolved", "resolved"))
    ]
    for kind, entity, body in [*bodies, ("kyc", subject, person)]:
        delivery = _delivery(kind, entity, body)
        yield Record(NAMES.raw, 0, 0, 0, entity_key("acme", entity).encode(), encode(delivery), ())


def kyb_delivery(service_id: str) -> WebhookDelivery:
    """The first delivery of a company."""
    company = json.loads((PAYLOADS / "kyb/01_business_information_service_initiated.json").read_text(encoding="utf-8"))
    return _delivery("kyb", service_id, company | {"service_id": service_id})


def _delivery(kind: str, entity: str, body: dict[str, object]) -> WebhookDelivery:
    return WebhookDelivery(
        delivery_id=new_delivery_id(),
        received_at=START,
        tenant="acme",
        source=kind,
        source_kind="kyb-service" if kind == "kyb" else "kyc-registration",
        entity_key=entity_key("acme", entity),
        body=json.dumps(body).encode(),
    )


class Cases:
    """As many cases as one likes: the entries of the typical one, with ids and names of their own."""

    def __init__(self, entries: Entries, tables: Collection[str] = TABLES) -> None:
        names = {SERVICE_ID.encode()} | {key.partition(b"/")[2] for key in entries[INTAKE_TABLE]}
        self._names = sorted(names)
        self._drawn = re.compile(b"|".join([_ID.pattern, *map(re.escape, self._names)]))
        self._ids = [str(uuid.uuid4()).encode() for _ in range(_IDS)]
        self._rows = [
            (table, *self._template(key), *self._template(value)) for table in tables for key, value in entries[table].items()
        ]

    def _template(self, text: bytes) -> tuple[bytes, list[bytes]]:
        """A text with a place for whatever is drawn anew, and what that was."""
        parts = [part.replace(b"%", b"%%") for part in self._drawn.split(text)]
        return b"%b".join(parts), self._drawn.findall(text)

    def rows(self) -> Iterator[tuple[str, bytes, bytes]]:
        """Table, key and value of each entry of one more case."""
        names = {name: os.urandom(len(name)).hex().encode()[: len(name)] for name in self._names}
        for table, key, in_key, value, in_value in self._rows:
            ids = random.choices(self._ids, k=len(in_value))  # noqa: S311 (not a secret)
            drawn = tuple(names.get(was, an_id) for was, an_id in zip(in_value, ids, strict=True))
            yield table, key % tuple(names[was] for was in in_key), value % drawn


async def there(settings: Settings, topics: Collection[str]) -> None:
    """Waits for topics: a broker that has just made one may not list it yet."""
    async with asyncio.timeout(20):
        while True:
            try:
                return await require_topics(settings.kafka, topics)
            except RunError:
                await asyncio.sleep(0.1)


async def fill(settings: Settings, cases: Cases, keys: int) -> None:
    """Writes the changelogs of so many keys, of both tables together."""
    topics = {table: changelog_topic(settings.worker.group, table, PARTITIONS).name for table in TABLES}
    millis = int(START.timestamp() * 1000)
    builders: dict[tuple[str, int], Any] = {}
    async with AIOKafkaProducer(bootstrap_servers=settings.kafka.bootstrap_servers, acks="all", max_batch_size=900_000) as out:
        written = 0
        while written < keys:
            for table, key, value in cases.rows():
                target = topics[table], partition_of(key, PARTITIONS)
                builder = builders.get(target) or out.create_batch()
                if builder.append(key=key, value=value, timestamp=millis) is None:
                    await out.send_batch(builder, target[0], partition=target[1])
                    builder = out.create_batch()
                    builder.append(key=key, value=value, timestamp=millis)
                builders[target] = builder
                written += 1
        sent = [await out.send_batch(builder, topic, partition=number) for (topic, number), builder in builders.items()]
        await asyncio.gather(*sent)

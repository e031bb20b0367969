"""Accounting for every delivery: what lies in the raw topic, what the intake judged, and what ClickHouse holds."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from kybstream.errors import BadRecordError
from kybstream.operations.topic_reader import read_topic
from kybstream.settings import Settings
from schemas.codec import decode
from schemas.records import Delivery, WebhookDelivery
from schemas.topics import DELIVERIES, RAW
from sinks.query import query

_SHOWN = 20
_RETRY_SECONDS = 0.5


@dataclass(frozen=True)
class Account:
    """What an accounting found. Balanced when the four lists are empty.

    Attributes:
        raw: Distinct deliveries in the raw topic.
        repeated: Deliveries that lie in the raw topic more than once, as after a retried send; harmless.
        judged: Distinct deliveries in the deliveries topic.
        landed: Deliveries in ClickHouse by verdict.
        unjudged: In the raw topic, not in the deliveries topic.
        missing: In the raw topic, not in ClickHouse.
        doubled: In ClickHouse more than once.
        unknown: In ClickHouse, not in the raw topic although it reaches back far enough.
        undecodable: Records of the raw topic that are no deliveries; they are in the dead letters.
    """

    raw: int
    repeated: int
    judged: int
    landed: Mapping[str, int]
    unjudged: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    undecodable: int = 0

    @property
    def balanced(self) -> bool:
        """Whether every delivery is accounted for, once."""
        return not (self.unjudged or self.missing or self.doubled or self.unknown)

    def findings(self) -> list[str]:
        """What is wrong, a sentence each, with the first twenty ids."""
        wrong = [
            (self.unjudged, "in the raw topic, but not judged"),
            (self.missing, "in the raw topic, but not in ClickHouse"),
            (self.doubled, "more than once in ClickHouse"),
            (self.unknown, "in ClickHouse, but not in the raw topic"),
        ]
        return [
            f"{len(ids)} {what}: {', '.join(ids[:_SHOWN])}{' …' if len(ids) > _SHOWN else ''}" for ids, what in wrong if ids
        ]


@dataclass(frozen=True)
class Landed:
    """A delivery as ClickHouse holds it."""

    delivery_id: str
    verdict: str
    received_at: datetime
    rows: int


def account(
    raw: Mapping[str, int], judged: set[str], landed: list[Landed], *, oldest: datetime | None, undecodable: int = 0
) -> Account:
    """Compares the three. Pure.

    Args:
        raw: Copies in the raw topic, by delivery id.
        judged: Delivery ids in the deliveries topic.
        landed: Rows of the table `deliveries`.
        oldest: Receipt of the oldest delivery in the raw topic: what landed before it has left the topic by retention.
        undecodable: Records of the raw topic that could not be read.
    """
    in_table = {row.delivery_id for row in landed}
    reachable = {row.delivery_id for row in landed if oldest is not None and row.received_at >= oldest}
    return Account(
        raw=len(raw),
        repeated=sum(1 for copies in raw.values() if copies > 1),
        judged=len(judged),
        landed=dict(sorted(Counter(row.verdict for row in landed).items())),
        unjudged=sorted(raw.keys() - judged),
        missing=sorted(raw.keys() - in_table),
        doubled=sorted(row.delivery_id for row in landed if row.rows > 1),
        unknown=sorted(reachable - raw.keys()),
        undecodable=undecodable,
    )


async def reconcile(settings: Settings, *, wait_seconds: float = 10.0) -> Account:
    """Accounts for every delivery; what is still on its way is waited for, up to `wait_seconds` in all.

    Raises:
        UnavailableError: Kafka or ClickHouse cannot be reached.
        RunError: A topic or table is missing.
    """
    deadline = asyncio.get_running_loop().time() + wait_seconds
    while True:
        found = await _account_once(settings)
        if found.balanced or asyncio.get_running_loop().time() >= deadline:
            return found
        await asyncio.sleep(_RETRY_SECONDS)


async def _account_once(settings: Settings) -> Account:
    raw: Counter[str] = Counter()
    oldest: datetime | None = None
    undecodable = 0
    async for record in read_topic(settings.kafka, settings.topic(RAW)):
        try:
            delivery = decode(record.value or b"", WebhookDelivery)
        except BadRecordError:
            undecodable += 1
            continue
        raw[delivery.delivery_id] += 1
        oldest = delivery.received_at if oldest is None else min(oldest, delivery.received_at)
    judged: set[str] = set()
    async for record in read_topic(settings.kafka, settings.topic(DELIVERIES)):
        try:
            judged.add(decode(record.value or b"", Delivery).delivery_id)
        except BadRecordError:
            continue  # the sink dead-letters it, and the delivery shows as unjudged
    return account(raw, judged, await _landed(settings), oldest=oldest, undecodable=undecodable)


async def _landed(settings: Settings) -> list[Landed]:
    answer = await query(
        settings.clickhouse,
        "SELECT toString(delivery_id), any(verdict), min(received_at), count() FROM deliveries GROUP BY delivery_id",
    )
    return [
        Landed(str(delivery_id), str(verdict), datetime.fromisoformat(str(received_at)), int(str(rows)))
        for delivery_id, verdict, received_at, rows in answer.rows
    ]

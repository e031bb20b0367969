"""Accounting for every delivery: what lies in the raw topic, what the intake judged, and what ClickHouse holds."""

from __future__ import annotations

import asyncio
import tempfile
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from kybstream.operations.collecting import collect_ids
from kybstream.operations.delivery_ids import TopicScan, scan_ids
from kybstream.operations.expired_offsets import ExpiredRange, expired_ranges
from kybstream.settings import Settings
from schemas.records import Delivery, WebhookDelivery
from schemas.topics import DELIVERIES, RAW
from sinks.landed import LandedIds, landed_by_verdict, landed_ids, missing_of

NAMED = 100_000
"""How many deliveries a finding names at most; beyond that it counts."""

_SHOWN = 20
_RETRY_SECONDS = 0.5


@dataclass(frozen=True)
class Account:
    """What an accounting found. Balanced when the five lists are empty.

    Attributes:
        raw: Distinct deliveries in the raw topic.
        repeated: Deliveries that lie in the raw topic more than once, as after a retried send; harmless.
        judged: Of the raw deliveries, those that the intake has judged.
        landed: Deliveries in ClickHouse by verdict.
        unjudged: In the raw topic, not in the deliveries topic.
        missing: In the raw topic, not in ClickHouse.
        doubled: In ClickHouse more than once.
        unknown: In ClickHouse, not in the raw topic although it reaches back far enough.
        expired: What expired before the worker or the sink read it.
        unnamed: By finding, how many more there are than its list names.
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
    expired: list[ExpiredRange] = field(default_factory=list)
    unnamed: Mapping[str, int] = field(default_factory=dict)
    undecodable: int = 0

    @property
    def balanced(self) -> bool:
        """Whether every delivery is accounted for, once."""
        return not (self.unjudged or self.missing or self.doubled or self.unknown or self.expired)

    def findings(self) -> list[str]:
        """What is wrong, a sentence each, with the first twenty ids."""
        wrong = [
            ("unjudged", self.unjudged, "in the raw topic, but not judged"),
            ("missing", self.missing, "in the raw topic, but not in ClickHouse"),
            ("doubled", self.doubled, "more than once in ClickHouse"),
            ("unknown", self.unknown, "in ClickHouse, but not in the raw topic"),
        ]
        return [each.described() for each in self.expired] + [
            f"{len(ids) + self.unnamed.get(name, 0)} {what}: {', '.join(ids[:_SHOWN])}{' …' if len(ids) > _SHOWN else ''}"
            for name, ids, what in wrong
            if ids
        ]


@dataclass
class Comparison:
    """Of some deliveries: what the raw topic and ClickHouse do not agree on. `take` adds others to it."""

    raw: int = 0
    repeated: int = 0
    missing: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    unnamed: Counter[str] = field(default_factory=Counter)

    def take(self, raw: Sequence[str], landed: LandedIds) -> None:
        """Compares deliveries that no other `take` has.

        Args:
            raw: Their ids in the raw topic, a repeat as often as it lies there.
            landed: Their ids in ClickHouse, a doubled one as often as it has rows.
        """
        in_raw, in_table = set(raw), set(landed.reachable)
        in_table.update(landed.others)
        self.raw += len(in_raw)
        if len(in_raw) < len(raw):
            self.repeated += sum(copies > 1 for copies in Counter(raw).values())
        if in_raw != in_table:
            self._name("missing", self.missing, in_raw - in_table)
            self._name("unknown", self.unknown, set(landed.reachable) - in_raw)
        if len(in_table) < len(landed.reachable) + len(landed.others):
            rows = Counter([*landed.reachable, *landed.others])
            self._name("doubled", self.doubled, [delivery_id for delivery_id, count in rows.items() if count > 1])

    def _name(self, finding: str, names: list[str], new: Collection[str]) -> None:
        room = NAMED - len(names)
        names += sorted(new)[:room]
        if len(new) > room:
            self.unnamed[finding] += len(new) - room


async def reconcile(settings: Settings, *, wait_seconds: float = 10.0) -> Account:
    """Accounts for every delivery; what is still on its way is waited for, up to `wait_seconds` in all.

    Both sides are cut into the same buckets, and only one is in memory at a time; what does not agree is looked at again,
    one by one, while there is time.

    Raises:
        UnavailableError: Kafka or ClickHouse cannot be reached.
        RunError: A topic or table is missing.
    """
    deadline = asyncio.get_running_loop().time() + wait_seconds
    found, scan = await _compared(settings)
    while (found.missing or found.doubled or found.unknown) and asyncio.get_running_loop().time() < deadline:
        await asyncio.sleep(_RETRY_SECONDS)
        if found.unnamed:
            found, scan = await _compared(settings)
        else:
            scan = await _look_again(settings, found, scan)
    unjudged = await _unjudged(settings, found.missing)
    account = Account(
        raw=found.raw,
        repeated=found.repeated,
        judged=found.raw - len(unjudged),
        landed=await landed_by_verdict(settings.clickhouse),
        unjudged=unjudged,
        missing=sorted(found.missing),
        doubled=sorted(found.doubled),
        unknown=sorted(found.unknown),
        expired=await expired_ranges(settings),
        unnamed=dict(found.unnamed),
        undecodable=scan.undecodable,
    )
    if found.unnamed["missing"] and unjudged:  # the intake stands still, most likely: what is not named is not judged either
        return replace(
            account,
            judged=account.judged - found.unnamed["missing"],
            unnamed=found.unnamed | {"unjudged": found.unnamed["missing"]},
        )
    return account


async def _compared(settings: Settings) -> tuple[Comparison, TopicScan]:
    began = datetime.now(UTC)
    found = Comparison()
    with tempfile.TemporaryDirectory(prefix="kyb-stream-reconcile-") as folder:
        buckets, scan = await collect_ids(settings.kafka, settings.topic(RAW), Path(folder))
        unseen = set(buckets.keys())
        since = None if scan.complete_since_ms is None else datetime.fromtimestamp(scan.complete_since_ms / 1000, UTC)
        # What was received after we began to read need not be in what we read.
        async for key, landed in landed_ids(settings.clickhouse, since=since, until=began):
            found.take(buckets.take(key), landed)
            unseen.discard(key)
        for key in unseen:
            found.take(buckets.take(key), LandedIds([], []))
    return found, scan


async def _look_again(settings: Settings, found: Comparison, scan: TopicScan) -> TopicScan:
    """Removes what has arrived meanwhile from what was found."""
    found.missing = await missing_of(settings.clickhouse, found.missing)
    if found.unknown:
        unknown = set(found.unknown)
        later = await scan_ids(
            settings.kafka,
            settings.topic(RAW),
            WebhookDelivery,
            lambda ids: unknown.difference_update(each.decode() for each in ids),
            begin=scan.ends,
        )
        found.unknown = sorted(unknown)
        scan = replace(scan, ends=later.ends)
    return scan


async def _unjudged(settings: Settings, missing: Sequence[str]) -> list[str]:
    """Which of these the intake has not judged. What is in ClickHouse was judged; only what is missing there is asked for."""
    if not missing:
        return []
    left = set(missing)
    await scan_ids(
        settings.kafka,
        settings.topic(DELIVERIES),
        Delivery,
        lambda ids: left.difference_update(each.decode() for each in ids),
    )
    return sorted(left)

"""What the ingress turned away: counted per source, reason and minute, so that a flood costs a row a minute."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from kybstream.ids import derived_id
from kybstream.settings import UNKNOWN_SOURCE
from schemas.records import Rejection

MAX_COUNTS = 10_000
"""Counts kept while Kafka is away: with ten sources and five reasons each, more than three hours."""

Key = tuple[datetime, str, str]


class RejectionCounts:
    """Counts, pure: no clock, no I/O.

    A minute's counts are handed out when the minute is over, so that each has its final number: the record's id is derived from
    minute, source and reason, and a record sent twice is the same record.

    Args:
        ingress: Names this process; must differ between two starts, whose minutes may be the same.
        tenants: The tenant of each source.
        max_counts: How many counts are kept; beyond, new ones are dropped and existing ones still grow.
    """

    def __init__(self, ingress: str, tenants: Mapping[str, str], *, max_counts: int = MAX_COUNTS) -> None:
        self._ingress = ingress
        self._tenants = dict(tenants)
        self._max_counts = max_counts
        self._counts: dict[Key, int] = {}

    def count(self, source: str, reason: str, now: datetime) -> None:
        """Counts one request; a source that is not configured counts as `unknown`."""
        known = source if source in self._tenants else UNKNOWN_SOURCE
        key = (now.replace(second=0, microsecond=0), known, reason)
        if key in self._counts or len(self._counts) < self._max_counts:
            self._counts[key] = self._counts.get(key, 0) + 1

    def due(self, now: datetime) -> list[Rejection]:
        """The counts of the minutes that are over, oldest first; they stay until `settle`."""
        minute = now.replace(second=0, microsecond=0)
        return [self._record(key, count) for key, count in sorted(self._counts.items()) if key[0] < minute]

    def all(self) -> list[Rejection]:
        """All counts, for the end of the process: nothing may be counted after it."""
        return [self._record(key, count) for key, count in sorted(self._counts.items())]

    def settle(self, rejection: Rejection) -> None:
        """Forgets a count that Kafka has."""
        self._counts.pop((rejection.minute, rejection.source, rejection.reason), None)

    def _record(self, key: Key, count: int) -> Rejection:
        minute, source, reason = key
        return Rejection(
            rejection_id=derived_id(self._ingress, source, reason, minute.isoformat()),
            minute=minute,
            tenant=self._tenants.get(source),
            source=source,
            reason=reason,
            count=count,
            ingress=self._ingress,
        )

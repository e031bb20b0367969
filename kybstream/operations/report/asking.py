"""Asking ClickHouse for the figures of a report.

Percentiles cannot be added up, so where the report groups otherwise than a view does (weeks, all tenants), they are computed
from `current_cases`. Counts are added up from the views.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import TypeVar

import msgspec

from kybstream.operations.report import statements
from kybstream.operations.report.figures import (
    Age,
    DaySpread,
    Deliveries,
    Funnel,
    PartSpread,
    Report,
    StraightThrough,
    Survival,
    SurvivalStep,
    Tenant,
)
from kybstream.settings import ClickHouseSettings
from sinks.query import Parameter, query

MOST_SERVICES = 40
MOST_TENANTS = 40
WEEK, MONTH = 7, 30
_DAYS_BY_DAY, _DAYS_BY_WEEK = 62, 500
_DAYS_BY_HOUR = 45
_BUCKETS = ("0-2", "3-10", "11-30", "31+")

_Row = TypeVar("_Row", bound=msgspec.Struct)


class _SurvivalRow(SurvivalStep, frozen=True):
    """A step, and beside each what holds for all."""

    cases: int
    closed: int
    p50: float | None
    p90: float | None


async def make_report(clickhouse: ClickHouseSettings, *, since: date, made_at: datetime, tenant: str | None) -> Report:
    """Asks for everything, one question after the other.

    Args:
        clickhouse: Where.
        since: First day of the period, UTC.
        made_at: Now, aware: where the period ends.
        tenant: Whose cases; None: everybody's.

    Raises:
        UnavailableError: ClickHouse cannot be reached.
        RunError: It refused a query.
    """
    ask = _Asking(clickhouse, since, tenant)
    days = (made_at.astimezone(UTC).date() - since).days + 1
    bucket_days = 1 if days <= _DAYS_BY_DAY else WEEK if days <= _DAYS_BY_WEEK else MONTH
    bucket_hours = 1 if days <= _DAYS_BY_HOUR else 24
    latency = await ask.rows(statements.latency(bucket_days), DaySpread)
    funnel = await ask.rows(statements.FUNNEL, Funnel)
    ages = {each.bucket: each for each in await ask.rows(statements.AGEING, Age)}
    [straight_through] = await ask.rows(statements.STRAIGHT_THROUGH, StraightThrough)
    return Report(
        since=since,
        made_at=made_at,
        tenant=tenant,
        tenants=[] if tenant else (await ask.rows(statements.TENANTS, Tenant))[:MOST_TENANTS],
        bucket_days=bucket_days,
        # A week or a month that began before the period has only those days of it that are in the period.
        latency=[msgspec.structs.replace(each, day=max(each.day, since)) for each in latency],
        parts=await ask.rows(statements.PARTS, PartSpread),
        survival=_survival(await ask.rows(statements.SURVIVAL, _SurvivalRow)),
        straight_through=straight_through,
        funnel=funnel[: MOST_SERVICES + 1],
        services_left_out=max(0, len(funnel) - MOST_SERVICES - 1),
        ageing=[ages.get(bucket, Age(bucket)) for bucket in _BUCKETS],
        bucket_hours=bucket_hours,
        deliveries=await ask.rows(statements.deliveries(bucket_hours), Deliveries),
    )


def _survival(rows: list[_SurvivalRow]) -> Survival:
    if not rows:
        return Survival([], 0, 0, None, None)
    return Survival(list(reversed(rows)), rows[0].cases, rows[0].closed, rows[0].p50, rows[0].p90)


class _Asking:
    """Questions about one period and one tenant, or all."""

    def __init__(self, clickhouse: ClickHouseSettings, since: date, tenant: str | None) -> None:
        self._clickhouse = clickhouse
        self._of = statements.OF_TENANT if tenant else ""
        self._parameters: Mapping[str, Parameter] = {"since": since.isoformat(), **({"tenant": tenant} if tenant else {})}

    async def rows(self, statement: str, kind: type[_Row]) -> list[_Row]:
        """The rows of the answer; the columns are the kind's fields."""
        answer = await query(self._clickhouse, statement.replace(statements.AND_TENANT, self._of), parameters=self._parameters)
        names = [column.name for column in answer.columns]
        return [msgspec.convert(dict(zip(names, row, strict=True)), kind, strict=False) for row in answer.rows]

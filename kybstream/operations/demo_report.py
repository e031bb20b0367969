"""What the demonstration reports: figures that ClickHouse answers, as a value that prints as JSON or as tables."""

from __future__ import annotations

import msgspec

from kybstream.operations.demonstration import Checked
from kybstream.settings import ClickHouseSettings
from sinks.query import Value, query


class Quantiles(msgspec.Struct, frozen=True):
    """A distribution in seconds."""

    count: int
    p50: float
    p90: float
    p99: float


class CaseCount(msgspec.Struct, frozen=True):
    """Cases of one match state and outcome."""

    match_state: str
    outcome: str
    cases: int


class Report(msgspec.Struct, frozen=True):
    """The demonstration in figures.

    Attributes:
        scale_seconds_per_day: Real seconds that stood for one day of the providers.
        requests: HTTP requests the providers made.
        deliveries: Deliveries acknowledged, by verdict.
        duplicate_rate: Duplicates among all deliveries.
        events: Events by type.
        cases: Cases by match state and outcome.
        case_latency: Opening to closing of closed cases, in real seconds, by where the opening comes from.
        webhook_to_queryable: Receipt of a delivery to its row in ClickHouse, in real seconds.
        seconds: How long the demonstration took.
        peak_memory_mib: Highest memory of all processes together.
        wrong: What does not reconcile; empty when all is well.
    """

    scale_seconds_per_day: float
    requests: int
    deliveries: dict[str, int]
    duplicate_rate: float
    events: dict[str, int]
    cases: list[CaseCount]
    case_latency: dict[str, Quantiles]
    webhook_to_queryable: Quantiles
    seconds: float
    peak_memory_mib: int
    wrong: list[str]


_QUANTILES = "quantilesExactInclusive(0.5, 0.9, 0.99)"


async def make_report(
    clickhouse: ClickHouseSettings,
    checked: Checked,
    *,
    scale_seconds_per_day: float,
    requests: int,
    seconds: float,
    peak_memory_bytes: int,
) -> Report:
    """Asks ClickHouse for the figures.

    Raises:
        UnavailableError: ClickHouse cannot be reached.
        RunError: It refused a query.
    """
    counts = await query(
        clickhouse,
        "SELECT match_state, outcome, count() FROM current_cases GROUP BY match_state, outcome ORDER BY match_state, outcome",
    )
    latency = await query(
        clickhouse,
        f"SELECT opened_at_source, count(), {_QUANTILES}(dateDiff('microsecond', opened_at, closed_at) / 1e6) "  # noqa: S608
        "FROM current_cases WHERE closed_at IS NOT NULL GROUP BY opened_at_source ORDER BY opened_at_source",
    )
    events = await query(clickhouse, "SELECT type, count() FROM events GROUP BY type ORDER BY type")
    delay = await query(
        clickhouse,
        f"SELECT count(), {_QUANTILES}(dateDiff('microsecond', received_at, _inserted_at) / 1e6) FROM deliveries",  # noqa: S608
    )
    landed = dict(checked.account.landed)
    return Report(
        scale_seconds_per_day=scale_seconds_per_day,
        requests=requests,
        deliveries=landed,
        duplicate_rate=landed.get("duplicate", 0) / max(sum(landed.values()), 1),
        events={str(kind): int(str(count)) for kind, count in events.rows},
        cases=[CaseCount(str(state), str(outcome), int(str(cases))) for state, outcome, cases in counts.rows],
        case_latency={str(source): _quantiles(count, values) for source, count, values in latency.rows},
        webhook_to_queryable=_quantiles(*delay.rows[0]),
        seconds=round(seconds, 1),
        peak_memory_mib=peak_memory_bytes // (1024 * 1024),
        wrong=checked.wrong,
    )


def _quantiles(count: Value, values: Value) -> Quantiles:
    p50, p90, p99 = (float(str(value)) for value in values) if isinstance(values, list) else (0.0, 0.0, 0.0)
    return Quantiles(int(str(count)), p50, p90, p99)

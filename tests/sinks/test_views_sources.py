"""`retry_conformance`, `provider_silence` and `signature_failures`: figures computed by hand."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest

from kybstream.settings import ClickHouseSettings
from schemas.records import Delivery
from tests.sinks.making import at, delivery, land, rejection, rows

_HOUR = 3600


def _delivered(first: int, seconds: Sequence[float], **fields: object) -> list[Delivery]:
    """One event, delivered at these seconds of the day; ids count from `first`."""
    made: dict[str, object] = {"source": "kyc", "source_kind": "kyc-registration", "event_id": f"event-{first}"}
    return [
        delivery(first + index, received_at=at(seconds=each), verdict="duplicate" if index else "new", **made | fields)
        for index, each in enumerate(seconds)
    ]


async def test_retry_conformance_by_hand(clickhouse: ClickHouseSettings) -> None:
    """Gaps against the interval that holds where they begin: in time, several intervals long, too short, in between, too late.

    Of 10, 20, 5 and 14 s in the first phase two are whole multiples; of 300 and 450 s in the second one; 48 h is the end.
    """
    await land(
        clickhouse,
        [
            *_delivered(100, (0, 10, 30, 35, 49)),
            *_delivered(200, (600, 1200, 1500, 1950)),  # its first gap, 600 s, belongs to the first phase
            *_delivered(300, (0, _HOUR, 2 * _HOUR, 48 * _HOUR, 50 * _HOUR)),
            *_delivered(400, (7,)),
            *_delivered(500, (0, 3), source="kyb", source_kind="kyb-service"),
        ],
    )
    await land(clickhouse, _delivered(100, (0, 10)))
    names = "phase, interval_seconds, events, repeats, on_schedule, too_early, off_schedule, conformance, gap_p50_seconds"
    found = await rows(clickhouse, f"SELECT day, source, {names} FROM retry_conformance ORDER BY phase", final=False)  # noqa: S608
    assert [tuple(row.values()) for row in found] == [
        ("2026-03-10", "kyc", "after 48 h", None, 1, 1, 0, 0, 1, 0, 2 * _HOUR),
        ("2026-03-10", "kyc", "every 10 s", 10, 3, 6, 4, 1, 1, 4 / 6, 17),  # 5, 10, 14, 20, 600, 3600
        ("2026-03-10", "kyc", "every 5 min", 300, 1, 2, 1, 0, 1, 1 / 2, 375),
        ("2026-03-10", "kyc", "every hour", 3600, 1, 2, 2, 0, 0, 1, 23.5 * _HOUR),
        ("2026-03-10", "kyb", "undocumented", None, 1, 1, None, None, None, None, 3),
    ]
    (row,) = await rows(clickhouse, "SELECT * FROM retry_conformance WHERE phase = 'every 5 min'", final=False)
    assert [row[f"gap_p{share}_seconds"] for share in (90, 95, 99)] == [435, 442.5, 448.5]


async def test_provider_silence_by_hand(clickhouse: ClickHouseSettings) -> None:
    """Gaps of 10, 20, 30, 40 and 100 s: median 30, p90 76, p95 88, p99 97.6; deliveries from before 28 days make none.

    A source with one delivery has no gaps; one that was only turned away never delivered; nobody's requests do not count.
    """
    now = datetime.now(UTC)
    last = now - timedelta(minutes=10)
    regular = [last - timedelta(seconds=seconds) for seconds in (0, 100, 140, 170, 190, 200)]
    deliveries = [delivery(number, received_at=time) for number, time in enumerate([*regular, now - timedelta(days=29)])]
    await land(clickhouse, [*deliveries, delivery(90, source="once", received_at=now - timedelta(days=40))])
    await land(clickhouse, deliveries)
    await land(
        clickhouse,
        [
            rejection(1, tenant="acme", source="kyb", minute=now - timedelta(hours=1)),
            rejection(2, tenant="acme", source="kyb", minute=now.replace(second=0, microsecond=0), count=7),
            rejection(3, tenant="acme", source="never", minute=now - timedelta(days=50), count=3),
            rejection(4),
        ],
    )
    kyb, never, once = await rows(clickhouse, "SELECT * FROM provider_silence ORDER BY source", final=False)
    assert (kyb["tenant"], kyb["deliveries"], kyb["turned_away_since"], kyb["is_unusual"]) == ("acme", 6, 7, True)
    assert kyb["silent_seconds"] == pytest.approx(600, abs=60)
    assert datetime.fromisoformat(str(kyb["last_received_at"])) == last
    assert [kyb[f"gap_{name}_seconds"] for name in ("p50", "p90", "p95", "p99", "max")] == [30, 76, 88, 97.6, 100]
    assert (once["deliveries"], once["gap_p50_seconds"], once["gap_max_seconds"], once["is_unusual"]) == (0, None, None, False)
    assert once["silent_seconds"] == pytest.approx(40 * 86_400, abs=60)
    assert (never["last_received_at"], never["silent_seconds"], never["turned_away_since"]) == (None, None, 3)
    assert (never["source"], never["deliveries"], never["is_unusual"]) == ("never", 0, False)


async def test_signature_failures_by_hand(clickhouse: ClickHouseSettings) -> None:
    """Counts of two ingresses in one minute add up; other reasons do not count; midnight begins a day."""
    wrong = {"tenant": "acme", "source": "kyb", "reason": "signature_bad_signature"}
    await land(
        clickhouse,
        [
            rejection(1, **wrong, count=3),
            rejection(2, **wrong, count=4, minute=at(minutes=1), ingress="ingress-2"),
            rejection(3, **wrong, count=2, minute=at(hours=23, minutes=59)),
            rejection(4, **wrong, count=1, minute=at(days=1)),
            rejection(5, **wrong | {"reason": "wrong_token", "source": "quiet"}, count=5),
            rejection(6, **wrong | {"reason": "too_large"}, count=100),
            rejection(7, count=100),
        ],
    )
    await land(
        clickhouse, [delivery(1), delivery(2), delivery(3), delivery(4, received_at=at(days=1)), delivery(5, tenant="other")]
    )
    await land(clickhouse, [delivery(1)])
    found = await rows(clickhouse, "SELECT * FROM signature_failures ORDER BY day, source", final=False)
    bad = "signature_bad_signature"
    times = [[str(row.pop(name))[11:16] for name in ("first_minute", "last_minute")] for row in found]
    assert [tuple(row.values()) for row in found] == [
        # requests, minutes, most in a minute, accepted, rate
        ("2026-03-10", "acme", "kyb", bad, 9, 2, 7, 3, 9 / 12),
        ("2026-03-10", "acme", "quiet", "wrong_token", 5, 1, 5, 0, 1),
        ("2026-03-11", "acme", "kyb", bad, 1, 1, 1, 1, 1 / 2),
    ]
    assert times == [["00:01", "23:59"], ["00:05", "00:05"], ["00:00", "00:00"]]

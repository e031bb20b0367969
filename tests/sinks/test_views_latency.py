"""`case_latency` and `case_latency_survival`: figures computed by hand, and by scikit-survival."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from sksurv.nonparametric import kaplan_meier_estimator  # type: ignore[import-untyped]

from kybstream.settings import ClickHouseSettings
from schemas.records import Record, Service
from tests.sinks.making import at, case, land, rows

_LATENCY = "SELECT * FROM case_latency ORDER BY day, service, part, opened_at_source"


def _closed(case_id: str, seconds: float, **fields: object) -> Record:
    made: dict[str, object] = {
        "version": 2,
        "outcome": "completed",
        "kyb_status": "resolved",
        "kyc_status": "success",
        "kyb_initiated_at": at(seconds=1),
        "kyb_resolved_at": at(seconds=seconds),
        "kyc_final_at": at(seconds=seconds / 2),
        "closed_at": at(seconds=seconds),
    }
    return case(case_id, **made | fields)


async def test_case_latency_by_hand(clickhouse: ClickHouseSettings) -> None:
    """Five closed cases of 10, 20, 30, 40 and 100 s: mean 40, median 30, p90 76, p95 88, p99 97.6; open ones do not count."""
    aml = Service(name="aml", initiated_at=at(seconds=2), resolved_at=at(seconds=8))
    half_open = Service(name="documents", initiated_at=at(seconds=2))
    await land(
        clickhouse,
        [
            _closed("c1", 10, services=(aml, half_open)),
            *(_closed(f"c{each}", each) for each in (20, 30, 40, 100)),
            case("open"),
        ],
    )
    found = await rows(clickhouse, _LATENCY, final=False)
    whole = {row["part"]: row for row in found if row["service"] == "(all)"}
    assert whole["case"] == {
        "day": "2026-03-10",
        "tenant": "acme",
        "service": "(all)",
        "part": "case",
        "opened_at_source": "event",
        "cases": 5,
        "mean_seconds": 40,
        "p50_seconds": 30,
        "p90_seconds": 76,
        "p95_seconds": 88,
        "p99_seconds": 97.6,
    }
    assert (whole["kyb"]["p50_seconds"], whole["kyb"]["mean_seconds"]) == (29, 39)  # from its initiation, a second later
    assert (whole["kyc"]["p50_seconds"], whole["kyc"]["mean_seconds"]) == (15, 20)
    named = {(row["service"], row["part"]): row["p50_seconds"] for row in found if row["service"] != "(all)"}
    assert named == {
        ("aml", "case"): 10,
        ("aml", "kyb"): 9,
        ("aml", "kyc"): 5,
        ("aml", "service"): 6,
        ("documents", "case"): 10,
        ("documents", "kyb"): 9,
        ("documents", "kyc"): 5,
    }


async def test_kinds_of_start_are_never_mixed(clickhouse: ClickHouseSettings) -> None:
    """Each source of the opening has its own row; the KYB half of a case that a link opened starts by its own initiation.

    An initiation that was received after the resolution starts nothing: the half counts from the opening, the service nowhere.
    """
    swapped = Service(name="aml", initiated_at=at(seconds=9), resolved_at=at(seconds=4))
    nothing_initiated = {"kyb_initiated_at": None}
    await land(
        clickhouse,
        [
            _closed("measured", 10),
            _closed("linked", 20, opened_at_source="link"),
            _closed("guessed", 30, opened_at_source="id_embedded", **nothing_initiated),
            _closed("late", 40, opened_at_source="first_receipt", **nothing_initiated),
            _closed("swapped", 60, opened_at_source="first_receipt", services=(swapped,), kyb_initiated_at=at(seconds=61)),
        ],
    )
    found = await rows(clickhouse, _LATENCY, final=False)
    shown = {
        (row["part"], row["opened_at_source"]): (row["cases"], row["p50_seconds"]) for row in found if row["service"] == "(all)"
    }
    assert shown == {
        ("case", "event"): (1, 10),
        ("case", "link"): (1, 20),
        ("case", "id_embedded"): (1, 30),
        ("case", "first_receipt"): (2, 50),
        ("kyb", "event"): (2, 14),  # 9 and 19
        ("kyb", "id_embedded"): (1, 30),
        ("kyb", "first_receipt"): (2, 50),
        ("kyc", "event"): (1, 5),
        ("kyc", "link"): (1, 10),
        ("kyc", "id_embedded"): (1, 15),
        ("kyc", "first_receipt"): (2, 25),
    }
    assert {row["part"] for row in found if row["service"] == "aml"} == {"case", "kyb", "kyc"}


@pytest.mark.parametrize("time_zone", ["UTC", "America/New_York"])
async def test_days_and_durations_are_utc(clickhouse: ClickHouseSettings, time_zone: str) -> None:
    """Midnight, the clock change of New York (2026-03-08 07:00 UTC) and 29 February: neither the day nor the length moves."""

    def span(case_id: str, opened: datetime, closed: datetime) -> Record:
        return case(case_id, opened_at=opened, closed_at=closed, outcome="completed", kyb_status="resolved")

    last = datetime(2026, 3, 10, 23, 59, 59, 999_999, tzinfo=UTC)
    await land(
        clickhouse,
        [
            span("before midnight", last - timedelta(seconds=1), last),
            span("at midnight", last - timedelta(seconds=1), last + timedelta(microseconds=1)),
            span("clock change", datetime(2026, 3, 8, 6, 30, tzinfo=UTC), datetime(2026, 3, 8, 7, 30, tzinfo=UTC)),
            span("leap day", datetime(2028, 2, 28, tzinfo=UTC), datetime(2028, 2, 29, 23, tzinfo=UTC)),
            span("after it", datetime(2028, 2, 28, tzinfo=UTC), datetime(2028, 3, 1, tzinfo=UTC)),
        ],
    )
    sql = "SELECT day, p50_seconds FROM case_latency WHERE part = 'case' ORDER BY day SETTINGS session_timezone = "
    found = await rows(clickhouse, f"{sql}'{time_zone}'", final=False)
    assert [(row["day"], row["p50_seconds"]) for row in found] == [
        ("2026-03-08", 3600),
        ("2026-03-10", 1),
        ("2026-03-11", 1.000001),
        ("2028-02-29", 47 * 3600),
        ("2028-03-01", 48 * 3600),
    ]


async def test_a_case_that_was_opened_again_is_open(clickhouse: ClickHouseSettings) -> None:
    """Its first closing counts nowhere; when it closes again it counts once, by its new closing, from its first opening."""
    await land(clickhouse, [_closed("c", 10), case("c", version=3)])
    assert await rows(clickhouse, "SELECT * FROM case_latency", final=False) == []
    await land(clickhouse, [_closed("c", 50, version=4)])
    (row,) = await rows(clickhouse, "SELECT cases, p50_seconds FROM case_latency WHERE part = 'case'", final=False)
    assert row == {"cases": 1, "p50_seconds": 50}


async def test_survival_by_hand(clickhouse: ClickHouseSettings) -> None:
    """Six cases: one closes after 10 s, two after 20, where one expires, one after 40, one expires after 50.

    5/6 last longer than 10 s; of five then at risk two close, so 5/6 x 3/5 = 1/2; of the last two one, so 1/4.
    """
    expired = {"outcome": "expired", "kyb_status": "none", "kyc_status": "none"}
    halves = {"kyb_status": "none", "kyc_status": "none"}
    await land(
        clickhouse,
        [
            *(_closed(f"c{number}", seconds, **halves) for number, seconds in enumerate((10, 20, 20, 40))),
            *(case(f"e{seconds}", deadline_at=at(seconds=seconds), **expired) for seconds in (20, 50)),
        ],
    )
    found = await rows(clickhouse, "SELECT * FROM case_latency_survival ORDER BY seconds", final=False)
    names = ("seconds", "at_risk", "closed", "censored", "survival")
    assert [tuple(row[name] for name in names) for row in found] == [
        (10, 6, 1, 0, 0.833333333),
        (20, 5, 2, 1, 0.5),
        (40, 2, 1, 0, 0.25),
        (50, 1, 0, 1, 0.25),
    ]
    assert {(row["tenant"], row["service"], row["part"], row["opened_at_source"]) for row in found} == {
        ("acme", "(all)", "case", "event")
    }


async def test_survival_has_open_cases_and_their_halves(clickhouse: ClickHouseSettings) -> None:
    """Open cases are censored now, parts of a closed case that never ended when it closed; nobody closed: survival is 1."""
    now = datetime.now(UTC)
    opened = now - timedelta(hours=1)
    aml = Service(name="aml", initiated_at=opened)
    backwards = Service(name="kyc", initiated_at=at(seconds=9), resolved_at=at(seconds=4))
    await land(
        clickhouse,
        [
            case("open", opened_at=opened, kyb_initiated_at=opened, services=(aml,), kyc_status="none"),
            _closed("rejected", 100, outcome="rejected", kyb_resolved_at=None, kyb_status="pending", services=(backwards,)),
        ],
    )
    sql = "SELECT *, seconds BETWEEN 3600 AND 3660 AS an_hour FROM case_latency_survival ORDER BY service, part, seconds"
    found = await rows(clickhouse, sql, final=False)
    names = ("service", "part", "an_hour", "at_risk", "closed", "censored", "survival", "survival_lower_95")
    assert [tuple(row[name] for name in names) for row in found] == [
        ("(all)", "case", 0, 2, 1, 0, 0.5, pytest.approx(0.005983, abs=1e-6)),
        ("(all)", "case", 1, 1, 0, 1, 0.5, pytest.approx(0.005983, abs=1e-6)),
        ("(all)", "kyb", 0, 2, 0, 1, 1, None),
        ("(all)", "kyb", 1, 1, 0, 1, 1, None),
        ("(all)", "kyc", 0, 1, 1, 0, 0, None),
        ("aml", "service", 1, 1, 0, 1, 1, None),
    ]


async def test_survival_is_that_of_scikit_survival(clickhouse: ClickHouseSettings) -> None:
    """400 random cases with many ties, a third of them censored: each step and its confidence interval agree."""
    chance = random.Random(6)  # noqa: S311 (no secret)
    drawn = [(chance.random() < 2 / 3, float(min(int(chance.expovariate(1 / 40)), 150))) for _ in range(400)]
    none = {"kyb_status": "none", "kyc_status": "none"}
    await land(
        clickhouse,
        [
            _closed(f"c{number}", seconds, **none)
            if closed
            else case(f"c{number}", outcome="expired", deadline_at=at(seconds=seconds), **none)
            for number, (closed, seconds) in enumerate(drawn)
        ],
    )
    found = await rows(clickhouse, "SELECT * FROM case_latency_survival ORDER BY seconds", final=False)
    events, durations = np.array([closed for closed, _ in drawn]), np.array([seconds for _, seconds in drawn])
    times, survival, (lower, upper) = kaplan_meier_estimator(events, durations, conf_type="log-log")
    assert [row["seconds"] for row in found] == list(times)
    assert [row["survival"] for row in found] == pytest.approx(list(survival), abs=1e-9)
    bounded = [index for index, row in enumerate(found) if row["survival_lower_95"] is not None]
    assert len(bounded) > len(found) - 3
    assert [found[index]["survival_lower_95"] for index in bounded] == pytest.approx(list(lower[bounded]), abs=1e-9)
    assert [found[index]["survival_upper_95"] for index in bounded] == pytest.approx(list(upper[bounded]), abs=1e-9)

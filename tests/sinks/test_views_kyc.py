"""`resubmission_loops`, `rejection_reasons` and `data_quality`: figures computed by hand."""

from __future__ import annotations

from kybstream.settings import ClickHouseSettings
from schemas.records import Event
from tests.sinks.making import at, event, land, rows

_TEMPORARY, _PERMANENT, _SUCCESS = "temporary_rejection", "permanent_rejection", "success"


def _result(number: int, subject: str | None, status: str | None, seconds: float, **fields: object) -> Event:
    made: dict[str, object] = {
        "source": "kyc",
        "source_kind": "kyc-registration",
        "type": "kyc_result",
        "subject": subject,
        "status": status,
        "received_at": at(seconds=seconds),
    }
    return event(number, **made | fields)


async def test_resubmission_loops_by_hand(clickhouse: ClickHouseSettings) -> None:
    """Successes 10 and 20 s after the first temporary rejection: median 15, p90 19, p95 19.5, p99 19.9.

    A success before the first temporary rejection ends nothing. Of results at the same time the temporary rejections count
    first, whatever their ids. A person without a temporary rejection is not in it. A repeat that landed twice counts once.
    """
    first = [
        _result(1, "straight", _SUCCESS, 0),
        _result(2, "once", _TEMPORARY, 0),
        _result(3, "once", _SUCCESS, 10),
        _result(4, "twice", _TEMPORARY, 5),
        _result(5, "twice", _TEMPORARY, 15),
        _result(6, "twice", _SUCCESS, 25),
        _result(7, "given up", _PERMANENT, 0),
        _result(8, "given up", _TEMPORARY, 0),
        _result(13, "given up, ids swapped", _TEMPORARY, 0),
        _result(14, "given up, ids swapped", _PERMANENT, 0),
        _result(9, "regressed", _SUCCESS, 0),
        _result(10, "regressed", _TEMPORARY, 10),
        _result(11, "waits", _TEMPORARY, 86_400),
        _result(12, "waits", None, 86_401),
    ]
    await land(clickhouse, first)
    await land(clickhouse, first[:4])
    names = "* EXCEPT (success_p90_seconds, success_p95_seconds)"
    found = await rows(clickhouse, f"SELECT {names} FROM resubmission_loops ORDER BY day", final=False)  # noqa: S608
    assert [tuple(row.values()) for row in found] == [
        # persons, succeeded, permanently rejected, waiting, temporary rejections, resubmissions, most, p50, p99
        ("2026-03-10", "acme", 5, 2, 2, 1, 6, 5, 2, 15, 19.9),
        ("2026-03-11", "acme", 1, 0, 0, 1, 1, 1, 1, None, None),
    ]
    (row,) = await rows(clickhouse, "SELECT * FROM resubmission_loops WHERE succeeded > 0", final=False)
    assert (row["success_p90_seconds"], row["success_p95_seconds"]) == (19, 19.5)


async def test_rejection_reasons_by_hand(clickhouse: ClickHouseSettings) -> None:
    """A result counts once under each reason, whatever it repeats, and under (none) without one; successes do not count.

    A result that names nobody is no person.
    """
    await land(
        clickhouse,
        [
            _result(1, "ada", _TEMPORARY, 0, fail_reasons=("BLURRED", "BLURRED", "EXPIRED")),
            _result(2, "ada", _TEMPORARY, 1, fail_reasons=("BLURRED",)),
            _result(3, "bob", _TEMPORARY, 2, fail_reasons=("BLURRED",)),
            _result(4, "bob", _TEMPORARY, 3),
            _result(5, "bob", _PERMANENT, 4, fail_reasons=("FRAUD",)),
            _result(6, "eve", _SUCCESS, 5, fail_reasons=("BLURRED",)),
            _result(7, "eve", _PERMANENT, 86_400, fail_reasons=("other",)),
            _result(8, None, _PERMANENT, 86_401, fail_reasons=("other",)),
        ],
    )
    found = await rows(clickhouse, "SELECT * FROM rejection_reasons ORDER BY day, status, reason", final=False)
    assert [tuple(row.values()) for row in found] == [
        # results, persons, share
        ("2026-03-10", "acme", "kyc", _PERMANENT, "FRAUD", 1, 1, 1),
        ("2026-03-10", "acme", "kyc", _TEMPORARY, "(none)", 1, 1, 1 / 4),
        ("2026-03-10", "acme", "kyc", _TEMPORARY, "BLURRED", 3, 2, 3 / 4),
        ("2026-03-10", "acme", "kyc", _TEMPORARY, "EXPIRED", 1, 1, 1 / 4),
        ("2026-03-11", "acme", "kyc", _PERMANENT, "other", 2, 1, 1),
    ]


async def test_data_quality_by_hand(clickhouse: ClickHouseSettings) -> None:
    """Events that break a rule at a field, of all of their day and type, each once; a type that breaks nothing has no row."""
    await land(
        clickhouse,
        [
            _result(1, "ada", _SUCCESS, 0, violations=("missing:email", "type:a:b", "type:a:b")),
            _result(2, "bob", _SUCCESS, 1, violations=("missing:email",), unknown_fields=("newField",)),
            _result(3, "eve", _SUCCESS, 2),
            _result(4, "eve", _SUCCESS, 86_400, violations=("missing:email",)),
            event(5, received_at=at(seconds=5)),
        ],
    )
    found = await rows(clickhouse, "SELECT * FROM data_quality ORDER BY day, rule", final=False)
    assert [tuple(row.values()) for row in found] == [
        # violations, events, rate
        ("2026-03-10", "acme", "kyc", "kyc_result", "missing", "email", 2, 3, 2 / 3),
        ("2026-03-10", "acme", "kyc", "kyc_result", "type", "a:b", 1, 3, 1 / 3),
        ("2026-03-10", "acme", "kyc", "kyc_result", "undocumented", "newField", 1, 3, 1 / 3),
        ("2026-03-11", "acme", "kyc", "kyc_result", "missing", "email", 1, 1, 1),
    ]

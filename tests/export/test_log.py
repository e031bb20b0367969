"""Which rows an export has, in which order, and what happens when ClickHouse breaks off."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from kybstream.errors import RunError
from kybstream.operations.export.log import LogRow, Selection, decoded, read_log
from kybstream.settings import ClickHouseSettings
from tests.export.history import CASES, REJECTED, RESUBMITTED, land_history
from tests.sinks.making import at, case, event, land

LINE = (
    b'{"tenant":"a","case_id":"s1","at":"t","activity":"x","transition":"","resource":"","event_id":"","type":"","status":"",'
    b'"subject":"","kyc_level":"","placement":"","opened_at":"t","opened_at_source":"","updated_at":"t","match_state":"",'
    b'"kyb_status":"","kyc_status":"","outcome":""}\n'
)


async def _rows(clickhouse: ClickHouseSettings, selection: Selection) -> list[LogRow]:
    return [row async for row in read_log(clickhouse, selection)]


async def test_cases_come_whole_and_one_after_the_other(clickhouse: ClickHouseSettings) -> None:
    """Sorted by tenant, case, time and cause; events of one webhook together; each row with what is known of its case."""
    await land_history(clickhouse)
    rows = await _rows(clickhouse, Selection())
    assert len(rows) == 6 * CASES + RESUBMITTED + 3 * REJECTED + 1
    cases = [(row.tenant, row.case_id) for row in rows]
    assert sorted(set(cases)) == [each for index, each in enumerate(cases) if index == 0 or each != cases[index - 1]]
    assert [(row.activity, row.transition) for row in rows if row.case_id == "s0" and row.tenant == "acme"] == [
        ("aml", "start"),
        ("kyb_check", "start"),
        ("kyc_result temporary_rejection", "complete"),
        ("kyc_result success", "complete"),
        ("aml", "complete"),
        ("kyb_check", "complete"),
        ("completed", "complete"),
    ]
    assert {(row.outcome, row.match_state) for row in rows if row.case_id == "s1"} == {("completed", "matched")}
    assert rows[0].at == "2026-03-10T00:00:00.000000Z"


async def test_cases_are_chosen_by_opening_and_tenant(clickhouse: ClickHouseSettings) -> None:
    """From since on and before until, with events that lie outside; a tenant of any name is only compared."""
    await land_history(clickhouse)
    chosen = await _rows(clickhouse, Selection(since=at(days=3), until=at(days=4)))
    assert {row.case_id for row in chosen} == {"s3"}
    assert len(chosen) == 7
    assert {row.case_id for row in await _rows(clickhouse, Selection(since=at(days=13)))} == {"s13", "s0"}
    of_one = await _rows(clickhouse, Selection(tenant="globex"))
    assert [(row.tenant, row.case_id) for row in of_one] == [("globex", "s0")]
    assert await _rows(clickhouse, Selection(until=at(days=9), tenant="globex")) == []
    assert await _rows(clickhouse, Selection(tenant="x' OR '1'='1")) == []


async def test_an_event_whose_case_has_not_landed_is_there(clickhouse: ClickHouseSettings) -> None:
    """Without a period all events are told; a merged case's are under the one it was merged into."""
    await land(
        clickhouse, [event(1, case_id="s9", services=("aml",)), event(2, case_id="kyc:p", subject="p", type="kyc_result")]
    )
    await land(clickhouse, [case("kyc:p", outcome="merged", merged_into="s1"), case("s1")])
    rows = await _rows(clickhouse, Selection())
    assert [(row.case_id, row.activity, row.outcome) for row in rows] == [
        ("s1", "kyc_result unknown", "open"),
        ("s9", "aml", ""),
    ]


async def _pieces(*pieces: bytes) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


async def test_an_answer_may_be_cut_anywhere() -> None:
    """Pieces have any length."""
    whole = LINE * 3
    for size in (1, 7, 100, 1_000):
        cut = [whole[start : start + size] for start in range(0, len(whole), size)]
        assert len([row async for row in decoded(_pieces(*cut))]) == 3


@pytest.mark.parametrize(
    "end", [LINE[:-20], LINE[:-1], b"\r\n__exception__\r\nCode: 241. DB::Exception: memory", b"Code: 241.\n"]
)
async def test_an_answer_that_breaks_off_is_an_error(end: bytes) -> None:
    """Half a log must not be taken for a whole one: neither half a line nor ClickHouse's words are a row."""
    with pytest.raises(RunError, match="broke off"):
        _ = [row async for row in decoded(_pieces(LINE, end))]

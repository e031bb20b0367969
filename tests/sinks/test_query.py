from __future__ import annotations

import json

import pytest

from kybstream.errors import RunError, UsageError
from kybstream.settings import ClickHouseSettings
from sinks.query import Column, query, stream
from tests.sinks.making import delivery, land


async def test_numbers_stay_numbers_and_times_are_iso(clickhouse: ClickHouseSettings) -> None:
    """A 64-bit number is not text, a time names UTC, NaN is null, arrays are lists."""
    sql = "SELECT toUInt64(9007199254740993) AS big, toDateTime64(1.5, 6, 'UTC') AS time, nan AS nothing, [1, 2] AS list;"
    answer = await query(clickhouse, sql)
    assert answer.columns[0] == Column("big", "UInt64")
    assert answer.rows == ((9_007_199_254_740_993, "1970-01-01T00:00:01.500000Z", None, [1, 2]),)


async def test_each_row_counts_once_unless_asked_otherwise(clickhouse: ClickHouseSettings) -> None:
    """A row that landed twice is one row; `final=False` shows both."""
    await query(clickhouse, "SYSTEM STOP MERGES deliveries")
    await land(clickhouse, [delivery(1)])
    await land(clickhouse, [delivery(1), delivery(2)])
    assert (await query(clickhouse, "SELECT count() FROM deliveries")).rows == ((2,),)
    assert (await query(clickhouse, "SELECT count() FROM deliveries", final=False)).rows == ((3,),)


async def test_a_wrong_statement_is_told_in_clickhouses_words(clickhouse: ClickHouseSettings) -> None:
    """The error says what ClickHouse says, without addresses and versions; so does the stream's."""
    with pytest.raises(RunError, match="Unknown expression identifier `nonsense`") as caught:
        await query(clickhouse, "SELECT nonsense FROM deliveries")
    assert "http://" not in caught.value.message
    assert "version" not in caught.value.message
    with pytest.raises(RunError, match="nonsense"):
        _ = [piece async for piece in stream(clickhouse, "SELECT nonsense", "csv")]


async def test_a_database_that_is_not_there_hints_at_migrate(clickhouse_server: str) -> None:
    """Before the first migrate, the error says what to run."""
    with pytest.raises(RunError) as caught:
        await query(ClickHouseSettings(url=clickhouse_server, database="not_there"), "SELECT 1")
    assert "kyb-stream migrate" in (caught.value.hint or "")


async def test_text_comes_in_clickhouses_formats(clickhouse: ClickHouseSettings) -> None:
    """`csv` has a header, `json` is one object a line."""
    sql = "SELECT number AS n, 'a,b' AS t FROM numbers(2)"
    csv = b"".join([piece async for piece in stream(clickhouse, sql, "csv")])
    assert csv.decode().splitlines() == ['"n","t"', '0,"a,b"', '1,"a,b"']
    lines = b"".join([piece async for piece in stream(clickhouse, sql, "json")]).splitlines()
    assert [json.loads(line) for line in lines] == [{"n": 0, "t": "a,b"}, {"n": 1, "t": "a,b"}]


async def test_an_empty_statement_is_a_usage_error(clickhouse: ClickHouseSettings) -> None:
    """Nothing to run is said before anything is sent."""
    with pytest.raises(UsageError, match="empty"):
        await query(clickhouse, " ; ")

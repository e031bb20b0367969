from __future__ import annotations

import pytest

from kybstream.settings import ClickHouseSettings
from sinks.clickhouse import connected
from sinks.query import query
from sinks.resume import _OFFSET_BITS, newest_rows_query
from sinks.tables import TABLES, Table

ROWS, PARTITIONS, PARTS = 200_000, 8, 4


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
async def test_where_to_go_on_is_found_without_reading_the_table(clickhouse: ClickHouseSettings, table: Table) -> None:
    """Of hundreds of thousands of rows some dozens are read: those that each part keeps; after a merge still fewer.

    `force_optimize_projection` makes ClickHouse refuse where it would have to read the table.
    """
    for part in range(PARTS):
        await _insert(clickhouse, table, part * ROWS // PARTS, ROWS // PARTS)
    for most in (PARTS * PARTITIONS, PARTITIONS):
        found, read = await _read(clickhouse, table)
        assert found == {partition: ROWS - PARTITIONS + partition for partition in range(PARTITIONS)}
        assert read <= most
        await query(clickhouse, f"OPTIMIZE TABLE {table.name} FINAL")


async def _insert(clickhouse: ClickHouseSettings, table: Table, first: int, count: int) -> None:
    fields = [field for field in table.identity if field not in {"tenant", "version"}]
    await query(
        clickhouse,
        f"INSERT INTO {table.name} ({', '.join(fields)}, {table.time}, _topic, _partition, _offset) SELECT "  # noqa: S608
        f"{', '.join('toString(number)' for _ in fields)}, now64(6), 't', number % {PARTITIONS}, number "
        f"FROM numbers({first}, {count})",
    )


async def _read(clickhouse: ClickHouseSettings, table: Table) -> tuple[dict[int, int], int]:
    """The newest offset of each partition, and how many rows ClickHouse read for it."""
    sql = newest_rows_query(table, clickhouse.database).replace("{topic:String}", "'t'")
    async with connected(clickhouse) as client:
        result = await client.query(sql, settings={"force_optimize_projection": "1"})
    return {int(partition): int(place) & _OFFSET_BITS for partition, place, _ in result.result_rows}, int(
        result.summary["read_rows"]
    )

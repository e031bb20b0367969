"""Tables that ClickHouse derives from ours by materialized views, and how they are kept whole.

An insert lands in its table first, and in the tables derived from it a moment later: a server that is killed between the two
has the one without the other. While the sink lives it sends the insert again, and `INSERT_SETTINGS` let the repeat through to
what is derived. When the sink is gone as well, the next one goes on after the rows of the table and never sends them again. So
whoever takes a partition feeds its newest insert once more (`feed_newest`): there is one insert under way for a partition at
any time, and all before it was acknowledged. Each derived table takes a row twice without harm.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import structlog

from kybstream.errors import RunError
from kybstream.settings import ClickHouseSettings
from sinks.clickhouse import Client, in_our_words, quoted
from sinks.errors import MIGRATE_HINT

_log = structlog.get_logger(__name__)

_MEMORY_BYTES = 1_000_000_000
"""Of groups in memory; what does not fit is grouped on disk."""

INSERT_SETTINGS: Mapping[str, str] = {"deduplicate_blocks_in_dependent_materialized_views": "1"}
"""With which the sink inserts: a repeat that the table itself drops still reaches what is derived from it."""


@dataclass(frozen=True)
class Derived:
    """A derived table; the materialized view that feeds it is called `<name>_feed`.

    Attributes:
        name: Of the table.
        source: The table that it is derived from.
        time: The column of the time that a row is about; it is kept for as long as rows of the source.
    """

    name: str
    source: str
    time: str = "received_at"

    @property
    def feed(self) -> str:
        """The materialized view."""
        return f"{self.name}_feed"


DERIVED: tuple[Derived, ...] = (
    Derived("case_states", "cases", time="updated_at"),
    Derived("case_closings", "cases", time="updated_at"),
    Derived("events_by_time", "events"),
    Derived("deliveries_by_time", "deliveries"),
)


async def feed_newest(clickhouse: ClickHouseSettings, client: Client, table: str, newest: Mapping[int, int]) -> None:
    """Feeds the newest insert of these partitions to what is derived from the table; nothing when nothing is.

    The index `landed` (migration 8) leads to the rows of these inserts, so that old parts are not read.

    Args:
        clickhouse: Where.
        client: To ask with.
        table: One of our tables.
        newest: When the newest insert of each partition that was just taken over landed, in microseconds since the epoch.

    Raises:
        UnavailableError: ClickHouse does not answer.
        RefusedError: It refuses, as when a migration is missing.
    """
    targets = derived_from(table)
    if not targets or not newest:
        return
    rows = newest_inserts(newest)
    for target in targets:
        await feed(clickhouse, client, target, rows=rows)
    _log.info("sink.fed_derived", table=table, partitions=len(newest))


def derived_from(table: str) -> list[Derived]:
    """What is derived from a table."""
    return [each for each in DERIVED if each.source == table]


def newest_inserts(newest: Mapping[int, int]) -> str:
    """The condition in SQL for the rows of inserts, given by partition and landing in microseconds; at least one."""
    places = ", ".join(f"({partition}, {landed})" for partition, landed in sorted(newest.items()))
    since = f"_inserted_at >= fromUnixTimestamp64Micro({min(newest.values())}, 'UTC')"
    return f"{since} AND (_partition, toUnixTimestamp64Micro(_inserted_at)) IN ({places})"


async def feed(clickhouse: ClickHouseSettings, client: Client, target: Derived, *, rows: str = "1", beside: str = "") -> None:
    """Feeds rows of the source to a derived table, as its materialized view would.

    Args:
        clickhouse: Where.
        client: To ask with.
        target: The derived table.
        rows: Which rows, as a condition in SQL on the source's own columns; all unless given.
        beside: What the names of both tables end in, when it is not the live ones.

    Raises:
        UnavailableError: ClickHouse does not answer.
        RefusedError: It refuses, as when a migration is missing.
        RunError: The materialized view is not one of ours.
    """
    database = clickhouse.database
    source = f"{database}.{target.source}"
    with in_our_words(clickhouse):
        found = await client.query(
            "SELECT as_select FROM system.tables WHERE database = {database:String} AND name = {feed:String}",
            parameters={"database": database, "feed": target.feed},
        )
        select = str(found.result_rows[0][0]) if found.result_rows else ""
        if select.count(f"FROM {source}") != 1:
            raise RunError(f"the view {target.feed} does not read {target.source}", hint=MIGRATE_HINT)
        columns = await client.query(f"SELECT * FROM {database}.{target.feed} LIMIT 0")  # noqa: S608 (names of ours)
        await client.command(
            f"INSERT INTO {database}.{target.name}{beside} ({', '.join(columns.column_names)}) "
            f"{select.replace(f'FROM {source}', f'FROM {source}{beside}')} "
            f"SETTINGS max_insert_threads = 1, max_bytes_before_external_group_by = {_MEMORY_BYTES}, "
            f"additional_table_filters = {{{quoted(source + beside)}: {quoted(rows)}}}"
        )

"""Tables that ClickHouse derives from ours by materialized views, and how they are kept whole.

An insert lands in its table first, and in the tables derived from it a moment later: a server that is killed between the two
has the one without the other. While the sink lives it sends the insert again, and `INSERT_SETTINGS` let the repeat through to
what is derived. When the sink is gone as well, the next one goes on after the rows of the table and never sends them again. So
whoever takes a partition feeds its newest insert once more (`feed_newest`): there is one insert under way for a partition at
any time, and all before it was acknowledged. Each derived table takes a row twice without harm.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import structlog

from kybstream.settings import ClickHouseSettings
from sinks.clickhouse import Client, in_our_words

_log = structlog.get_logger(__name__)

INSERT_SETTINGS: Mapping[str, str] = {"deduplicate_blocks_in_dependent_materialized_views": "1"}
"""With which the sink inserts: a repeat that the table itself drops still reaches what is derived from it."""


@dataclass(frozen=True)
class Derived:
    """A derived table; the materialized view that feeds it is called `<name>_feed`."""

    name: str
    source: str

    @property
    def feed(self) -> str:
        """The materialized view."""
        return f"{self.name}_feed"


DERIVED: tuple[Derived, ...] = (
    Derived("case_states", "cases"),
    Derived("case_closings", "cases"),
    Derived("event_facts", "events"),
    Derived("delivery_facts", "deliveries"),
)


async def feed_newest(
    clickhouse: ClickHouseSettings, client: Client, table: str, topic: str, partitions: Collection[int]
) -> None:
    """Feeds the newest insert of these partitions to what is derived from the table; nothing when nothing is.

    Args:
        clickhouse: Where.
        client: To ask with.
        table: One of our tables.
        topic: The full name of its topic.
        partitions: Of the topic, those that were just taken over.

    Raises:
        UnavailableError: ClickHouse does not answer.
        RefusedError: It refuses, as when a migration is missing.
    """
    targets = [each for each in DERIVED if each.source == table]
    if not targets or not partitions:
        return
    source = f"{clickhouse.database}.{table}"
    with in_our_words(clickhouse):
        newest = await client.query(
            f"SELECT _partition, toUnixTimestamp64Micro(max(_inserted_at)) FROM {source} "  # noqa: S608 (names of ours)
            "WHERE _topic = {topic:String} AND _partition IN {partitions:Array(Int32)} GROUP BY _partition",
            parameters={"topic": topic, "partitions": sorted(partitions)},
        )
    if not newest.result_rows:
        return
    places = ", ".join(f"({int(partition)}, {int(landed)})" for partition, landed in newest.result_rows)
    rows = f"(_partition, toUnixTimestamp64Micro(_inserted_at)) IN ({places})"
    for target in targets:
        await feed(clickhouse, client, target, rows=rows)
    _log.info("sink.fed_derived", table=table, partitions=len(newest.result_rows))


async def feed(clickhouse: ClickHouseSettings, client: Client, target: Derived, *, rows: str = "1") -> None:
    """Feeds rows of the source to a derived table, as its materialized view would.

    Args:
        clickhouse: Where.
        client: To ask with.
        target: The derived table.
        rows: Which rows, as a condition in SQL on the source's own columns; all unless given.

    Raises:
        UnavailableError: ClickHouse does not answer.
        RefusedError: It refuses, as when a migration is missing.
    """
    with in_our_words(clickhouse):
        found = await client.query(
            "SELECT as_select FROM system.tables WHERE database = {database:String} AND name = {feed:String}",
            parameters={"database": clickhouse.database, "feed": target.feed},
        )
        columns = await client.query(
            f"SELECT * FROM {clickhouse.database}.{target.feed} LIMIT 0"  # noqa: S608 (names of ours)
        )
        source = f"{clickhouse.database}.{target.source}"
        condition = rows.replace("\\", "\\\\").replace("'", "\\'")
        await client.command(
            f"INSERT INTO {clickhouse.database}.{target.name} ({', '.join(columns.column_names)}) "
            f"{found.result_rows[0][0]} SETTINGS additional_table_filters = {{'{source}': '{condition}'}}"
        )

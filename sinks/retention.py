"""How long tables keep rows: a TTL of each table, set to what the settings say at each migrate. Pure but for `retain`."""

from __future__ import annotations

import re
from collections.abc import Mapping

from kybstream.settings import ClickHouseSettings
from sinks.clickhouse import Client, in_our_words
from sinks.cluster import Place
from sinks.tables import TABLES, Table

_TTL = re.compile(r"\bTTL (.+?)(?= SETTINGS |$)", re.DOTALL)
_OURS = re.compile(r"^toDateTime\((\w+)\) \+ toIntervalDay\((\d+)\)$")


def ttl_of(table: Table, days: int) -> str:
    """A row is deleted so many days after the time that it is about, in ClickHouse's own spelling."""
    return f"toDateTime({table.time}) + toIntervalDay({days})"


def retention_statements(wanted: Mapping[str, int | None], engines: Mapping[str, str]) -> list[str]:
    """What to run so that the tables keep rows for as long as is wanted; nothing where they do already.

    A TTL that is not of our form is somebody's own, and stays while the settings say nothing about that table.

    Args:
        wanted: Days by table; None for ever.
        engines: `engine_full` of the tables, as ClickHouse tells it.
    """
    statements = []
    for table in TABLES:
        found = _TTL.search(engines.get(table.name, ""))
        there = found[1].strip() if found else None
        days = wanted.get(table.name)
        if days is not None and there != ttl_of(table, days):
            statements.append(f"ALTER TABLE ${{database}}.{table.name} MODIFY TTL {ttl_of(table, days)}")
        elif days is None and there is not None and _OURS.match(there):
            statements.append(f"ALTER TABLE ${{database}}.{table.name} REMOVE TTL")
    return statements


async def retain(clickhouse: ClickHouseSettings, client: Client) -> list[str]:
    """Gives the tables the retention of the settings.

    Returns:
        The tables that were changed.

    Raises:
        UnavailableError: ClickHouse does not answer.
        RefusedError: It refuses.
    """
    with in_our_words(clickhouse):
        result = await client.query(
            "SELECT name, engine_full FROM system.tables WHERE database = {database:String}",
            parameters={"database": clickhouse.database},
        )
        engines = {str(name): str(engine) for name, engine in result.result_rows}
        statements = retention_statements(clickhouse.retention_days.model_dump(), engines)
        place = Place.of(clickhouse)
        for statement in statements:
            await client.command(place.statement(statement))
    return [statement.split()[2].rpartition(".")[2] for statement in statements]

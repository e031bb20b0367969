"""How long tables keep rows: a TTL of each table, set to what the settings say at each migrate. Pure but for `retain`."""

from __future__ import annotations

import re
from collections.abc import Mapping

from kybstream.settings import ClickHouseSettings
from sinks.clickhouse import Client, in_our_words
from sinks.cluster import Place
from sinks.derived import DERIVED
from sinks.tables import TABLES

_TTL = re.compile(r"\bTTL (.+?)(?= SETTINGS |$)", re.DOTALL)
_OURS = re.compile(r"^toDateTime\((\w+)\) \+ toIntervalDay\((\d+)\)$")


def ttl_of(time: str, days: int) -> str:
    """A row is deleted so many days after the time that it is about, in ClickHouse's own spelling."""
    return f"toDateTime({time}) + toIntervalDay({days})"


def retention_statements(wanted: Mapping[str, int | None], engines: Mapping[str, str]) -> list[str]:
    """What to run so that the tables, and what is derived from them, keep rows for as long as is wanted; nothing where they do.

    A TTL that is not of our form is somebody's own, and stays while the settings say nothing about that table.

    Args:
        wanted: Days by table; None for ever.
        engines: `engine_full` of the tables, as ClickHouse tells it.
    """
    statements = []
    derived = [(each.name, each.source, each.time) for each in DERIVED if each.name in engines]
    for name, source, time in [*((table.name, table.name, table.time) for table in TABLES), *derived]:
        found = _TTL.search(engines.get(name, ""))
        there = found[1].strip() if found else None
        days = wanted.get(source)
        if days is not None and there != ttl_of(time, days):
            statements.append(f"ALTER TABLE ${{database}}.{name} MODIFY TTL {ttl_of(time, days)}")
        elif days is None and there is not None and _OURS.match(there):
            statements.append(f"ALTER TABLE ${{database}}.{name} REMOVE TTL")
    return statements


async def retain(clickhouse: ClickHouseSettings, client: Client, *, only_tell: bool = False) -> list[str]:
    """Gives the tables the retention of the settings; with `only_tell` it changes nothing.

    Returns:
        The tables that were changed, or would be.

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
        for statement in () if only_tell else statements:
            await client.command(place.statement(statement))
    sources = {each.name: each.source for each in DERIVED}
    changed = [statement.split()[2].rpartition(".")[2] for statement in statements]
    return list(dict.fromkeys(sources.get(name, name) for name in changed))

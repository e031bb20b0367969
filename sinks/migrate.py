"""The tables, made once and in order; the views, made anew each time.

`migrations/NNNN_name.sql` are applied in the order of their numbers and recorded in `schema_migrations` with a checksum; an
applied one is never edited again, a change is a new one. Each of their statements can be run twice, so that a migration that
stopped half way, or two at the same time, do no harm.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import cache
from graphlib import TopologicalSorter
from importlib import resources

import structlog

from kybstream.errors import RunError
from kybstream.settings import ClickHouseSettings
from sinks.clickhouse import Client, connected, in_our_words
from sinks.cluster import Place
from sinks.errors import RefusedError
from sinks.retention import retain
from sinks.tables import TABLES

_log = structlog.get_logger(__name__)

_FILE = re.compile(r"^(\d{4})_([a-z0-9_]+)\.sql$")
_COMMENT_LINE = re.compile(r"^[ \t]*--.*\n?", re.MULTILINE)
_STATEMENT_END = re.compile(r";[ \t]*$", re.MULTILINE)
STATEMENT_SECONDS = 3_600.0
"""A migration may rewrite what lies there: minutes for a hundred million rows."""
_NOTHING_THERE = frozenset({60, 81})  # UNKNOWN_TABLE, UNKNOWN_DATABASE


@dataclass(frozen=True)
class Migration:
    """One file of `migrations/`."""

    number: int
    name: str
    sql: str

    @property
    def checksum(self) -> str:
        """SHA-256 of the file, in hex."""
        return hashlib.sha256(self.sql.encode()).hexdigest()

    def __str__(self) -> str:
        return f"{self.number:04d}_{self.name}"


@cache
def migrations() -> tuple[Migration, ...]:
    """All migrations, in order."""
    found = []
    for file in resources.files("sinks").joinpath("migrations").iterdir():
        match = _FILE.match(file.name)
        if match:
            found.append(Migration(int(match[1]), match[2], file.read_text(encoding="utf-8")))
    return tuple(sorted(found, key=lambda migration: migration.number))


@cache
def views() -> tuple[tuple[str, str], ...]:
    """Name and SQL of all views, each after those it reads."""
    folder = resources.files("sinks").joinpath("views")
    sql = {
        file.name.removesuffix(".sql"): file.read_text(encoding="utf-8")
        for file in folder.iterdir()
        if file.name.endswith(".sql")
    }
    reads = {
        name: {other for other in sql if other != name and re.search(rf"\$\{{database\}}\.{other}\b", text)}
        for name, text in sorted(sql.items())
    }
    return tuple((name, sql[name]) for name in TopologicalSorter(reads).static_order())


async def migrate(clickhouse: ClickHouseSettings) -> list[str]:
    """Makes database, tables and views what this version needs.

    Returns:
        The migrations it applied, as `0001_deliveries`, and the tables whose retention it changed, as `retention of cases`;
        empty when all was there. Views do not count.

    Raises:
        UnavailableError: ClickHouse does not answer.
        RunError: It refuses a statement, or an applied migration is another than the one of that number here.
    """
    async with connected(clickhouse, answer_seconds=STATEMENT_SECONDS) as client:
        await _run(clickhouse, client, "CREATE DATABASE IF NOT EXISTS ${database}")
        await _run(clickhouse, client, _RECORD_TABLE)
        applied = await _applied(clickhouse, client)
        done: list[str] = []
        for migration in migrations():
            if migration.number in applied:
                if applied[migration.number] != migration.checksum:
                    raise RunError(
                        f"migration {migration} was applied to {clickhouse.database!r} with other content",
                        hint="An applied migration is never edited: put the file back, and the change into a new one.",
                    )
                continue
            for statement in _statements(migration.sql):
                await _run(clickhouse, client, statement)
            await _record(clickhouse, client, migration)
            _log.info("migrate.applied", migration=str(migration), database=clickhouse.database)
            done.append(str(migration))
        done += [f"retention of {table}" for table in await retain(clickhouse, client)]
        for _, sql in views():
            for statement in _statements(sql):
                await _run(clickhouse, client, statement)
        return done


async def pending(clickhouse: ClickHouseSettings) -> list[str]:
    """What `migrate` would apply or change, and name. Views do not count.

    Raises:
        UnavailableError: ClickHouse does not answer.
        RefusedError: It refuses to say.
    """
    async with connected(clickhouse) as client:
        missing = await missing_migrations(clickhouse, client)
        retention = await retain(clickhouse, client, only_tell=True)
    return missing + [f"retention of {table}" for table in retention]


async def missing_migrations(clickhouse: ClickHouseSettings, client: Client) -> list[str]:
    """The migrations that the database lacks; all of them when there is no database.

    Raises:
        UnavailableError: ClickHouse does not answer.
        RefusedError: It refuses to say.
    """
    try:
        applied = await _applied(clickhouse, client)
    except RefusedError as error:
        if error.code not in _NOTHING_THERE:
            raise
        applied = {}
    return [str(migration) for migration in migrations() if migration.number not in applied]


async def table_columns(clickhouse: ClickHouseSettings, client: Client) -> dict[str, frozenset[str]]:
    """The columns of our tables.

    Raises:
        UnavailableError: ClickHouse does not answer.
    """
    with in_our_words(clickhouse):
        result = await client.query(
            "SELECT table, name FROM system.columns WHERE database = {database:String}",
            parameters={"database": clickhouse.database},
        )
    return {table.name: frozenset(str(column) for of, column in result.result_rows if of == table.name) for table in TABLES}


_RECORD_TABLE = """
CREATE TABLE IF NOT EXISTS ${database}.schema_migrations
(
    number UInt32 COMMENT 'Of the file in sinks/migrations.',
    name String COMMENT 'Of the file, without number and ending.',
    checksum String COMMENT 'SHA-256 of the file, in hex.',
    applied_at DateTime64(6, 'UTC') DEFAULT now64(6) COMMENT 'UTC.'
)
ENGINE = ReplacingMergeTree
ORDER BY number
COMMENT 'Which migrations this database has.'
"""


async def _applied(clickhouse: ClickHouseSettings, client: Client) -> dict[int, str]:
    with in_our_words(clickhouse):
        result = await client.query(f"SELECT number, checksum FROM {clickhouse.database}.schema_migrations FINAL")  # noqa: S608
    return {int(number): str(checksum) for number, checksum in result.result_rows}


async def _record(clickhouse: ClickHouseSettings, client: Client, migration: Migration) -> None:
    with in_our_words(clickhouse):
        await client.insert(
            f"{clickhouse.database}.schema_migrations",
            [[migration.number, migration.name, migration.checksum]],
            column_names=["number", "name", "checksum"],
            settings={"async_insert": "0"},
        )


async def _run(clickhouse: ClickHouseSettings, client: Client, sql: str) -> None:
    with in_our_words(clickhouse):
        await client.command(Place.of(clickhouse).statement(sql))


def _statements(sql: str) -> list[str]:
    """The statements of a file, without lines of comment; one ends at a semicolon that ends a line."""
    return [statement.strip() for statement in _STATEMENT_END.split(_COMMENT_LINE.sub("", sql)) if statement.strip()]

from __future__ import annotations

import asyncio

import pytest

from deploy.embedded.ports import free_port
from kybstream.errors import RunError, UnavailableError
from kybstream.settings import ClickHouseSettings
from schemas.codec import newest_schema
from sinks.derived import DERIVED
from sinks.migrate import migrate, migrations, views
from sinks.query import query
from sinks.tables import POSITION_COLUMNS, TABLES
from tests.sinks.making import rows

_LEFT_OUT = {"dead_letters": {"origin_key", "origin_headers", "origin_value"}}


async def test_a_second_migrate_applies_nothing(clickhouse_server: str, database_name: str) -> None:
    """The first migrate applies every file once, in order; the next finds all of them there."""
    settings = ClickHouseSettings(url=clickhouse_server, database=database_name)
    assert await migrate(settings) == [str(migration) for migration in migrations()]
    assert await migrate(settings) == []
    recorded = await rows(settings, "SELECT number, name, checksum FROM schema_migrations ORDER BY number", final=False)
    assert [(row["number"], row["name"], row["checksum"]) for row in recorded] == [
        (migration.number, migration.name, migration.checksum) for migration in migrations()
    ]


async def test_two_migrates_at_once_do_no_harm(clickhouse_server: str, database_name: str) -> None:
    """Both end well, and each migration is recorded once."""
    settings = ClickHouseSettings(url=clickhouse_server, database=database_name)
    await asyncio.gather(migrate(settings), migrate(settings))
    (row,) = await rows(settings, "SELECT count() AS n FROM schema_migrations")
    assert row["n"] == len(migrations())


async def test_an_edited_migration_is_refused(clickhouse: ClickHouseSettings) -> None:
    """Another checksum under an applied number is an error that names the file, not a silent difference."""
    await query(clickhouse, "INSERT INTO schema_migrations (number, name, checksum) VALUES (2, 'events', 'other')")
    with pytest.raises(RunError, match="0002_events was applied"):
        await migrate(clickhouse)


async def test_every_field_has_a_documented_column(clickhouse: ClickHouseSettings) -> None:
    """Tables have the records' fields, where they came from, and a comment each; dead letters leave out what they hold."""
    sql = "SELECT table, name, comment FROM system.columns WHERE database = currentDatabase()"
    found = await rows(clickhouse, sql, final=False)
    for table in TABLES:
        fields = {field["name"] for field in newest_schema(table.record).json["fields"]} - _LEFT_OUT.get(table.name, set())
        names = {row["name"] for row in found if row["table"] == table.name}
        assert names == fields | set(POSITION_COLUMNS) | {"_inserted_at"}
    feeds = {each.feed for each in DERIVED}
    assert [row for row in found if not row["comment"] and row["table"] not in feeds] == []
    described = {table.name for table in TABLES} | {name for name, _ in views()} | {each.name for each in DERIVED}
    assert {row["table"] for row in found} == described | feeds | {"schema_migrations"}


async def test_clickhouse_away_is_one_clear_retriable_error() -> None:
    """Nobody listens: the error names the address and can be retried."""
    settings = ClickHouseSettings(url=f"http://127.0.0.1:{free_port()}")
    with pytest.raises(UnavailableError, match="cannot be reached"):
        await migrate(settings)

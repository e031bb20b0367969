"""docs/reference/tables.md: tables and views with their columns, as ClickHouse itself describes them after `migrate`."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from deploy.embedded.ports import free_port
from deploy.embedded.readiness import http_ok
from deploy.embedded.supervisor import Child, Supervisor
from kybstream.settings import ClickHouseSettings
from sinks.derived import DERIVED
from sinks.migrate import migrate, views
from sinks.query import Value, query
from sinks.tables import TABLES
from tests.docs.markdown import code, intro, prose, table

INTRO = intro("tables")

_KINDS = {"tables": "Tables", "views": "Views"}


async def tables_page() -> str:
    """The whole page; starts the embedded server for it."""
    objects, columns = await _described()
    view_names = {name for name, _ in views()}
    topic_of = {each.name: each.topic for each in TABLES}
    source_of = {each.name: each.source for each in DERIVED}
    order = [each.name for each in TABLES] + sorted(view_names) + [*source_of, "schema_migrations"]
    overview = table(
        ("name", "what", "holds"),
        ([f"[{name}](#{name})", "view" if name in view_names else "table", prose(objects[name])] for name in order),
    )
    parts = [INTRO, overview, ""]
    for name in order:
        filled = f" Filled from [kyb.{topic_of[name]}](topics.md)." if name in topic_of else ""
        filled += (
            f" Fed by ClickHouse with each insert into [{source_of[name]}](#{source_of[name]})." if name in source_of else ""
        )
        parts.append(f"## {name}\n\n{prose(objects[name])}{filled}\n\n{_columns(columns[name])}\n")
    return "\n".join(parts)


def _columns(columns: Sequence[tuple[str, str, str]]) -> str:
    rows = ((code(name), code(_plain(kind)), prose(comment)) for name, kind, comment in columns)
    return table(("column", "type", "meaning"), rows)


def _plain(kind: str) -> str:
    """The type without line breaks and without how it is stored."""
    return " ".join(kind.split()).replace("( ", "(").replace(" )", ")")


async def _described() -> tuple[dict[str, str], dict[str, list[tuple[str, str, str]]]]:
    """Comments of tables and views by name, and columns of each: name, type, comment."""
    with tempfile.TemporaryDirectory(prefix="kyb-stream-docs-") as folder:
        port = free_port()
        argv = [sys.executable, "-m", "kybstream.cli", "embedded", "clickhouse"]
        argv += ["--data-dir", f"{folder}/data", "--port", str(port)]
        url = f"http://127.0.0.1:{port}"
        server = Child(name="clickhouse", argv=argv, ready=partial(http_ok, f"{url}/ping"), log_path=Path(folder, "log"))
        settings = ClickHouseSettings(url=url)
        async with Supervisor() as supervisor:
            await supervisor.start(server)
            await migrate(settings)
            tables = await _rows(settings, "SELECT name, comment FROM system.tables WHERE database = 'kyb'")
            found = await _rows(
                settings,
                "SELECT table, name, type, comment FROM system.columns WHERE database = 'kyb' ORDER BY table, position",
            )
    columns: dict[str, list[tuple[str, str, str]]] = {}
    for of, name, kind, comment in found:
        columns.setdefault(of, []).append((name, kind, comment))
    return {name: comment for name, comment in tables}, columns  # noqa: C416 (typed as text)


async def _rows(settings: ClickHouseSettings, sql: str) -> list[tuple[str, ...]]:
    def text(value: Value) -> str:
        return "" if value is None else str(value)

    answer = await query(settings, sql)
    return [tuple(text(value) for value in row) for row in answer.rows]

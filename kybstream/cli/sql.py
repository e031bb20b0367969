"""`kyb-stream sql`."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Literal

import click
from rich.table import Table

from deploy.embedded.clickhouse.statement import output_format
from kybstream.cli import options
from kybstream.cli.consoles import table_console
from kybstream.settings import Settings, load_settings
from kybstream.terminal import TerminalWriter, VisibleCsv, VisibleJson, visible
from sinks.query import Answer, Value, query, stream


@click.command()
@click.argument("statement", metavar="SQL")
@click.option("--format", "output", type=click.Choice(["table", "json", "csv"]), default="table", show_default=True)
@click.option("--all-rows", is_flag=True, help="Also show repeats that ClickHouse has not merged away yet.")
@options.config
def command(statement: str, output: Literal["table", "json", "csv"], config_path: Path | None, *, all_rows: bool) -> None:
    """Run a query on ClickHouse, in our database. Each row counts once."""
    settings = load_settings(config_path)
    if output == "table":
        _show(asyncio.run(query(settings.clickhouse, statement, final=not all_rows)))
    else:
        asyncio.run(_stream(settings, statement, output, final=not all_rows))


async def _stream(settings: Settings, statement: str, output: Literal["json", "csv"], *, final: bool) -> None:
    own_format = output_format(statement.encode("utf-8", "replace")) is not None
    writer = TerminalWriter()
    # A FORMAT of the statement's own may be binary: only a terminal then needs to be protected.
    shown = None if own_format else VisibleJson() if output == "json" else VisibleCsv()
    async for piece in stream(settings.clickhouse, statement, output, final=final):
        writer.write(piece if shown is None else shown.piece(piece))
    if shown is not None:
        writer.write(shown.finish())
    writer.close()


def _show(answer: Answer) -> None:
    if not answer.columns:
        click.echo("ok")
        return
    table = Table(show_edge=False, pad_edge=False)
    for column in answer.columns:
        is_number = column.type.removeprefix("Nullable(").startswith(("Int", "UInt", "Float", "Decimal"))
        table.add_column(visible(column.name), justify="right" if is_number else "left", overflow="fold")
    for row in answer.rows:
        table.add_row(*(_cell(value) for value in row))
    table_console().print(table)
    click.echo(f"{len(answer.rows)} row{'s' if len(answer.rows) != 1 else ''}")


def _cell(value: Value) -> str:
    if value is None:
        return ""
    return f"{value:g}" if isinstance(value, float) else visible(str(value))

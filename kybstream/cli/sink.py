"""`kyb-stream sink`."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from kybstream.cli import options
from kybstream.cli.running import ready_marker, run_component
from kybstream.settings import load_settings
from sinks.rebuild import rebuild
from sinks.run import run_sink


@click.command()
@options.config
@options.ready_file
@click.option(
    "--rebuild",
    "table",
    metavar="TABLE",
    help="Build this table anew from its topic beside the live one, put it in its place, and end. Sinks may run meanwhile.",
)
def command(config_path: Path | None, ready_file: Path | None, table: str | None) -> None:
    """Run the writer into ClickHouse: each row lands once."""
    settings = load_settings(config_path)
    if table is not None:
        done = asyncio.run(rebuild(settings, table, lambda told: click.echo(told, err=True)))
        click.echo(f"{table}: {done.from_topic} rows from the topic, {done.kept} kept")
        return
    with ready_marker(ready_file) as ready:
        run_component(lambda stop: run_sink(settings, stop=stop, ready=ready))

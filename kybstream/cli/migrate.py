"""`kyb-stream migrate`."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from kybstream.cli import options
from kybstream.operations.migrate import migrate
from kybstream.settings import load_settings


@click.command()
@options.config
def command(config_path: Path | None) -> None:
    """Make the topics and the ClickHouse schema where they are missing. Safe to run again."""
    done = asyncio.run(migrate(load_settings(config_path)))
    for topic in done.topics:
        click.echo(f"topic {topic}: made")
    for step in done.schema:
        click.echo(f"ClickHouse {step}: applied")
    if not done.topics and not done.schema:
        click.echo("nothing to do")

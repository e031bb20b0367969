"""`kyb-stream migrate`."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from kybstream.cli import options
from kybstream.operations.migrate import check, migrate
from kybstream.settings import load_settings


@click.command()
@click.option("--check", "only_check", is_flag=True, help="Change nothing; exit 1 if something is not as the settings say.")
@click.option("--lower-retention", is_flag=True, help="Let topics delete records earlier than now where the settings say so.")
@options.config
def command(config_path: Path | None, *, only_check: bool, lower_retention: bool) -> int:
    """Bring topics and ClickHouse schema to what the settings say, and print each change. Safe to run again.

    What is missing is made. Numbers of partitions and replicas are never changed, retention is not lowered unless asked for.
    """
    settings = load_settings(config_path)
    if only_check:
        left = asyncio.run(check(settings, tell=click.echo))
        if not left:
            click.echo("all is as the settings say")
        return 1 if left else 0
    done = asyncio.run(migrate(settings, lower_retention=lower_retention, tell=click.echo))
    if not done.changed and not done.left:
        click.echo("nothing to do")
    return 0

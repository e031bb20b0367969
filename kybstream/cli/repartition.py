"""`kyb-stream repartition`."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from kybstream.cli import options
from kybstream.operations.repartition import repartition
from kybstream.settings import load_settings


@click.command()
@options.config
def command(config_path: Path | None) -> None:
    """Bring all topics to `kafka.partitions`, and the worker's state of each key to its partition. Stop all workers first.

    The number can only grow. Killed, it is run again. docs/how-to/grow-partitions.md says in which order to do what.
    """
    if not asyncio.run(repartition(load_settings(config_path), tell=click.echo)):
        click.echo("nothing to do")

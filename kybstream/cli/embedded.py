"""`kyb-stream embedded`."""

from __future__ import annotations

from pathlib import Path

import click

from deploy.embedded.clickhouse.server import serve
from deploy.embedded.noida import run_broker
from kybstream.cli.running import run_component


@click.group()
def command() -> None:
    """Run one embedded server alone: for trying and for tests, on loopback only."""


_data_dir = click.option(
    "--data-dir", required=True, type=click.Path(file_okay=False, path_type=Path), help="Where its data stays."
)


@command.command()
@_data_dir
@click.option("--port", type=click.IntRange(1, 65535), default=9092, show_default=True)
def broker(data_dir: Path, port: int) -> None:
    """Run the embedded Kafka-compatible broker (noida-db).

    A SIGKILL of it can lose the last two seconds: for anything that matters, use Apache Kafka.
    """
    run_broker(data_dir, port)


@command.command()
@_data_dir
@click.option("--port", type=click.IntRange(0, 65535), default=8123, show_default=True, help="0 picks a free one.")
def clickhouse(data_dir: Path, port: int) -> None:
    """Run the embedded ClickHouse-compatible server (chDB)."""
    run_component(lambda _stop: serve(data_dir=data_dir, port=port, ready=_announce))


def _announce(port: int) -> None:
    click.echo(f"ClickHouse answers at http://127.0.0.1:{port}")

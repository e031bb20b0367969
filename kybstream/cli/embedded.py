"""`kyb-stream embedded`."""

from __future__ import annotations

from pathlib import Path

import click

from deploy.embedded.clickhouse.access import DEFAULT_USER, Credentials
from deploy.embedded.clickhouse.server import serve
from deploy.embedded.noida import run_broker
from kybstream.cli.operator import secret_reference
from kybstream.cli.running import run_component
from kybstream.settings import Secret


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
@click.option("--user", default=DEFAULT_USER, show_default=True, help="Who may ask.")
@click.option("--password", metavar="REF", help="env:NAME or file:PATH. Without it, whoever can connect may ask.")
def clickhouse(data_dir: Path, port: int, user: str, password: str | None) -> None:
    """Run the embedded ClickHouse-compatible server (chDB).

    Web pages are refused. No query reads or writes files, or reaches another server.
    """
    secret = Secret(b"") if password is None else secret_reference("--password", password)
    credentials = Credentials(user, secret.reveal_text())
    run_component(lambda _stop: serve(data_dir=data_dir, port=port, credentials=credentials, ready=_announce))


def _announce(port: int) -> None:
    click.echo(f"ClickHouse answers at http://127.0.0.1:{port}")

"""`kyb-stream reconcile`."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click
import msgspec

from kybstream.cli import options
from kybstream.operations.reconcile import reconcile
from kybstream.settings import load_settings
from kybstream.terminal import visible, visible_json


@click.command()
@click.option("--wait", "wait_seconds", default=10.0, show_default=True, help="Seconds to wait for what is on its way.")
@click.option("--json", "as_json", is_flag=True, help="Print the whole account as JSON.")
@options.config
def command(config_path: Path | None, wait_seconds: float, *, as_json: bool) -> int:
    """Account for every delivery: raw topic, deliveries topic and ClickHouse must agree.

    Exit 0 if they do; exit 1, with a list, if a delivery is missing or there more than once.
    """
    found = asyncio.run(reconcile(load_settings(config_path), wait_seconds=wait_seconds))
    if as_json:
        click.echo(visible_json(msgspec.json.encode({**msgspec.to_builtins(found), "balanced": found.balanced})))
    else:
        verdicts = ", ".join(f"{count} {verdict}" for verdict, count in found.landed.items()) or "none"
        click.echo(f"raw topic:  {found.raw} deliveries ({found.repeated} of them more than once)")
        click.echo(f"judged:     {found.judged}")
        click.echo(visible(f"ClickHouse: {sum(found.landed.values())} ({verdicts})"))
        for finding in found.findings():
            click.echo(visible(f"wrong: {finding}"))
        if found.balanced:
            click.echo("every delivery is accounted for")
    return 0 if found.balanced else 1

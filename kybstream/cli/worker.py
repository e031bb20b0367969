"""`kyb-stream worker`."""

from __future__ import annotations

from pathlib import Path

import click

from kybstream.cli import options
from kybstream.cli.running import ready_marker, run_component
from kybstream.settings import load_settings
from streams.worker import run_worker


@click.command()
@options.config
@options.ready_file
def command(config_path: Path | None, ready_file: Path | None) -> None:
    """Run the Faust worker: deduplicates deliveries and joins them into cases."""
    settings = load_settings(config_path)
    with ready_marker(ready_file) as ready:
        run_component(lambda stop: run_worker(settings, stop=stop, ready=ready))

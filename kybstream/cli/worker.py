"""`kyb-stream worker`."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import click

from kybstream.cli import options
from kybstream.cli.running import ready_marker, run_component
from kybstream.errors import RunError
from kybstream.settings import load_settings
from kybstream.terminal import visible
from streams.batching import StopTimeoutError
from streams.monitoring import StalledError
from streams.worker import run_worker


@click.command()
@options.config
@options.ready_file
def command(config_path: Path | None, ready_file: Path | None) -> None:
    """Run the Faust worker: deduplicates deliveries and joins them into cases."""
    settings = load_settings(config_path)

    async def component(stop: asyncio.Event) -> None:
        with ready_marker(ready_file) as ready:
            try:
                await run_worker(settings, stop=stop, ready=ready, leave=lambda error: _leave(error, ready_file))
            except (StopTimeoutError, StalledError) as error:
                _leave(error, ready_file)

    run_component(component)


def _leave(error: RunError, ready_file: Path | None) -> None:
    """Ends the process at once: Faust swallows cancellation, so an orderly end could take for ever. Nothing is lost by it."""
    click.echo(f"error: {visible(error.message)}", err=True)
    if error.hint:
        click.echo(f"hint: {visible(error.hint)}", err=True)
    if ready_file is not None:
        ready_file.unlink(missing_ok=True)
    os._exit(error.exit_code)

"""`kyb-stream ingress`."""

from __future__ import annotations

from pathlib import Path

import click

from ingress.server import serve
from kybstream.cli import options
from kybstream.cli.running import ready_marker, run_component
from kybstream.settings import load_settings


@click.command()
@options.config
@options.ready_file
def command(config_path: Path | None, ready_file: Path | None) -> None:
    """Run the HTTP door: each delivery is durable in Kafka before it is answered with 200."""
    settings = load_settings(config_path)
    with ready_marker(ready_file) as ready:
        run_component(lambda stop: serve(settings, stop=stop, ready=lambda _url: ready()), fast_loop=True)

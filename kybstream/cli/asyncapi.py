"""`kyb-stream asyncapi`."""

from __future__ import annotations

from pathlib import Path

import click
import msgspec

from kybstream.cli import options
from kybstream.settings import load_settings
from schemas.asyncapi import asyncapi_document


@click.command()
@options.config
def command(config_path: Path | None) -> None:
    """Print the topics as an AsyncAPI 3.0 document, in JSON: addresses, keys, headers and schemas of this configuration."""
    document = msgspec.json.encode(asyncapi_document(load_settings(config_path).kafka))
    click.echo(msgspec.json.format(document, indent=2))

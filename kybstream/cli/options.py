"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path

import click

config = click.option(
    "--config",
    "config_path",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Configuration file (TOML). Default: KYB_STREAM_CONFIG, else kyb-stream.toml here if it is there.",
)

ready_file = click.option(
    "--ready-file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="A file to make when the component is ready, and to remove when it ends: a probe for process managers.",
)

"""`kyb-stream export`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path

import click

from kybstream.cli import options
from kybstream.cli.period import SINCE
from kybstream.errors import UsageError
from kybstream.operations.export.log import Selection, read_log
from kybstream.operations.export.ocel import OcelWriter
from kybstream.operations.export.xes import XesWriter
from kybstream.operations.whole_file import STDOUT, Writable, whole_file
from kybstream.settings import Settings, load_settings

_BUFFER = 1 << 18


@click.group()
def command() -> None:
    """Write the event log for process-mining tools: cases and persons by id and pseudonym."""


def _options(function: Callable[..., None]) -> Callable[..., None]:
    for option in (
        options.config,
        click.option("--tenant", help="Of this tenant only. Without it a case is named <tenant>/<case>."),
        click.option("--until", type=SINCE, help="Cases opened before this time."),
        click.option(
            "--since", type=SINCE, help="Cases opened at this time or later: 30d, 2026-03-01 or 2026-03-01T09:00:00Z."
        ),
        click.argument("file", metavar="FILE"),
    ):
        function = option(function)
    return function


@command.command("xes")
@_options
def xes(file: str, since: datetime | None, until: datetime | None, tenant: str | None, config_path: Path | None) -> None:
    """Write FILE as XES (IEEE 1849-2016): a trace for each case. - is standard output; a name in .gz is compressed.

    Cases are whole: --since and --until choose them by when they were opened. FILE is replaced when all is written.
    """
    _export(XesWriter(tenant), file, Selection(since, until, tenant), load_settings(config_path))


@command.command("ocel")
@_options
def ocel(file: str, since: datetime | None, until: datetime | None, tenant: str | None, config_path: Path | None) -> None:
    """Write FILE as OCEL 2.0 JSON: cases, services and subjects as objects. - is standard output; .gz is compressed.

    Cases are whole: --since and --until choose them by when they were opened. FILE is replaced when all is written.
    """
    with OcelWriter() as writer:
        _export(writer, file, Selection(since, until, tenant), load_settings(config_path))


def _export(writer: XesWriter | OcelWriter, file: str, selection: Selection, settings: Settings) -> None:
    if selection.since is not None and selection.until is not None and selection.since >= selection.until:
        raise UsageError("--since must be before --until")
    with ExitStack() as stack:
        asyncio.run(_write(writer, stack.enter_context(whole_file(file)), selection, settings))
        if (
            not writer.cases
            and selection.tenant is not None
            and selection.tenant not in {each.name for each in settings.tenants}
        ):
            raise UsageError(
                f"there is no tenant {selection.tenant}", hint="Neither in the configuration, nor with a case in ClickHouse."
            )
    click.echo(f"wrote {writer.cases} cases, {writer.events} events", err=file == STDOUT)


async def _write(writer: XesWriter | OcelWriter, file: Writable, selection: Selection, settings: Settings) -> None:
    waiting, size = [writer.begin()], 0
    async for row in read_log(settings.clickhouse, selection):
        told = writer.add(row)
        waiting.append(told)
        size += len(told)
        if size > _BUFFER:
            file.write("".join(waiting).encode())
            waiting, size = [], 0
    file.write("".join(waiting).encode())
    for piece in writer.end():
        file.write(piece.encode())

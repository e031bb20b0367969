"""A progress bar for sending: on a terminal it moves, into a file it leaves a line now and then."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import click
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from kybstream.cli.consoles import plain_console
from kybstream.simulator import Progress as Sent
from kybstream.simulator import ProgressCallback

_LINES = 5


@contextmanager
def progress_bar(what: str, total: int) -> Iterator[ProgressCallback]:
    """Something to call with each state of the sending."""
    if not sys.stderr.isatty():
        told = 0

        def tell(sent: Sent) -> None:
            nonlocal told
            if sent.done * _LINES // max(total, 1) > told:
                told = sent.done * _LINES // max(total, 1)
                click.echo(f"{what}: {sent.done} of {sent.total}", err=True)

        yield tell
        return
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=plain_console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda sent: bar.update(task, completed=sent.done)

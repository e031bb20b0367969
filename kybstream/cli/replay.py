"""`kyb-stream replay`."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import click

from kybstream.cli import options
from kybstream.cli.operator import MOMENT, by, operator
from kybstream.errors import UsageError
from kybstream.operations.replay import Counts, Range, replay_range
from kybstream.settings import load_settings
from streams.intake_state import REPLAY_MARGIN

_TELL_EVERY = 10_000


@click.command()
@click.option("--from", "start", type=MOMENT, required=True, help="Received at this time or later: 2026-03-01T09:00:00Z.")
@click.option("--to", "end", type=MOMENT, required=True, help="Received before this time.")
@click.option("--source", help="Of this source only.")
@click.option("--tenant", help="Of this tenant only.")
@click.option("--dry-run", is_flag=True, help="Count the deliveries; write nothing.")
@by
@options.config
def command(  # noqa: PLR0917 (click passes options by name)
    start: datetime,
    end: datetime,
    source: str | None,
    tenant: str | None,
    by: str | None,
    config_path: Path | None,
    *,
    dry_run: bool,
) -> None:
    """Process the raw deliveries of a time range again, after a fix.

    Writes them to the raw topic once more, as they came. All ids stay, so nothing is counted twice, and doing it again does no
    harm. It is recorded in kyb.replays.v1 and in the table replays.
    """
    name, now = operator(by), datetime.now(UTC)
    if start >= end:
        raise UsageError("--from must be before --to")
    settings = load_settings(config_path)
    if start < now - REPLAY_MARGIN:
        click.echo(
            f"note: the range begins more than {REPLAY_MARGIN.days} days ago: a repeat whose first delivery is not in it may "
            "make a second event",
            err=True,
        )
    wanted = Range(start, end, source, tenant)
    replay_id, counts = asyncio.run(replay_range(settings, wanted, by=name, at=now, dry_run=dry_run, told=_tell))
    done = "would be replayed" if dry_run else "replayed"
    click.echo(f"{counts.deliveries} deliveries {done}" + ("" if dry_run else f" by {name}: replay {replay_id}"))
    if counts.copies:
        click.echo(f"{counts.copies} copies left out: an earlier replay wrote them", err=True)
    if counts.undecodable:
        click.echo(f"{counts.undecodable} records are no deliveries: see `kyb-stream dlq list --reason undecodable`", err=True)


def _tell(counts: Counts) -> None:
    if counts.read % _TELL_EVERY == 0:
        click.echo(f"replay: {counts.read} records read, {counts.deliveries} deliveries of the range", err=True)

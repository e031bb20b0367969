"""`kyb-stream dlq`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, TypeVar

import click
import msgspec
from rich.table import Table

from kybstream.cli import options
from kybstream.cli.consoles import table_console
from kybstream.cli.operator import MOMENT, by, operator
from kybstream.errors import RunError, UsageError
from kybstream.operations.dead_letter_book import DeadLetterBook, Letter, Wanted
from kybstream.operations.dead_letters import (
    Resent,
    body_of,
    described,
    find_letter,
    known,
    read_book,
    replay_letters,
    unreplayable,
)
from kybstream.settings import Settings, load_settings
from kybstream.terminal import TerminalWriter, visible, visible_json

F = TypeVar("F", bound=Callable[..., object])


def _filters(function: F) -> F:
    """The options that say which dead letters are meant."""
    for option in reversed((
        click.option("--reason", help="With this reason: not_json, undecryptable, …"),
        click.option("--stage", type=click.Choice(["intake", "links", "cases", "sink"]), help="That failed there."),
        click.option("--tenant", help="Of this tenant."),
        click.option("--source", help="Of this source."),
        click.option("--since", type=MOMENT, help="Failed at this time or later: 2026-03-01T09:00:00Z."),
        click.option("--until", type=MOMENT, help="Failed before this time."),
    )):  # fmt: skip
        function = option(function)
    return function


@click.group()
def command() -> None:
    """Show dead letters, and have them processed again."""


@command.command("list")
@_filters
@click.option("--open", "only_open", is_flag=True, help="Only those that were not replayed since they failed.")
@click.option("-n", "limit", type=click.IntRange(1), help="At most so many, the newest ones.")
@click.option("--format", "output", type=click.Choice(["table", "json"]), default="table", show_default=True)
@options.config
def list_(
    config_path: Path | None, limit: int | None, output: Literal["table", "json"], *, only_open: bool, **filters: Any
) -> None:
    """List dead letters, the newest failure first; no bodies, no personal data.

    STATE is open until a dead letter is replayed, and again when its record fails once more.
    """
    book = asyncio.run(read_book(load_settings(config_path)))
    rows = [_row(letter) for letter in book.letters(Wanted(**filters, only_open=only_open))[:limit]]
    if output == "json":
        for row in rows:
            click.echo(visible_json(msgspec.json.encode(row)))
        return
    table = Table(show_edge=False, pad_edge=False)
    for name in _COLUMNS:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*("" if row[name] is None else _text(row[name]) for name in _COLUMNS))
    table_console().print(table)
    click.echo(f"{len(rows)} dead letter{'s' if len(rows) != 1 else ''}")


_COLUMNS = (
    "dead_letter_id", "failed_at", "tenant", "source", "stage", "reason", "origin_topic", "partition", "offset", "state",
    "replays",
)  # fmt: skip


def _row(one: Letter) -> dict[str, Any]:
    letter = one.letter
    return {
        "dead_letter_id": letter.dead_letter_id,
        "failed_at": one.failed_at,
        "tenant": letter.tenant,
        "source": letter.source,
        "stage": letter.stage,
        "reason": letter.reason,
        "detail": letter.detail,
        "delivery_id": letter.delivery_id,
        "received_at": letter.received_at,
        "origin_topic": letter.origin_topic,
        "partition": one.newest.partition,
        "offset": one.newest.offset,
        "body_size": letter.body_size,
        "state": "open" if one.open else "replayed",
        "replays": one.replays,
        "replayed_at": one.replayed.replayed_at if one.replayed else None,
        "replayed_by": one.replayed.replayed_by if one.replayed else None,
    }


def _text(value: object) -> str:
    return value.isoformat(timespec="seconds").replace("+00:00", "Z") if isinstance(value, datetime) else visible(str(value))


@command.command()
@click.argument("dead_letter_id", metavar="ID")
@click.option(
    "--body",
    "only_body",
    is_flag=True,
    help="Write the webhook's body instead, as it came, decrypted where a key is configured: PERSONAL DATA.",
)
@options.config
def show(dead_letter_id: str, config_path: Path | None, *, only_body: bool) -> None:
    """Show a dead letter as JSON: its fields, its record's headers, and its history.

    The record's body and case token are left out. With --body, the body alone is written, byte for byte: it holds personal
    data, so mind where it goes. Of a record that is no delivery, --body writes its value.
    """
    settings = load_settings(config_path)
    one, whole, history = asyncio.run(find_letter(settings, dead_letter_id))
    if only_body:
        writer = TerminalWriter()
        writer.write(body_of(settings, whole))
        writer.close()
        return
    shown = _row(one) | described(whole) | {"history": history}
    click.echo(visible_json(msgspec.json.format(msgspec.json.encode(shown), indent=2)))


@command.command()
@click.argument("dead_letter_ids", metavar="[ID]...", nargs=-1)
@click.option("--all", "every", is_flag=True, help="All open ones that the filters leave.")
@_filters
@click.option("--again", is_flag=True, help="With --all: also those that were replayed and did not come back.")
@click.option("--rekey", is_flag=True, help="Give each record the key that the present code and configuration read from it.")
@click.option("--dry-run", is_flag=True, help="Say what would be replayed; write nothing.")
@by
@options.config
def replay(
    dead_letter_ids: tuple[str, ...],
    by: str | None,
    config_path: Path | None,
    *,
    every: bool,
    again: bool,
    rekey: bool,
    dry_run: bool,
    **filters: Any,
) -> None:
    """Process dead letters again: those of these IDs, or all.

    Writes each record to its topic once more, as it came. What succeeds gets a new verdict under its old delivery id; what
    fails comes back as a dead letter with its history. Replaying twice does no harm. Who did it is recorded in kyb.replays.v1
    and in the table replays.

    The key of a webhook was read from its body at the door. After a fix of how bodies are read, or of tenants.pseudonym_key,
    the old key is wrong: --rekey reads it anew. It needs the tenants' keys and, for encrypted bodies, the encryption keys.
    """
    name = operator(by)
    if bool(dead_letter_ids) == every:
        raise UsageError("give either IDs or --all")
    if dead_letter_ids and (again or any(value is not None for value in filters.values())):
        raise UsageError("filters and --again are for --all")
    settings = load_settings(config_path)
    book = asyncio.run(read_book(settings))
    letters = _chosen(settings, book, dead_letter_ids, Wanted(**filters, only_open=not again))
    if dry_run:
        for one in letters:
            click.echo(visible(f"would replay {one.dead_letter_id}: {one.letter.reason}, to {one.letter.origin_topic}"))
        click.echo(f"{len(letters)} would be replayed")
        return
    asyncio.run(replay_letters(settings, letters, by=name, rekey=rekey, told=_tell))
    click.echo(f"{len(letters)} replayed by {name}")


def _chosen(settings: Settings, book: DeadLetterBook, ids: Sequence[str], wanted: Wanted) -> list[Letter]:
    letters = known(book, ids) if ids else book.letters(wanted)
    chosen = []
    for one in letters:
        why = unreplayable(settings, one)
        if why is None:
            chosen.append(one)
        elif ids:
            raise RunError(f"{one.dead_letter_id} cannot be replayed: {why}")
        else:
            click.echo(visible(f"left out {one.dead_letter_id}: {why}"), err=True)
    return chosen


def _tell(resent: Resent) -> None:
    one = resent.letter
    rekeyed = ", under another key" if resent.rekeyed else ""
    click.echo(visible(f"replayed {one.dead_letter_id} to {one.letter.origin_topic}: attempt {resent.attempt}{rekeyed}"))

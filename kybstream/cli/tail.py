"""`kyb-stream tail`."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import aclosing
from pathlib import Path
from types import FrameType

import click

from kybstream.cli import options
from kybstream.cli.exit_codes import INTERRUPTED
from kybstream.errors import UsageError
from kybstream.operations.tail import tail_line
from kybstream.operations.topic_reader import read_topic
from kybstream.settings import Settings, load_settings
from schemas.topics import ALL_TOPICS, topic_named


@click.command()
@click.argument("topic", metavar="TOPIC")
@click.option("--from-beginning", is_flag=True, help="Begin with the oldest record, not with what comes from now on.")
@click.option("-n", "limit", type=click.IntRange(1), help="Stop after so many records.")
@click.option("--no-follow", is_flag=True, help="Stop at the end of the topic.")
@options.config
def command(topic: str, limit: int | None, config_path: Path | None, *, from_beginning: bool, no_follow: bool) -> None:
    """Show a topic's records as JSON lines, without personal data. TOPIC: events, kyb.events.v1, ….

    Bodies and tokens are left out; their size in the topic is shown.
    """
    settings = load_settings(config_path)
    known = topic_named(topic, settings.kafka.topic_prefix)
    if known is None:
        names = ", ".join(each.suffix.rpartition(".v")[0] for each in ALL_TOPICS)
        raise UsageError(f"there is no topic {topic}", hint=f"One of: {names}")
    # A reader without a group has nothing to leave in order, and a client may swallow a cancellation: end at once.
    signal.signal(signal.SIGINT, _leave)
    asyncio.run(_tail(settings, settings.topic(known.suffix), limit, from_beginning=from_beginning, follow=not no_follow))


def _leave(_number: int, _frame: FrameType | None) -> None:
    # Each line was flushed as it was printed.
    os._exit(INTERRUPTED)


async def _tail(settings: Settings, topic: str, limit: int | None, *, from_beginning: bool, follow: bool) -> None:
    shown = 0
    async with aclosing(read_topic(settings.kafka, topic, from_beginning=from_beginning, follow=follow)) as records:
        async for record in records:
            click.echo(tail_line(record))
            shown += 1
            if shown == limit:
                return

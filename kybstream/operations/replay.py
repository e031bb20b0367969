"""Having the raw deliveries of a time range processed again: they are written to the raw topic once more."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass
from datetime import datetime, timedelta

import msgspec

from kybstream.errors import BadRecordError
from kybstream.ids import from_micros, new_replay_id, to_micros
from kybstream.operations.resending import resending
from kybstream.operations.topic_reader import ReadRecord, read_topic
from kybstream.settings import Settings
from schemas.codec import decode
from schemas.records import Replay, WebhookDelivery
from schemas.replays import ReplayMark, mark_of, marked
from schemas.topics import RAW

CLOCK_MARGIN = timedelta(minutes=1)
"""How much earlier than its receipt a delivery's Kafka record may be stamped: clocks are set back now and then."""


@dataclass(frozen=True)
class Range:
    """Which deliveries are meant.

    Attributes:
        start: Received at this time or later; aware.
        end: Received before this time; aware.
        source: Of this source; None for any.
        tenant: Of this tenant; None for any.
    """

    start: datetime
    end: datetime
    source: str | None = None
    tenant: str | None = None

    def includes(self, delivery: WebhookDelivery) -> bool:
        """Whether this delivery is meant."""
        return (
            self.start <= delivery.received_at < self.end
            and self.source in {None, delivery.source}
            and self.tenant in {None, delivery.tenant}
        )


@dataclass
class Counts:
    """How far a replay is.

    Attributes:
        read: Records of the raw topic looked at.
        deliveries: Deliveries of the range among them, written again.
        copies: Records of the range that a replay wrote: left out, what they are copies of is in the topic itself.
        undecodable: Records stamped within the range that are no deliveries: they are in the dead letters.
    """

    read: int = 0
    deliveries: int = 0
    copies: int = 0
    undecodable: int = 0


async def replay_range(
    settings: Settings,
    wanted: Range,
    *,
    by: str,
    at: datetime,
    dry_run: bool = False,
    told: Callable[[Counts], None] = lambda _: None,
) -> tuple[str, Counts]:
    """Writes the deliveries of a range to the raw topic again: key, value and headers as they were, marked as copies.

    Where the topic ended at the beginning is where reading ends, so that what it writes is not read. Deliveries of one key keep
    their order. Processing them again gives the same ids, so doing this twice does no harm.

    Args:
        settings: The configuration.
        wanted: Which deliveries.
        by: Who does it.
        at: Now, aware.
        dry_run: Count only.
        told: Called with every record read.

    Returns:
        The replay's id, and what was done.

    Raises:
        UnavailableError: Kafka cannot be reached or does not acknowledge.
        RunError: A topic is missing, or Kafka refuses a record.
    """
    replay = Replay(
        replay_id=new_replay_id(),
        replayed_at=at,
        replayed_by=by,
        kind="range",
        origin_topic=settings.topic(RAW),
        tenant=wanted.tenant,
        source=wanted.source,
        range_from=wanted.start,
        range_to=wanted.end,
    )
    mark = ReplayMark(replay_id=replay.replay_id, replayed_at=at, replayed_by=by)
    since_ms = to_micros(wanted.start - CLOCK_MARGIN) // 1000
    counts = Counts()
    async with AsyncExitStack() as stack:
        resender = None if dry_run else await stack.enter_async_context(resending(settings.kafka))
        if resender is not None:
            await resender.record([replay])
        reading = read_topic(settings.kafka, replay.origin_topic, since_ms=max(0, since_ms))
        async for record in await stack.enter_async_context(aclosing(reading)):
            counts.read += 1
            if _is_meant(record, wanted, counts):
                counts.deliveries += 1
                if resender is not None:
                    await resender.send(replay.origin_topic, record.key, record.value, marked(record.headers, mark))
            told(counts)
        if resender is not None:
            await resender.flush()
            await resender.record([msgspec.structs.replace(replay, records=counts.deliveries)])
    return replay.replay_id, counts


def _is_meant(record: ReadRecord, wanted: Range, counts: Counts) -> bool:
    mark = mark_of(record.headers)
    try:
        delivery = decode(record.value or b"", WebhookDelivery)
    except BadRecordError:
        stamped_at = from_micros(record.timestamp_ms * 1000)
        counts.undecodable += mark is None and wanted.start <= stamped_at < wanted.end
        return False
    if not wanted.includes(delivery):
        return False
    counts.copies += mark is not None
    return mark is None

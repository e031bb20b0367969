"""Brings what is in the spool to Kafka, oldest first, while live traffic goes on."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NamedTuple

import structlog

from ingress.spool.entries import SpoolEntry, StoredEntry
from ingress.spool.spool import Spool
from ingress.spool.store import REFUSED
from kybstream.errors import KybStreamError

_log = structlog.get_logger(__name__)

Produce = Callable[[SpoolEntry], Awaitable[None]]


class Lanes(NamedTuple):
    """What entries fail together: those of a partition.

    Attributes:
        of: The lane of an entry.
        number: How many there are; when all of them have failed, Kafka is away.
    """

    of: Callable[[SpoolEntry], Hashable]
    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DrainLimits:
    """How hard the spool is drained.

    Attributes:
        batch_rows: Entries that are read, and later removed, together.
        batch_bytes: Likewise; one larger entry is a batch of its own.
        concurrency: Entries that wait for their acknowledgement at the same time; the rest of the producer is live traffic's.
        first_pause_seconds: After a failure; doubled with each that follows.
        longest_pause_seconds: The most.
    """

    batch_rows: int = 500
    batch_bytes: int = 1024**2
    concurrency: int = 64
    first_pause_seconds: float = 0.1
    longest_pause_seconds: float = 5.0


@dataclass(slots=True)
class _Outcome:
    acknowledged: list[int] = field(default_factory=list)
    refused: list[int] = field(default_factory=list)


@dataclass(slots=True)
class _Pass:
    """One way through the spool, from its oldest entry to its newest.

    Attributes:
        lanes: See `drain`.
        after: The last entry that was read.
        held: Lanes of which nothing is sent any more: Kafka has not taken an entry of theirs.
        held_keys: Keys likewise.
    """

    lanes: Lanes
    after: int = 0
    held: set[Hashable] = field(default_factory=set)
    held_keys: set[Hashable] = field(default_factory=set)

    @property
    def is_over(self) -> bool:
        return len(self.held) >= self.lanes.number

    def holds(self, entry: SpoolEntry) -> bool:
        return self.lanes.of(entry) in self.held or _key_of(entry) in self.held_keys


async def drain(
    spool: Spool,
    produce: Produce,
    stop: asyncio.Event,
    *,
    lanes: Lanes | None = None,
    on_progress: Callable[[int], None] | None = None,
    limits: DrainLimits | None = None,
) -> None:
    """Sends entries until `stop` is set; what is being sent then is waited for.

    1. The oldest entries are read.
    2. They are sent, several at a time; of one topic and key one after the other, and none after one that failed. Of a lane
       (a partition) nothing more is sent once Kafka did not take one: it must not hold up the others, which are read on.
    3. What was acknowledged is removed from the spool. A crash before this sends it again: the delivery id is the same.
    4. What can never be sent is set aside, so that it stops nobody.
    Nothing is read again before 3 and 4 are done. At the end, or when Kafka is away, it begins again with the oldest; after a
    failure there is a pause before, longer with each that follows without success.

    Args:
        spool: Where they are.
        produce: Returns when Kafka has acknowledged the entry. A `KybStreamError` that is not `retriable` says that it never
            will; whatever else it raises is tried again. It must not wait for ever.
        stop: Ends it.
        lanes: Which entries fail together; those of one topic and key if not given.
        on_progress: Called with the number of entries that were sent and removed.
        limits: How hard.
    """
    limits = limits or DrainLimits()
    lanes = lanes or Lanes(_key_of, limits.concurrency)
    pause = limits.first_pause_seconds
    outcome = _Outcome()
    now = _Pass(lanes)
    while not stop.is_set():
        failed = advanced = False
        try:
            await _settle(spool, outcome, on_progress)  # 3, 4: what failed the last time
            batch = await spool.oldest(limits.batch_rows, limits.batch_bytes, after=now.after)  # 1
            if batch:
                outcome = await _send(batch, produce, stop, limits.concurrency, now)  # 2
                advanced = bool(outcome.acknowledged or outcome.refused)
                now.after = batch[-1].id
                await _settle(spool, outcome, on_progress)  # 3, 4
            elif not (now.held or now.held_keys):
                now.after = 0
                await first_of(spool.wait_for_entries(), stop)
        except KybStreamError as error:
            _log.warning("spool_drain_failed", error=type(error).__name__, reason=error.message)
            failed = True
        if advanced:
            pause = limits.first_pause_seconds
        if failed or now.is_over or ((now.held or now.held_keys) and not batch):
            now = _Pass(lanes)
            # Spread, so that several hosts do not come back to a broker that has just started all at once.
            await first_of(asyncio.sleep(pause * random.uniform(0.5, 1.0)), stop)  # noqa: S311 - no secret
            pause = min(pause * 2, limits.longest_pause_seconds)


async def _settle(spool: Spool, outcome: _Outcome, on_progress: Callable[[int], None] | None) -> None:
    if outcome.acknowledged:
        await spool.remove(outcome.acknowledged)
        if on_progress is not None:
            on_progress(len(outcome.acknowledged))
        outcome.acknowledged = []
    if outcome.refused:
        await spool.set_aside(outcome.refused, REFUSED)
        outcome.refused = []


async def _send(batch: Sequence[StoredEntry], produce: Produce, stop: asyncio.Event, concurrency: int, now: _Pass) -> _Outcome:
    by_key: dict[Hashable, deque[StoredEntry]] = {}
    for stored in batch:
        by_key.setdefault(_key_of(stored.entry), deque()).append(stored)
    waiting = deque(by_key.values())
    outcome = _Outcome()

    async def send_keys() -> None:
        while waiting and not stop.is_set() and not now.is_over:
            entries = waiting.popleft()
            if not now.holds(entries[0].entry) and await _send_first(entries, produce, outcome, now) and entries:
                waiting.append(entries)

    await asyncio.gather(*(send_keys() for _ in range(min(concurrency, len(waiting)))))
    return outcome


async def _send_first(entries: deque[StoredEntry], produce: Produce, outcome: _Outcome, now: _Pass) -> bool:
    """Sends the oldest entry of a key; whether the next one may follow."""
    stored = entries[0]
    try:
        await produce(stored.entry)
    except Exception as error:  # noqa: BLE001 - one entry must not stop the others, whatever it is that it meets
        if not isinstance(error, KybStreamError):
            _log.warning("spool_entry_not_sent", delivery_id=stored.entry.delivery_id, error=type(error).__name__)
            now.held_keys.add(_key_of(stored.entry))
            return False
        if error.retriable:
            now.held.add(now.lanes.of(stored.entry))
            return False
        _log.error("spool_entry_refused", delivery_id=stored.entry.delivery_id, error=type(error).__name__)
        outcome.refused.append(stored.id)
    else:
        outcome.acknowledged.append(stored.id)
    entries.popleft()
    return True


def _key_of(entry: SpoolEntry) -> Hashable:
    return entry.topic, entry.key


async def first_of(waiting: Awaitable[None], stop: asyncio.Event) -> None:
    """Returns when one of the two happens."""
    tasks = [asyncio.ensure_future(waiting), asyncio.ensure_future(stop.wait())]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.gather(*tasks, return_exceptions=True)

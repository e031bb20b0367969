"""Brings what is in the spool to Kafka, oldest first, while live traffic goes on."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import structlog

from ingress.spool.entries import SpoolEntry, StoredEntry
from ingress.spool.spool import Spool
from kybstream.errors import KybStreamError

_log = structlog.get_logger(__name__)

Produce = Callable[[SpoolEntry], Awaitable[None]]


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
    failures: int = 0


async def drain(
    spool: Spool,
    produce: Produce,
    stop: asyncio.Event,
    *,
    on_progress: Callable[[int], None] | None = None,
    limits: DrainLimits | None = None,
) -> None:
    """Sends entries until `stop` is set; what is being sent then is waited for.

    1. The oldest entries are read.
    2. They are sent, several at a time; of one topic and key one after the other, and none after one that failed.
    3. What was acknowledged is removed from the spool. A crash before this sends it again: the delivery id is the same.
    4. What can never be sent is set aside, so that it stops nobody.
    Nothing is read again before 3 and 4 are done. After a failure there is a pause, longer with each that follows without
    success.

    Args:
        spool: Where they are.
        produce: Returns when Kafka has acknowledged the entry. A `KybStreamError` that is not `retriable` says that it never
            will; whatever else it raises is tried again. It must not wait for ever.
        stop: Ends it.
        on_progress: Called with the number of entries that were sent and removed.
        limits: How hard.
    """
    limits = limits or DrainLimits()
    pause = limits.first_pause_seconds
    outcome = _Outcome()
    while not stop.is_set():
        try:
            await _settle(spool, outcome, on_progress)  # 3, 4: what failed the last time
            batch = await spool.oldest(limits.batch_rows, limits.batch_bytes)  # 1
            if not batch:
                await first_of(spool.wait_for_entries(), stop)
                continue
            outcome = await _send(batch, produce, stop, limits.concurrency)  # 2
            failed, advanced = outcome.failures > 0, bool(outcome.acknowledged or outcome.refused)
            await _settle(spool, outcome, on_progress)  # 3, 4
        except KybStreamError as error:
            _log.warning("spool_drain_failed", error=type(error).__name__, reason=error.message)
            failed, advanced = True, False
        if advanced:
            pause = limits.first_pause_seconds
        if failed:
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
        await spool.set_aside(outcome.refused, "refused")
        outcome.refused = []


async def _send(batch: Sequence[StoredEntry], produce: Produce, stop: asyncio.Event, concurrency: int) -> _Outcome:
    by_key: dict[tuple[str, bytes], deque[StoredEntry]] = {}
    for stored in batch:
        by_key.setdefault((stored.entry.topic, stored.entry.key), deque()).append(stored)
    waiting = deque(by_key.values())
    outcome = _Outcome()

    async def send_keys() -> None:
        # As many failures as there are senders: Kafka is away, not a partition or a record.
        while waiting and not stop.is_set() and outcome.failures < concurrency:
            entries = waiting.popleft()
            if await _send_first(entries, produce, outcome) and entries:
                waiting.append(entries)

    await asyncio.gather(*(send_keys() for _ in range(min(concurrency, len(waiting)))))
    return outcome


async def _send_first(entries: deque[StoredEntry], produce: Produce, outcome: _Outcome) -> bool:
    """Sends the oldest entry of a key; whether the next one may follow."""
    stored = entries[0]
    try:
        await produce(stored.entry)
    except Exception as error:  # noqa: BLE001 - one entry must not stop the others, whatever it is that it meets
        if isinstance(error, KybStreamError) and not error.retriable:
            _log.error("spool_entry_refused", delivery_id=stored.entry.delivery_id, error=type(error).__name__)
            outcome.refused.append(stored.id)
        else:
            if not isinstance(error, KybStreamError):
                _log.warning("spool_entry_not_sent", delivery_id=stored.entry.delivery_id, error=type(error).__name__)
            outcome.failures += 1
            return False
    else:
        outcome.acknowledged.append(stored.id)
    entries.popleft()
    return True


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

"""The timer that lets cases expire: it asks the index of the cases' table what is due, and sends each case its expiry.

Tables are written by batches only, so the timer sends a message keyed like the table; a case that expires twice gets the same
event twice, which is one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from itertools import islice
from typing import Protocol

import msgspec
import structlog
from aiokafka.errors import KafkaError

from kybstream.errors import KybStreamError
from kybstream.ids import to_micros
from schemas.cloudevents import cloud_event_headers
from schemas.codec import encode
from schemas.topics import case_key
from streams.batching import BatchApp, BatchTable, Output
from streams.cases import expiry
from streams.expiring import CASE_EXPIRES
from streams.processing import read_case_state

log = structlog.get_logger(__name__)

AT_ONCE = 100
"""Cases between two turns of the event loop: some 5 ms. The next are read when Kafka has the expiries of these."""


class Publisher(Protocol):
    """What the timer needs of the app."""

    async def publish(self, outputs: Sequence[Output]) -> None:
        """Sends outputs; returns when all in-sync replicas have them."""


class Cases(Protocol):
    """What the timer needs of the table of cases."""

    def owned_partitions(self) -> frozenset[int]:
        """The partitions whose complete state is here now."""

    def due(self, partition: int, kind: int, until: int) -> Iterator[tuple[bytes, bytes]]:
        """The keys and values that are due."""


async def let_cases_expire(
    app: BatchApp,
    cases: BatchTable,
    topic: str,
    clock: Callable[[], datetime],
    *,
    every: float,
    ready: Callable[[], None] | None,
) -> None:
    """Takes a turn at the start and then every so many seconds, until it is cancelled; `ready` is called once before."""
    await _until(app.ready)
    if ready is not None:
        ready()
    # What was due while no worker ran expires now, and not only at the next turn.
    await _until(lambda: app.ready() and cases.indexed())
    while True:
        try:
            await turn(app, cases, topic, clock())
        except (KafkaError, KybStreamError, OSError, TimeoutError) as error:
            # A broker that does not answer now will at the next turn; the deadline does not run away.
            log.warning("expiry_scan_failed", error=type(error).__name__, outage="kafka")
        await asyncio.sleep(every)


async def turn(app: Publisher, cases: Cases, topic: str, now: datetime) -> None:
    """Sends its expiry to each case whose deadline has passed."""
    sent = unreadable = 0
    for partition in sorted(cases.owned_partitions()):
        due = cases.due(partition, CASE_EXPIRES, to_micros(now))
        while entries := list(islice(due, AT_ONCE)):
            expiries = [_expiry(topic, value, now) for _, value in entries]
            outputs = [output for output in expiries if output is not None]
            await app.publish(outputs)
            await asyncio.sleep(0)
            sent += len(outputs)
            unreadable += len(entries) - len(outputs)
    if sent:
        log.info("cases_expired", cases=sent)
    if unreadable:
        log.error("unreadable_states", cases=unreadable)


def _expiry(topic: str, value: bytes, now: datetime) -> Output | None:
    try:
        event = expiry(read_case_state(value), now)
    except msgspec.MsgspecError:
        # Its next event tells it as a dead letter; the other cases expire all the same.
        return None
    if event is None:
        return None
    return Output(topic, case_key(event.tenant, event.case_id).encode(), encode(event), cloud_event_headers(event))


async def _until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 (Faust tells readiness by state, not by an event)
        await asyncio.sleep(0.05)

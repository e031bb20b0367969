"""Spools to be damaged, and what is found in them afterwards."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from time import monotonic
from typing import TypeVar

from structlog.testing import capture_logs

from ingress.spool import Spool, SpoolFailedError
from tests.ingress.spool.spools import entry, opened

ROWS = 400
TURNS = 40
Result = TypeVar("Result")
SIZES = (600, 600, 600, 9000)  # every fourth entry is on overflow pages


async def put_all(spool: Spool) -> None:
    """Puts `ROWS` entries of several sizes, in several transactions."""
    for start in range(0, ROWS, 20):
        await asyncio.gather(*(spool.put(entry(n, size=SIZES[n % len(SIZES)])) for n in range(start, start + 20)))


async def found_in(folder: Path) -> tuple[list[str], dict[str, object]]:
    """The ids that are there after a start, each entry as it was put, and the event that first told of the damage."""
    with capture_logs() as logs:
        async with opened(folder) as spool:
            stored = await until_works(lambda: spool.oldest(1_000_000, 2**40))
            for one in stored:
                number = int(one.entry.delivery_id.rpartition("-")[2])
                assert one.entry.value == entry(number, size=SIZES[number % len(SIZES)]).value
            # And it works: what shows only now takes a moment.
            await until_works(lambda: spool.put(entry(10_000)))
            while spool.stats().depth:
                ids = [one.id for one in await until_works(lambda: spool.oldest(100, 2**40))]
                await until_works(partial(spool.remove, ids))
    events = [event for event in logs if event["log_level"] == "error"]
    return [one.entry.delivery_id for one in stored], dict(events[0]) if events else {}


async def until_works(work: Callable[[], Awaitable[Result]]) -> Result:
    """Does it until it does not fail."""
    deadline = monotonic() + 15
    while monotonic() < deadline:
        with suppress(SpoolFailedError):
            return await work()
        await asyncio.sleep(0.05)
    return await work()


def everything() -> list[str]:
    """The ids of what was put, in that order."""
    return [entry(number).delivery_id for number in range(ROWS)]

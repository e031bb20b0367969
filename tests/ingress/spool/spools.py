"""What the spool's tests share: entries, opened spools, and a process that puts entries until it is killed.

As a program (`python -m tests.ingress.spool.spools put FOLDER` or `drain FOLDER SENT`) it is that process: `put` prints the
id of each entry once `put` has returned, `drain` appends the id of each entry to the file SENT, which stands for Kafka.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from time import monotonic

from ingress.spool import Spool, SpoolEntry, SpoolLimits, drain

NOW = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)
CONCURRENT = 50


def entry(number: int, *, size: int = 600, key: bytes | None = None, run: str = "0") -> SpoolEntry:
    """An entry that differs from all others in every field that may differ."""
    return SpoolEntry(
        delivery_id=f"{run}-{number:032d}",
        topic="kyb.webhooks.raw.v1",
        key=key or b"acme/%d" % number,
        value=(b"%d " % number * size)[:size],
        headers=(("ce_id", b"%d" % number), ("ce_type", b"webhook")),
        stored_at=NOW,
    )


SMALL = SpoolLimits(reserve_bytes=2 * 1024**2)


@asynccontextmanager
async def opened(
    folder: Path, limits: SpoolLimits = SMALL, clock: Callable[[], datetime] = lambda: NOW
) -> AsyncIterator[Spool]:
    """A spool that is closed at the end."""
    spool = await Spool.open(folder, limits, clock=clock)
    try:
        yield spool
    finally:
        await spool.close()


async def fill(spool: Spool, numbers: range, *, size: int = 600) -> None:
    """Puts entries, all at once."""
    await asyncio.gather(*(spool.put(entry(number, size=size)) for number in numbers))


async def delivery_ids(spool: Spool) -> list[str]:
    """Of all that is in the spool; each entry is what was put."""
    stored = await spool.oldest(1_000_000, 2**40)
    return [one.entry.delivery_id for one in stored]


async def until(condition: Callable[[], bool], seconds: float = 15) -> None:
    """Returns when the condition holds; fails when it does not in time."""
    deadline = monotonic() + seconds
    while not condition():
        assert monotonic() < deadline, "the condition did not come true"
        await asyncio.sleep(0.005)


def damaged_files(folder: Path) -> list[str]:
    """Names of what was moved aside."""
    return sorted(path.name for path in folder.iterdir() if "damaged" in path.name)


async def _put_for_ever(folder: Path) -> None:
    numbers = count()

    async def client(spool: Spool) -> None:
        while True:
            new = entry(next(numbers), run=str(os.getpid()), size=900)
            await spool.put(new)
            os.write(1, new.delivery_id.encode() + b"\n")

    async with opened(folder) as spool:
        await asyncio.gather(*(client(spool) for _ in range(CONCURRENT)))


async def _drain_for_ever(folder: Path, sent: Path) -> None:
    descriptor = os.open(sent, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    async def produce(one: SpoolEntry) -> None:
        os.write(descriptor, one.delivery_id.encode() + b"\n")
        await asyncio.sleep(0)

    async with opened(folder) as spool:
        os.write(1, b"draining\n")
        await drain(spool, produce, asyncio.Event())


if __name__ == "__main__":
    what, *paths = sys.argv[1:]
    asyncio.run(_put_for_ever(Path(paths[0])) if what == "put" else _drain_for_ever(Path(paths[0]), Path(paths[1])))

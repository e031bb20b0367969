"""Spools that no process of this ingress writes to any more, because their number has changed: they are drained all the same.

One process alone has its spool in `<spool_dir>`; of several, each has it in `<spool_dir>/<its number>`. So after a change of
the number some folders are nobody's. The first process brings what is in them to Kafka, one folder at a time, oldest entries
first. A folder whose lock another process holds is tried again until it is free. Emptied folders stay: removing one could take
it away from under a process that is just opening it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import structlog

from ingress.spool.drainer import Lanes, drain, first_of
from ingress.spool.entries import SpoolEntry
from ingress.spool.opening import FILE_NAME
from ingress.spool.spool import Spool, SpoolLimits
from kybstream.errors import RunError

RETRY_SECONDS = 5.0
"""How often a folder is tried again that another process uses, or whose disk fails."""

_EMPTY_SECONDS = 0.2

_log = structlog.get_logger(__name__)


def spool_folder(spool_dir: Path, index: int, count: int) -> Path:
    """Where the process of this number, of so many, has its spool."""
    return spool_dir if count == 1 else spool_dir / str(index)


def left_behind(spool_dir: Path, count: int) -> list[Path]:
    """Folders with a spool that is none of `count` processes'."""
    ours = {spool_folder(spool_dir, index, count) for index in range(count)}
    numbered = (each for each in spool_dir.glob("*") if each.name.isdecimal() and each.name == str(int(each.name)))
    folders = [spool_dir, *sorted(numbered, key=lambda each: int(each.name))]
    # Also a log or a recovery that was cut off, without the file itself.
    return [each for each in folders if each not in ours and any(each.glob(f"{FILE_NAME}*"))]


async def drain_left_behind(
    spool_dir: Path,
    count: int,
    send: Callable[[SpoolEntry], Awaitable[None]],
    stop: asyncio.Event,
    *,
    limits: SpoolLimits,
    on_progress: Callable[[int], None],
    watch: Callable[[Spool], Callable[[], None]],
    lanes: Lanes | None = None,
) -> None:
    """Brings what was left behind to Kafka; returns when nothing is left, or `stop` is set.

    Args:
        spool_dir: As set.
        count: How many processes there are now.
        send: As for `drain`.
        stop: Ends it; what is being sent is waited for.
        limits: Of each spool.
        on_progress: As for `drain`.
        lanes: As for `drain`.
        watch: Called with each spool while it is drained; returns what to call when it is no more.
    """
    done: set[Path] = set()
    while not stop.is_set():
        folders = [each for each in left_behind(spool_dir, count) if each not in done]
        if not folders:
            return
        for folder in folders:
            try:
                spool = await Spool.open(folder, limits)
            except RunError as error:
                _log.warning("spool_left_behind_waits", folder=folder.name, reason=error.message)
                continue
            unwatch = watch(spool)
            try:
                if await _drain_to_the_end(spool, folder, send, stop, on_progress, lanes=lanes):
                    done.add(folder)
            finally:
                unwatch()
                await spool.close()
        if not done.issuperset(folders):
            await first_of(asyncio.sleep(RETRY_SECONDS), stop)


async def _drain_to_the_end(
    spool: Spool,
    folder: Path,
    send: Callable[[SpoolEntry], Awaitable[None]],
    stop: asyncio.Event,
    on_progress: Callable[[int], None],
    *,
    lanes: Lanes | None,
) -> bool:
    """Whether the spool is known to be empty."""
    found = spool.stats().depth
    if found:
        _log.info("spool_left_behind", folder=folder.name, entries=found)
    enough = asyncio.Event()
    draining = asyncio.create_task(drain(spool, send, enough, lanes=lanes, on_progress=on_progress))
    try:
        while not (stop.is_set() or draining.done()) and spool.stats().depth:
            await first_of(asyncio.sleep(_EMPTY_SECONDS), stop)
        enough.set()
        await draining
    finally:
        draining.cancel()
        await asyncio.gather(draining, return_exceptions=True)
    empty = spool.stats().depth == 0 and spool.unavailable is None  # a file that cannot be opened only looks empty
    if found and empty:
        _log.info("spool_left_behind_drained", folder=folder.name)
    return empty

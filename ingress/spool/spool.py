"""The spool as the rest of the ingress sees it."""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import structlog

from ingress.spool.entries import HEADER_BYTES, SpoolEntry, SpoolStats, StoredEntry, body_of
from ingress.spool.failures import SpoolFailedError, SpoolFullError
from ingress.spool.store import NewEntry, sync_folder
from ingress.spool.writer import Job, Put, State, Work, Writer
from kybstream.errors import KybStreamError
from kybstream.folder_lock import take_folder

_NO_ANSWER = "the spool's disk does not answer"

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class SpoolLimits:
    """How much of the host a spool may use.

    Attributes:
        max_bytes: Of entries, and of the file that holds them.
        max_pending_bytes: Of entries that wait in memory for the disk.
        reserve_bytes: Kept free on the disk, so that entries can be removed when it is full: several times what
            is removed at once.
        write_timeout_seconds: How long the disk may take; it is given up then.
    """

    max_bytes: int = 1024**3
    max_pending_bytes: int = 16 * 1024**2
    reserve_bytes: int = 8 * 1024**2
    write_timeout_seconds: float = 10.0


def _take_folder(folder: Path) -> int:
    lock = take_folder(folder)
    with suppress(OSError):
        sync_folder(folder.absolute().parent)
    return lock


def _now() -> datetime:
    return datetime.now(UTC)


class Spool:
    """Entries on this host's disk, oldest first. Made by `open`; belongs to the event loop it was opened in.

    1. What `put` returned for is there at the next `open`, also after SIGKILL or a power loss, until it is removed.
    2. What `put` raised for may be there nevertheless.
    3. An entry that was removed may come back when the file is damaged: consumers know it by its delivery id.
    """

    def __init__(self, folder: Path, limits: SpoolLimits, clock: Callable[[], datetime], lock: int) -> None:
        self._limits = limits
        self._clock = clock
        self._lock: int | None = lock
        self._loop = asyncio.get_running_loop()
        self._pending_bytes = 0
        # One timer for all: a timeout for each entry would be a fifth of what an entry costs.
        self._waiting: deque[tuple[float, asyncio.Future[None]]] = deque()
        self._watch: asyncio.TimerHandle | None = None
        self._closed = False
        self._not_empty = asyncio.Event()
        self._writer = Writer(
            folder,
            max_bytes=limits.max_bytes,
            reserve_bytes=limits.reserve_bytes,
            settle=partial(self._in_loop, self._settle),
            settle_job=partial(self._in_loop, self._settle_job),
        )
        self._state: State

    @classmethod
    async def open(cls, folder: Path, limits: SpoolLimits | None = None, *, clock: Callable[[], datetime] = _now) -> Spool:
        """The spool in the folder, which is made if need be, with what an earlier process left there.

        A damaged file is moved aside and what is readable of it recovered; a disk that is full or fails makes a spool that
        refuses entries until it works (`unavailable` says so). Takes about as long as reading the file does.

        Args:
            folder: A folder of its own.
            limits: What it may use.
            clock: Tells the time, UTC.

        Raises:
            RunError: Another process uses the folder, or it cannot be made.
        """
        loop = asyncio.get_running_loop()
        lock = await loop.run_in_executor(None, _take_folder, folder)
        spool = cls(folder, limits or SpoolLimits(), clock, lock)
        spool._apply(await loop.run_in_executor(None, spool._writer.start))
        return spool

    @property
    def unavailable(self) -> str | None:
        """Why entries would be refused now, or None when they are taken."""
        if self._closed:
            return "the spool is closed"
        if self._state.failing is not None:
            return f"the spool cannot be written ({self._state.failing})"
        if self._state.totals.bytes >= self._limits.max_bytes:
            return "the spool is full"
        return None

    def stats(self) -> SpoolStats:
        """How full it is, as of the last transaction; waits for nothing."""
        totals = self._state.totals
        since = totals.oldest_stored_at
        return SpoolStats(
            depth=totals.depth,
            bytes=totals.bytes,
            file_bytes=self._writer.file_bytes,
            pending_bytes=self._pending_bytes,
            oldest_seconds=0.0 if since is None else max(0.0, (self._clock() - since).total_seconds()),
            set_aside=totals.set_aside,
            transactions=self._state.transactions,
        )

    async def put(self, entry: SpoolEntry) -> None:
        """Returns when the entry is on the disk. A delivery id that is there already is kept as it is.

        Raises:
            SpoolFullError: A limit is reached.
            SpoolFailedError: The disk is full, fails or does not answer. The entry may be stored nevertheless.
        """
        if entry.stored_at.tzinfo is None:
            raise ValueError("stored_at needs a time zone")
        if self._closed:
            raise SpoolFailedError("the spool is closed")
        body = body_of(entry)
        size = HEADER_BYTES + len(body)
        if self._pending_bytes + size > self._limits.max_pending_bytes:
            raise SpoolFullError("too much is waiting for the spool's disk")
        if self._state.totals.bytes + self._pending_bytes + size > self._limits.max_bytes:
            raise SpoolFullError("the spool has reached its size limit")
        future: asyncio.Future[None] = self._loop.create_future()
        self._pending_bytes += size
        self._waiting.append((self._loop.time() + self._limits.write_timeout_seconds, future))
        if self._watch is None:
            self._watch = self._loop.call_later(self._limits.write_timeout_seconds, self._give_up_late)
        self._writer.hand_over(Put(NewEntry(entry.delivery_id, body), future))
        await future

    async def oldest(self, limit_rows: int, limit_bytes: int, *, after: int = 0) -> list[StoredEntry]:
        """The first entries in the order of insertion: at most `limit_rows`, and no more than `limit_bytes` but for the first.

        Args:
            limit_rows: See above.
            limit_bytes: See above.
            after: Only entries whose `id` is greater.

        Raises:
            SpoolFailedError: The disk fails.
        """
        return await self._do(lambda store: store.oldest(limit_rows, limit_bytes, after), writes=False)

    async def remove(self, ids: Sequence[int]) -> None:
        """Returns when the entries are gone from the disk, all at once; ids that are not there are passed over.

        Raises:
            SpoolFailedError: The disk fails; the entries are still there.
        """
        await self._do(lambda store: store.remove(ids), writes=True)

    async def set_aside(self, ids: Sequence[int], reason: str) -> None:
        """Keeps entries that can never be sent out of the way, in a table for a person to look at.

        Raises:
            SpoolFailedError: The disk fails; the entries are where they were.
        """
        await self._do(lambda store: store.set_aside(ids, reason), writes=True)

    async def wait_for_entries(self) -> None:
        """Returns when there is an entry."""
        await self._not_empty.wait()

    async def close(self, seconds: float = 5.0) -> None:
        """Stores what was put, takes no more, and closes the file; entries stay for the next `open`.

        What the disk has not taken within `seconds` is given up; the folder stays locked then until the process ends.
        """
        if self._lock is None:
            return
        self._closed = True
        if self._watch is not None and not self._waiting:
            self._watch.cancel()
        if await self._loop.run_in_executor(None, self._writer.stop, seconds):
            os.close(self._lock)
            self._lock = None
        else:
            _log.error("spool_not_closed", pending_bytes=self._pending_bytes)

    async def _do(self, work: Work, *, writes: bool) -> list[StoredEntry]:
        if self._closed:
            raise SpoolFailedError("the spool is closed")
        future: asyncio.Future[list[StoredEntry]] = self._loop.create_future()
        self._writer.hand_over(Job(work, future, writes))
        try:
            async with asyncio.timeout(self._limits.write_timeout_seconds):
                return await future
        except TimeoutError:
            raise SpoolFailedError(_NO_ANSWER) from None

    def _give_up_late(self) -> None:
        self._forget_answered()
        while self._waiting and self._waiting[0][0] <= self._loop.time():
            _, future = self._waiting.popleft()
            if not future.done():
                future.set_exception(SpoolFailedError(_NO_ANSWER))
        self._watch = self._loop.call_at(self._waiting[0][0], self._give_up_late) if self._waiting else None

    def _forget_answered(self) -> None:
        # The writer answers in the order of arrival.
        while self._waiting and self._waiting[0][1].done():
            self._waiting.popleft()

    def _in_loop(self, settle: Callable[..., None], *results: object) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(settle, *results)

    def _settle(self, puts: Sequence[Put], error: KybStreamError | None, state: State) -> None:
        self._apply(state)
        for put in puts:
            self._pending_bytes -= HEADER_BYTES + len(put.new.body)
            if put.future.done():
                continue
            if error is None:
                put.future.set_result(None)
            else:
                # One for each: who raises it writes his traceback into it.
                put.future.set_exception(type(error)(error.message))
        self._forget_answered()

    def _settle_job(self, job: Job, result: list[StoredEntry] | KybStreamError, state: State) -> None:
        self._apply(state)
        if job.future.done():
            return
        if isinstance(result, KybStreamError):
            job.future.set_exception(result)
        else:
            job.future.set_result(result)

    def _apply(self, state: State) -> None:
        self._state = state
        if state.totals.depth:
            self._not_empty.set()
        else:
            self._not_empty.clear()

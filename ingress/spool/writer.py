"""The thread that owns the spool's file, and turns whatever waits for it into as few transactions as possible.

Group commit: what arrives while a transaction is being committed is the next transaction, so that transactions grow with the
load and a lone entry waits for nobody.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from time import monotonic
from typing import NamedTuple

import structlog

from ingress.spool.entries import StoredEntry
from ingress.spool.failures import Fault, SpoolFailedError, SpoolFullError, fault_of, name_of
from ingress.spool.opening import SpoolFile
from ingress.spool.reserve import Reserve
from ingress.spool.store import CHECKPOINT_BYTES, NewEntry, Store, Totals
from kybstream.errors import KybStreamError

TRANSACTION_BYTES = 1024 * 1024
"""A transaction takes no more entries when it has this many bytes: it bounds the log, and how long one waits for others."""

RETRY_SECONDS = 1.0
"""How often a file that failed is tried again."""

_PROBE_BYTES = 256 * 1024  # a disk with less room than this is as good as full
_NO_ROOM = "no room"
_DISK_FULL = "the spool's disk is full"

_log = structlog.get_logger(__name__)


Work = Callable[[Store], Sequence[StoredEntry] | None]


class Put(NamedTuple):
    """An entry that somebody waits for."""

    new: NewEntry
    future: asyncio.Future[None]


class Job(NamedTuple):
    """Anything else that is done with the file; somebody waits for what it returns."""

    work: Work
    future: asyncio.Future[list[StoredEntry]]
    writes: bool


class State(NamedTuple):
    """What the thread reports with each result.

    Attributes:
        totals: What is in the file.
        failing: Why the last write failed, or None.
        transactions: How many commits of entries there were.
    """

    totals: Totals
    failing: str | None
    transactions: int


Settle = Callable[[Sequence[Put], KybStreamError | None, State], None]
SettleJob = Callable[[Job, "list[StoredEntry] | KybStreamError", State], None]


class Writer:
    """Runs in a thread of its own; `settle` and `settle_job` are called from there.

    Args:
        folder: Where the file is; it exists and is this process's alone.
        max_bytes: How large the file may grow.
        reserve_bytes: How much room is kept free for removing entries from a full disk.
        settle: Called with what was committed, or refused with an error.
        settle_job: Called with a job and what it gave.
    """

    def __init__(self, folder: Path, *, max_bytes: int, reserve_bytes: int, settle: Settle, settle_job: SettleJob) -> None:
        # The reserve must take what a full disk keeps in the log, and what removing writes to it.
        checkpoint_bytes = min(CHECKPOINT_BYTES, reserve_bytes // 4) or CHECKPOINT_BYTES
        self._file = SpoolFile(folder, max_bytes, checkpoint_bytes)
        self._reserve = Reserve(folder / "spool.reserve", reserve_bytes)
        self._settle = settle
        self._settle_job = settle_job
        self._probe = Reserve(folder / "spool.probe", _PROBE_BYTES)
        self._queue: SimpleQueue[Put | Job | None] = SimpleQueue()
        self._store: Store | None = None
        self._failing: str | None = None
        self._damage: str | None = None
        self._retry_at = 0.0
        self._reserved = False
        self._state = State(Totals(), None, 0)
        self._opened = threading.Event()
        # A daemon: a disk that does not answer must not keep the process from ending.
        self._thread = threading.Thread(target=self._run, name="spool-writer", daemon=True)

    def start(self) -> State:
        """Opens the file and begins to work; blocks until it is open or has failed, which is tried again later."""
        self._thread.start()
        self._opened.wait()
        return self._state

    @property
    def file_bytes(self) -> int:
        """What the file and its log take on the disk."""
        return self._file.size

    def hand_over(self, task: Put | Job) -> None:
        """Queues work for the thread; returns at once."""
        self._queue.put(task)

    def stop(self, seconds: float) -> bool:
        """Does what is queued and closes the file; blocks. False when that took longer than `seconds`."""
        self._queue.put(None)
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _run(self) -> None:
        self._attempt(lambda _: None)
        self._publish()
        self._opened.set()
        while True:
            puts, last = self._next()
            if puts:
                error = self._attempt(partial(self._insert, puts), writes=True)
                self._publish(commits=1 if error is None else 0)
                self._settle(puts, error, self._state)
            if isinstance(last, Job):
                self._do(last)
            elif last is None:
                break
            self._tidy()
        if self._store is not None:
            self._file.close(self._store)

    def _next(self) -> tuple[list[Put], Job | _Nothing | None]:
        """Waits for work; returns the entries of the next transaction and what is to be done after it (None: stop)."""
        puts: list[Put] = []
        size = 0
        try:
            task = self._queue.get(timeout=RETRY_SECONDS if self._failing or not self._reserved else None)
            while isinstance(task, Put):
                puts.append(task)
                size += len(task.new.body)
                if size >= TRANSACTION_BYTES:
                    return puts, _NOTHING
                task = self._queue.get_nowait()
        except Empty:
            return puts, _NOTHING
        return puts, task

    def _insert(self, puts: Sequence[Put], store: Store) -> None:
        if not self._reserved:
            # What is free now is for removing entries.
            raise SpoolFailedError(_DISK_FULL)
        entries = [put.new for put in puts]
        try:
            store.insert(entries)
        except sqlite3.Error as error:
            if fault_of(error) is not Fault.NO_ROOM or self._failing is not None or self._at_limit(store):
                raise
            # The log may take what the entries need.
            store.empty_log()
            store.insert(entries)

    def _do(self, job: Job) -> None:
        result: list[StoredEntry] = []

        def work(store: Store) -> None:
            result.extend(job.work(store) or ())

        error = self._attempt(work, writes=job.writes)
        if isinstance(error, SpoolFailedError) and self._failing == _NO_ROOM and self._reserved:
            # Removing needs room as well, and it makes room.
            self._reserve.release()
            self._reserved = False
            error = self._attempt(work, writes=job.writes)
        self._publish()
        self._settle_job(job, result if error is None else error, self._state)
        if job.writes and error is None:
            self._attempt(lambda store: store.give_back(everything=not self._reserved))

    def _attempt(self, work: Callable[[Store], None], *, writes: bool = False) -> KybStreamError | None:
        """Does the work on the open file, which is opened if need be; returns why it failed."""
        try:
            work(self._ready())
        except KybStreamError as error:
            return error
        except Exception as error:  # noqa: BLE001 - whatever it is, those who wait must hear of it and the thread must go on
            return self._failed(error)
        if writes and self._reserved and self._failing is not None:
            _log.info("spool_works_again")
            self._failing = None
        return None

    def _ready(self) -> Store:
        if self._store is None:
            if monotonic() < self._retry_at:
                raise SpoolFailedError(f"the spool cannot be written ({self._failing})")
            self._store = self._file.open(damage=self._damage)
            self._damage = None
            self._keep_reserve()
        return self._store

    def _failed(self, error: Exception) -> KybStreamError:
        fault, name = fault_of(error), name_of(error)
        store = self._store
        if store is not None and fault is Fault.NO_ROOM:
            if self._at_limit(store):
                return SpoolFullError("the spool's file has reached its size limit")
            self._set_failing(_NO_ROOM)
            return SpoolFailedError(_DISK_FULL)
        self._set_failing(_NO_ROOM if fault is Fault.NO_ROOM else name)
        self._damage = name if fault is Fault.DAMAGED else None
        # Not at once, also when it is to be recovered: a bad disk would soon be full of damaged files.
        self._retry_at = monotonic() + RETRY_SECONDS
        if store is not None:
            self._store = None
            try:
                store.close()
            except sqlite3.Error as closing:
                _log.warning("spool_not_closed", error=name_of(closing))
        return SpoolFailedError(f"the spool cannot be written ({name})")

    def _set_failing(self, reason: str) -> None:
        if self._failing != reason:
            _log.error("spool_failed", reason=reason)
        self._failing = reason

    def _at_limit(self, store: Store) -> bool:
        try:
            return store.at_limit
        except sqlite3.Error:
            return False

    def _tidy(self) -> None:
        """What nobody waits for: the log into the file, the reserve, a file that failed tried again."""
        if self._failing is None and self._reserved:
            self._attempt(Store.save_log)
        elif monotonic() >= self._retry_at:
            self._retry_at = monotonic() + RETRY_SECONDS if self._store is not None else 0.0
            self._attempt(Store.empty_log)
            self._keep_reserve()
            if self._reserved:
                self._attempt(self._try_to_write, writes=True)
            self._publish()
            self._settle((), None, self._state)  # nobody waits, but it may work again

    def _try_to_write(self, store: Store) -> None:
        # A few bytes always fit somewhere; that a transaction would, is what must be known.
        if not self._probe.keep():
            raise SpoolFailedError(_DISK_FULL)
        self._probe.release()
        store.try_to_write()

    def _keep_reserve(self) -> None:
        self._reserved = self._store is not None and self._reserve.keep()
        if not self._reserved and self._store is not None:
            self._set_failing(_NO_ROOM)

    def _publish(self, commits: int = 0) -> None:
        # No system call here: each gives the interpreter's lock away, and it is milliseconds until a busy loop hands it back.
        totals = self._state.totals if self._store is None else self._store.totals
        self._state = State(totals, self._failing, self._state.transactions + commits)


class _Nothing:
    """Says that there is nothing to be done after the transaction."""


_NOTHING = _Nothing()

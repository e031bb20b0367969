"""Opens the spool's file whatever state it was left in: as it is, or recovered as far as it can be read.

Only a disk that fails keeps it from opening; a damaged file does not. What is damaged is kept beside it for a person to
look at.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import structlog

from ingress.spool.carving import Carved, commits_after
from ingress.spool.entries import body_of
from ingress.spool.failures import Fault, fault_of
from ingress.spool.recovery import finish_recovery, recover
from ingress.spool.store import NewEntry, Store, sync_folder
from kybstream.private_files import make_private_file, tighten

CHECK_SECONDS = 5.0
"""How long a start may look at the file's structure. Measured: 250 MB a second. The rest is checked when it is read."""

FILE_NAME = "spool.sqlite3"

_SQLITE_MAGIC = b"SQLite format 3\0"
_RESCUED_ROWS = 500

_log = structlog.get_logger(__name__)


class SpoolFile:
    """The file of one spool, and what lies beside it.

    Args:
        folder: Where; it exists and is this process's alone.
        max_bytes: How large the file may grow.
        checkpoint_bytes: How large its log may grow, about.
    """

    def __init__(self, folder: Path, max_bytes: int, checkpoint_bytes: int) -> None:
        self.path = folder / FILE_NAME
        self._log_path = folder / f"{FILE_NAME}-wal"
        self._in_use = folder / "spool.in-use"
        self._max_bytes = max_bytes
        self._checkpoint_bytes = checkpoint_bytes

    def open(self, *, damage: str | None = None) -> Store:
        """The entries that are there, ready for more.

        1. A recovery that was cut off after its work was done is finished.
        2. What SQLite would not read, or would take for an empty file and throw its log away, is recovered without asking it.
        3. SQLite opens the file and checks it. What it finds damaged is recovered.
        4. Transactions in the log that SQLite passed over, because something before them is damaged, are stored again.
        5. A log that should be there and is not is reported: what was in it is lost.
        6. The file is marked as in use, for 5 to work at the next start.

        Args:
            damage: What is known to be wrong with the file already; it is recovered without a look then.

        Raises:
            sqlite3.Error: The disk fails or is full.
            OSError: Likewise.
        """
        for each in self.path.parent.glob("spool.*"):
            tighten(each)
        finish_recovery(self.path)  # 1
        log = self._log_path.read_bytes() if self._log_path.exists() else None
        damage = damage or self._seen_from_outside(log)  # 2
        if damage is not None:
            recover(self.path, log or b"", damage)
        store, recovered = self._open_checked(log)  # 3
        sound = damage is None and not recovered
        try:
            if sound and log and commits_after(log, store.frames_read()):
                self._rescue(store, log)  # 4
            if sound and log is None and self._in_use.exists():
                _log.error("spool_log_missing", recovered=store.totals.depth, lost="unknown")  # 5
            self._mark()  # 6
        except BaseException:
            store.close()
            raise
        return store

    @property
    def size(self) -> int:
        """Bytes that the file and its log take on the disk."""
        size = 0
        for path in (self.path, self._log_path):
            with suppress(OSError):
                size += path.stat().st_size
        return size

    def close(self, store: Store) -> None:
        """Closes the file in order: the next start knows that nothing is missing."""
        # Before the log is removed: the other way round, a kill between the two would look like a missing log.
        with suppress(OSError):
            self._in_use.unlink(missing_ok=True)
            sync_folder(self.path.parent)
        store.close()

    def _seen_from_outside(self, log: bytes | None) -> str | None:
        try:
            with self.path.open("rb") as file:
                head = file.read(len(_SQLITE_MAGIC))
        except FileNotFoundError:
            head = b""
        if head == _SQLITE_MAGIC:
            return None
        if head:
            return "the file does not begin as a database"
        return "the file is empty, its log is not" if log else None

    def _open_checked(self, log: bytes | None) -> tuple[Store, bool]:
        """The open file, and whether it had to be recovered for that."""
        store: Store | None = None
        try:
            store = Store(self.path, self._max_bytes, self._checkpoint_bytes)
            damage = store.damage(CHECK_SECONDS)
        except sqlite3.Error as error:
            if store is not None:
                store.close()
            if fault_of(error) is not Fault.DAMAGED and getattr(error, "sqlite_errorname", "SQLITE_ERROR") != "SQLITE_ERROR":
                raise
            damage = str(error)
        else:
            if damage is None:
                return store, False
            store.close()
        recover(self.path, log or b"", damage)
        return Store(self.path, self._max_bytes, self._checkpoint_bytes), True

    def _rescue(self, store: Store, log: bytes) -> None:
        kept = self._log_path.with_name(f"{self._log_path.name}.damaged-{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}")
        with suppress(OSError):
            make_private_file(kept)
            kept.write_bytes(log)
        before = store.totals.depth
        carved = Carved(b"", log)
        entries = [NewEntry(entry.delivery_id, body_of(entry)) for _, _, entry in carved.records()]
        for start in range(0, len(entries), _RESCUED_ROWS):
            store.insert(entries[start : start + _RESCUED_ROWS])
        _log.error(
            "spool_log_damaged", recovered=store.totals.depth - before, unreadable=len(carved.unreadable), kept_as=kept.name
        )

    def _mark(self) -> None:
        # Without room for the mark the spool is not the worse for it, only a missing log goes unnoticed.
        with suppress(OSError):
            os.close(os.open(self._in_use, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600))
        sync_folder(self.path.parent)

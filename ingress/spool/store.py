"""The spool's file: SQL, and nothing that waits. One thread uses it, the one that made it."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from time import time_ns
from typing import NamedTuple

import structlog

from ingress.spool.entries import DamagedRecordError, StoredEntry, entry_of, record_of
from kybstream.private_files import make_private_file

PAGE_BYTES = 4096
"""Never changed: `carving` relies on it where the file cannot say so itself."""

CHECKPOINT_BYTES = 2 * 1024 * 1024
"""After so much was written the log is copied into the file, which bounds the log."""

_COMMIT_BYTES = 4 * PAGE_BYTES  # what a transaction writes to the log besides its records: pages are written whole
_STATEMENT_ROWS = 200  # rows of one INSERT or DELETE: the interpreter's lock is taken once a statement, not once a row
_SLACK_PAGES = 256  # so much free space is kept for the next burst
_VACUUM_PAGES = 512  # given back at a time, so that nobody waits long

REFUSED = "refused"  # why an entry was set aside that Kafka does not take for its size
_log = structlog.get_logger(__name__)

SCHEMA = """
CREATE TABLE IF NOT EXISTS entries (id INTEGER PRIMARY KEY, record BLOB NOT NULL, delivery_id TEXT NOT NULL UNIQUE);
CREATE TABLE IF NOT EXISTS set_aside (
    id INTEGER PRIMARY KEY, record BLOB NOT NULL, delivery_id TEXT NOT NULL, reason TEXT NOT NULL, at TEXT NOT NULL
);
"""


class Totals(NamedTuple):
    """What is in the file."""

    depth: int = 0
    bytes: int = 0
    set_aside: int = 0
    oldest_stored_at: datetime | None = None


class NewEntry(NamedTuple):
    """An entry to store, encoded."""

    delivery_id: str
    body: bytes


class Store:
    """The entries of one spool, over one connection to its file.

    Every method raises `sqlite3.Error` when the file cannot be read or written; what it had begun is then rolled back.

    Args:
        path: The file; made when it is not there.
        max_bytes: How large the file may grow (without the log).
        checkpoint_bytes: After how many bytes the log is copied into the file.
    """

    def __init__(self, path: Path, max_bytes: int, checkpoint_bytes: int = CHECKPOINT_BYTES) -> None:
        self._path = path
        self._checkpoint_bytes = checkpoint_bytes
        self._unsaved = 0
        self._next_id = 0
        self.totals = Totals()
        make_private_file(path)  # SQLite gives its log the rights of the file
        self._connection = sqlite3.connect(path, isolation_level=None, cached_statements=512)
        try:
            self._prepare(max_bytes)
        except BaseException:
            self._connection.close()
            raise

    def insert(self, entries: Sequence[NewEntry]) -> None:
        """Stores the entries in one transaction, which is on the disk on return. A delivery already there stays as it is."""
        first = self._next_id
        flat: list[object] = []
        for number, (delivery_id, body) in enumerate(entries, first):
            flat += (number, record_of(delivery_id, body, number), delivery_id)
        inserted = 0
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            for start in range(0, len(flat), 3 * _STATEMENT_ROWS):
                values = flat[start : start + 3 * _STATEMENT_ROWS]
                rows = ",".join(["(?,?,?)"] * (len(values) // 3))
                inserted += self._connection.execute(
                    f"INSERT INTO entries (id, record, delivery_id) VALUES {rows} ON CONFLICT (delivery_id) DO NOTHING",  # noqa: S608 - placeholders only
                    values,
                ).rowcount
            size = sum(len(value) for value in flat[1::3] if isinstance(value, bytes))
            self._unsaved += size + _COMMIT_BYTES
            if inserted < len(entries):
                size = self._integer("SELECT coalesce(sum(length(record)), 0) FROM entries WHERE id >= ?", first)
            self._connection.execute("COMMIT")
        except BaseException:
            self._roll_back()
            raise
        self._next_id = first + len(entries)
        totals = self.totals
        self.totals = totals._replace(depth=totals.depth + inserted, bytes=totals.bytes + size)
        if totals.depth == 0:
            self._look_for_oldest()

    def oldest(self, limit_rows: int, limit_bytes: int, after: int = 0) -> list[StoredEntry]:
        """The first entries after the one of that id: at most `limit_rows`, and no more than `limit_bytes` but for the first.

        Rows that are damaged are set aside on the way; `totals.set_aside` counts them.
        """
        while True:
            found: list[StoredEntry] = []
            damaged: list[int] = []
            size = 0
            # The cast, because a damaged row may claim to hold text, which would have to be valid.
            rows = self._connection.execute(
                "SELECT id, CAST(record AS BLOB) FROM entries WHERE id > ? ORDER BY id LIMIT ?", (after, limit_rows)
            )
            for number, stored in rows:
                record = stored or b""
                size += len(record)
                if found and size > limit_bytes:
                    break
                try:
                    found.append(StoredEntry(number, entry_of(record), len(record)))
                except DamagedRecordError:
                    damaged.append(number)
            rows.close()
            if damaged:
                self.set_aside(damaged, "damaged")
                _log.error("spool_entries_damaged", set_aside=len(damaged))
            if found or not damaged:
                return found

    def remove(self, ids: Sequence[int]) -> None:
        """Takes the entries out, in one transaction; ids that are not there are passed over."""
        self._take_out(ids, None)

    def set_aside(self, ids: Sequence[int], reason: str) -> None:
        """Keeps the entries for a person to look at, in one transaction; they are not among the oldest any more."""
        self._take_out(ids, reason)

    def give_back(self, *, everything: bool = False) -> None:
        """Gives unused space back to the file system when there is much of it, or `everything` at once."""
        free = self._integer("PRAGMA freelist_count")
        pages = self._integer("PRAGMA page_count")
        if self.totals.depth == 0 or everything:
            if everything or free > _SLACK_PAGES or self._unsaved >= self._checkpoint_bytes:
                # A script, because `execute` takes one step of this statement and a step is a page.
                self._connection.executescript("PRAGMA incremental_vacuum")
                self.empty_log()
        elif free > max(_SLACK_PAGES, pages // 2):
            self._connection.executescript(f"PRAGMA incremental_vacuum({_VACUUM_PAGES})")
            self._unsaved += _VACUUM_PAGES * PAGE_BYTES

    def save_log(self) -> None:
        """Copies the log into the file when it has grown; the log is then written from its beginning again."""
        if self._unsaved >= self._checkpoint_bytes:
            self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
            self._unsaved = 0

    def empty_log(self) -> None:
        """Copies the log into the file and gives the log's space back."""
        self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        self._unsaved = 0

    def try_to_write(self) -> None:
        """Writes and commits a few bytes: raises when an entry could not be stored either."""
        self._connection.execute(f"PRAGMA user_version = {self._integer('PRAGMA user_version') % 1000 + 1}")

    def damage(self, seconds: float) -> str | None:
        """What SQLite finds wrong with the file's structure, or None; looks for no longer than `seconds`."""
        alarm = threading.Timer(seconds, self._connection.interrupt)
        alarm.start()
        try:
            found = str(self._connection.execute("PRAGMA quick_check(1)").fetchone()[0])
        except sqlite3.OperationalError as error:
            if error.sqlite_errorname != "SQLITE_INTERRUPT":
                raise
            # Checksums and SQLite's own checks while reading find what is wrong with the rest.
            return None
        finally:
            alarm.cancel()
            alarm.join()
        return None if found == "ok" else found

    def frames_read(self) -> int:
        """How many frames of the log SQLite took for sound when it opened the file; call it before anything is written."""
        return int(self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()[1])

    @property
    def at_limit(self) -> bool:
        """Whether the file has grown to `max_bytes`."""
        return self._integer("PRAGMA page_count") >= self._integer("PRAGMA max_page_count")

    def close(self) -> None:
        """Closes the file; the log is copied into it first when that is possible."""
        self._connection.close()

    def _prepare(self, max_bytes: int) -> None:
        run = self._connection.execute
        if self._path.stat().st_size == 0:
            # Only then: on a file that has entries the second one is a write, and nothing may be written before it is checked.
            run(f"PRAGMA page_size = {PAGE_BYTES}")
            run("PRAGMA auto_vacuum = INCREMENTAL")
        # One process and one connection: no shared memory file, which a full disk could turn into a SIGBUS.
        run("PRAGMA locking_mode = EXCLUSIVE")
        run("PRAGMA journal_mode = WAL")
        # Nothing less survives a power loss: the log is synced with every commit.
        run("PRAGMA synchronous = FULL")
        # What was sent is gone, also from free pages: it is personal data, and recovery must not find it again.
        run("PRAGMA secure_delete = ON")
        run("PRAGMA wal_autocheckpoint = 0")
        for name, expected in (("page_size", PAGE_BYTES), ("auto_vacuum", 2), ("journal_mode", "wal"), ("encoding", "UTF-8")):
            if run(f"PRAGMA {name}").fetchone()[0] != expected:
                raise sqlite3.DatabaseError(f"the file's {name} is not what it was made with")
        run(f"PRAGMA max_page_count = {max(1, max_bytes // PAGE_BYTES)}")
        self._connection.executescript(SCHEMA)
        self._take_up_refused()
        depth, size, last = run(
            "SELECT count(*), coalesce(sum(length(record)), 0), coalesce(max(id), 0) FROM entries"
        ).fetchone()
        self.totals = Totals(depth, size, self._integer("SELECT count(*) FROM set_aside"))
        # The clock makes ids that no earlier run has used, even when the file is empty or new.
        self._next_id = max(last + 1, time_ns() // 1000)
        self._look_for_oldest()

    def _take_up_refused(self) -> None:
        """Puts back what Kafka has refused for its size in an earlier run: its limit may have been raised since."""
        run, columns = self._connection.execute, "id, record, delivery_id"
        try:
            run("BEGIN IMMEDIATE")
            run(f"INSERT OR IGNORE INTO entries SELECT {columns} FROM set_aside WHERE reason = ?", (REFUSED,))  # noqa: S608
            run("DELETE FROM set_aside WHERE reason = ?", (REFUSED,))
            run("COMMIT")
        except sqlite3.Error:  # say without room: they stay where they are
            self._roll_back()

    def _take_out(self, ids: Sequence[int], reason: str | None) -> None:
        if not ids:
            return
        taken = size = 0
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            for start in range(0, len(ids), _STATEMENT_ROWS):
                some = ids[start : start + _STATEMENT_ROWS]
                these = f"id IN ({','.join('?' * len(some))})"
                if reason is not None:
                    self._connection.execute(
                        "INSERT OR REPLACE INTO set_aside SELECT id, record, delivery_id, ?, datetime('now')"  # noqa: S608 - placeholders only
                        f" FROM entries WHERE {these}",
                        (reason, *some),
                    )
                for (length,) in self._connection.execute(
                    f"DELETE FROM entries WHERE {these} RETURNING length(record)",  # noqa: S608 - placeholders only
                    some,
                ):
                    taken += 1
                    size += length
            self._connection.execute("COMMIT")
        except BaseException:
            self._roll_back()
            raise
        self._unsaved += size + _COMMIT_BYTES  # the size, because secure_delete writes zeros
        totals = self.totals
        kept = totals.set_aside + (0 if reason is None else taken)
        self.totals = Totals(totals.depth - taken, totals.bytes - size, kept, totals.oldest_stored_at)
        self._look_for_oldest()

    def _look_for_oldest(self) -> None:
        row = self._connection.execute("SELECT CAST(record AS BLOB) FROM entries ORDER BY id LIMIT 1").fetchone()
        stored_at: datetime | None = None
        if row is not None:
            with suppress(DamagedRecordError):
                stored_at = entry_of(row[0] or b"").stored_at
        self.totals = self.totals._replace(oldest_stored_at=stored_at)

    def _roll_back(self) -> None:
        with suppress(sqlite3.Error):
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")

    def _integer(self, statement: str, *values: int) -> int:
        return int(self._connection.execute(statement, values).fetchone()[0])


def sync_folder(folder: Path) -> None:
    """Makes names of new files in the folder survive a power loss."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

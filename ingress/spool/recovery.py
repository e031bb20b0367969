"""Makes a new file out of what can be read of a damaged one, so that a kill at any moment loses nothing of it.

1. What is readable goes to `<file>.recovered`, which is synced.
2. The damaged file is renamed to `<file>.damaged-<time>`. From here on the recovered one is the truth.
3. The damaged log is renamed likewise.
4. The recovered file takes the name of the file.

A kill before 2 leaves a half-made recovered file beside the damaged one: it is made anew. After 2 the file is not there and
the recovered one is: 3 and 4 are done at the next start.
"""

from __future__ import annotations

import mmap
import os
import sqlite3
from datetime import UTC, datetime
from pathlib import Path

import structlog

from ingress.spool.carving import Carved, Image
from ingress.spool.failures import name_of
from ingress.spool.store import PAGE_BYTES, SCHEMA, sync_folder
from kybstream.private_files import make_private_file

_ROWS_A_TRANSACTION = 1000

_log = structlog.get_logger(__name__)


def recover(path: Path, log: bytes, damage: str) -> None:
    """Puts a sound file in the place of the damaged one, with all entries that can be read, and says what was found.

    Args:
        path: The damaged file; it may be missing.
        log: What was in its log before SQLite touched it.
        damage: What is wrong, for the log.
    """
    target = _recovered(path)
    target.unlink(missing_ok=True)
    stopped: str | None = None
    make_private_file(target)
    connection = sqlite3.connect(target, isolation_level=None)
    try:
        for setting in (f"page_size = {PAGE_BYTES}", "auto_vacuum = INCREMENTAL", "journal_mode = MEMORY", "synchronous = OFF"):
            connection.execute(f"PRAGMA {setting}")
        connection.executescript(SCHEMA)
        with _Mapped(path) as database:
            carved = Carved(database, log)
            try:
                _copy(carved, connection)
            except sqlite3.OperationalError as error:
                # No room for a copy: what fits is better than nothing, and the damaged file is kept.
                stopped = name_of(error)
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
        recovered = int(connection.execute("SELECT count(*) FROM entries").fetchone()[0])
        unreadable = sum(
            connection.execute("SELECT 1 FROM entries WHERE id = ?", (sequence,)).fetchone() is None
            for sequence in carved.unreadable
            if sequence < 2**63
        )
    finally:
        connection.close()
    _sync(target)
    kept = _swap(path, log)
    _log.error(
        "spool_damaged",
        damage=damage,
        recovered=recovered,
        unreadable=unreadable,
        complete=stopped is None,
        stopped=stopped,
        kept_as=kept,
    )


def finish_recovery(path: Path) -> None:
    """Ends a recovery that was cut off; does nothing when there was none."""
    target = _recovered(path)
    if not target.exists():
        return
    if path.exists():
        target.unlink()
    else:
        _swap(path, b"")


def _copy(carved: Carved, connection: sqlite3.Connection) -> None:
    connection.execute("BEGIN")
    for rows, (sequence, record, entry) in enumerate(carved.records(), 1):
        values = (sequence, record, entry.delivery_id)
        statement = "INSERT INTO entries (id, record, delivery_id) VALUES (?, ?, ?) ON CONFLICT DO NOTHING"
        if connection.execute(statement, values).rowcount == 0:
            # There already; or, with another delivery's number, to be put at the end.
            connection.execute(statement, (None, record, entry.delivery_id))
        if rows % _ROWS_A_TRANSACTION == 0:
            connection.execute("COMMIT")
            connection.execute("BEGIN")
    connection.execute("COMMIT")


def _swap(path: Path, log: bytes) -> str:
    stamp = f"damaged-{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}"
    kept = path.with_name(f"{path.name}.{stamp}")
    log_path = path.with_name(path.name + "-wal")
    kept_log = path.with_name(f"{log_path.name}.{stamp}")
    if path.exists():
        path.rename(kept)
    if log_path.exists():
        log_path.rename(kept_log)
    elif log:
        # SQLite has removed it since.
        try:
            make_private_file(kept_log)
            kept_log.write_bytes(log)
        except OSError as error:
            _log.warning("spool_log_not_kept", error=error.strerror)
    _recovered(path).rename(path)
    sync_folder(path.parent)
    return kept.name


def _recovered(path: Path) -> Path:
    return path.with_name(path.name + ".recovered")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class _Mapped:
    """A file's bytes without reading them all; a missing or empty one has none."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._map: mmap.mmap | None = None

    def __enter__(self) -> Image:
        try:
            with self._path.open("rb") as file:
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (FileNotFoundError, ValueError):
            return b""
        return self._map

    def __exit__(self, *_: object) -> None:
        if self._map is not None:
            self._map.close()

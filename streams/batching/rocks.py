"""State on disk: one RocksDB folder per partition, through rocksdict.

A kill of the process loses nothing that was written (RocksDB's log is in the page cache). A power failure may lose the
newest writes, together with the offset that was written in the same batch, so recovery reads them again from the changelog.
What recovery writes is in no log, which halves its time: a kill loses the newest of it, and the offset with it, because RocksDB
keeps what it has in the order in which it was written. `settle` then has it on disk before anything goes to the log again.
"""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

import rocksdict

from streams.batching.due import DueAt, never
from streams.batching.errors import StateLockedError, StateUnavailableError
from streams.batching.rocks_index import FIRST_KEY, OFFSET_KEY, RESERVED, RocksIndex
from streams.batching.state import NO_OFFSET, StateSize, Write

# RocksDB's limits are per folder, and a worker has one folder per table and partition: Faust's defaults (2 GiB of cache
# and nine tenths of all file handles each) add up to more than the machine.
_WRITE_BUFFER_BYTES = 16 << 20
_WRITE_BUFFERS = 3
_OPEN_FILES = 128
_CACHE_BYTES = 128 << 20  # shared by all partitions of a table
_BLOOM_BITS = 10

_IO_ERROR = "IO error"
_NO_LOG = rocksdict.WriteOptions()
_NO_LOG.disable_wal = True
_LOG = rocksdict.WriteOptions()

_SIZES = ("estimate-num-keys", "total-sst-files-size", "cur-size-all-mem-tables")


class RocksState:
    """`PartitionedState` in RocksDB. The folder belongs to one process at a time.

    A partition whose disk refused once takes no more writes until it is opened anew, so it is closed then.

    Raises:
        StateLockedError: when another process has the partition open.
        StateUnavailableError: when the disk refuses; the same call may succeed later.
    """

    def __init__(self, folder: Path, due_at: DueAt = never) -> None:
        self._folder = folder
        self._due_at = due_at
        self._open: dict[int, Any] = {}
        self._indexes: dict[int, RocksIndex] = {}
        self._refused: set[int] = set()
        self._cache = rocksdict.Cache(_CACHE_BYTES)

    def get_many(self, partition: int, keys: Collection[bytes]) -> dict[bytes, bytes]:
        """Return the values of those of `keys` that exist."""
        wanted = list(keys)
        with self._disk(partition):
            values = self._partition(partition).get(wanted) if wanted else []
        return {key: value for key, value in zip(wanted, values, strict=True) if value is not None}

    def write(self, partition: int, writes: Iterable[Write], offset: int) -> None:
        """Apply the writes, their rows of the index and the changelog offset in one atomic write."""
        self._write(partition, dict(writes), offset, _LOG)

    def recover(self, partition: int, writes: Iterable[Write], offset: int) -> None:
        """Apply writes that were read from the changelog, without RocksDB's log."""
        self._write(partition, dict(writes), offset, _NO_LOG)

    def settle(self, partition: int) -> None:
        """Have on disk what was recovered."""
        with self._disk(partition):
            self._partition(partition).flush()

    def _write(self, partition: int, writes: dict[bytes, bytes | None], offset: int, options: Any) -> None:
        if any(key.startswith(RESERVED) for key in writes):
            message = "a table's key may not begin with the reserved zero byte"
            raise ValueError(message)
        batch = rocksdict.WriteBatch(raw_mode=True)
        for key, value in writes.items():
            if value is None:
                batch.delete(key)
            else:
                batch.put(key, value)
        batch.put(OFFSET_KEY, b"%d" % offset)
        with self._disk(partition):
            database, index = self._partition(partition), self._index(partition)
            rows = index.stage(batch, writes, offset)
            database.write(batch, options)
            index.staged(*rows)

    def due(self, partition: int, kind: int, until: int) -> Iterator[tuple[bytes, bytes]]:
        """Yield the keys and values that are due for this up to that time, in order of time, as far as they are indexed."""
        after: bytes | None = None
        while True:
            with self._disk(partition):
                index = self._index(partition)
                rows = index.due(kind, until, after)
                entries = index.still_due(rows)
            yield from entries
            if not rows:
                return
            after = rows[-1]

    def index_more(self, partition: int, entries: int) -> bool:
        """Look at so many more entries that are in no index yet; returns whether the index is complete."""
        with self._disk(partition):
            return self._index(partition).more(entries, self.offset(partition))

    def offset(self, partition: int) -> int:
        """Return the changelog offset the partition is complete up to, or `NO_OFFSET`."""
        with self._disk(partition):
            stored = self._partition(partition).get(OFFSET_KEY)
        return NO_OFFSET if stored is None else int(stored)

    def scan(self, partition: int) -> Iterator[tuple[bytes, bytes]]:
        """Yield all keys and values as they were when the scan began."""
        with self._disk(partition):
            yield from self._partition(partition).items(from_key=FIRST_KEY)

    def size(self, partition: int) -> StateSize:
        """Return an estimate, by what RocksDB keeps account of."""
        with self._disk(partition):
            database = self._partition(partition)
            entries, *sizes = (database.property_int_value(f"rocksdb.{name}") or 0 for name in _SIZES)
            entries -= self._index(partition).rows
        return StateSize(max(0, entries), sum(sizes))

    def release(self, partition: int) -> None:
        """Close the partition's folder, so that another process may open it."""
        database = self._open.pop(partition, None)
        self._indexes.pop(partition, None)
        if database is not None:
            with suppress(Exception) if partition in self._refused else nullcontext():
                database.close()

    def erase(self, partition: int) -> None:
        """Remove the partition's folder."""
        self.release(partition)
        shutil.rmtree(self._path(partition), ignore_errors=True)

    def close(self) -> None:
        """Close all folders."""
        for partition in list(self._open):
            self.release(partition)

    def _path(self, partition: int) -> Path:
        return self._folder / str(partition)

    def _index(self, partition: int) -> RocksIndex:
        self._partition(partition)
        return self._indexes[partition]

    def _partition(self, partition: int) -> Any:
        database = self._open.get(partition)
        if database is None:
            path = self._path(partition)
            path.mkdir(parents=True, exist_ok=True)
            try:
                database = rocksdict.Rdict(str(path), self._options())
            except Exception as error:
                if "lock" not in str(error).lower():
                    raise
                if partition in self._refused:
                    raise self._unavailable(path, "a scan still has it open") from error
                raise StateLockedError(
                    f"the state in {path} is open in another process",
                    hint="give each worker process a data folder of its own",
                ) from error
            self._open[partition] = database
            self._indexes[partition] = RocksIndex(database, self._due_at)
            self._refused.discard(partition)
        return database

    @contextmanager
    def _disk(self, partition: int) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            # rocksdict raises plain exceptions with RocksDB's words.
            if not (isinstance(error, OSError) or str(error).startswith(_IO_ERROR)):
                raise
            self._refused.add(partition)
            self.release(partition)
            raise self._unavailable(self._path(partition), str(error).rpartition(": ")[2]) from error

    def _unavailable(self, path: Path, reason: str) -> StateUnavailableError:
        return StateUnavailableError(f"the disk refuses the state in {path}: {reason}", hint="is it full, or read-only?")

    def _options(self) -> Any:
        options = rocksdict.Options(raw_mode=True)
        options.create_if_missing(True)  # noqa: FBT003 - rocksdict's signature
        options.set_max_open_files(_OPEN_FILES)
        options.set_write_buffer_size(_WRITE_BUFFER_BYTES)
        options.set_max_write_buffer_number(_WRITE_BUFFERS)
        options.set_keep_log_file_num(2)
        blocks = rocksdict.BlockBasedOptions()
        blocks.set_bloom_filter(_BLOOM_BITS, block_based=False)
        blocks.set_block_cache(self._cache)
        options.set_block_based_table_factory(blocks)
        return options

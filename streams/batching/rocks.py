"""State on disk: one RocksDB folder per partition, through rocksdict.

A kill of the process loses nothing that was written (RocksDB's log is in the page cache). A power failure may lose the
newest writes, together with the offset that was written in the same batch, so recovery reads them again from the changelog.
"""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

import rocksdict

from streams.batching.errors import StateLockedError, StateUnavailableError
from streams.batching.state import NO_OFFSET, StateSize, Write

OFFSET_KEY = b"\x00changelog-offset"
"""Reserved: no key of a table may be this."""

# RocksDB's limits are per folder, and a worker has one folder per table and partition: Faust's defaults (2 GiB of cache
# and nine tenths of all file handles each) add up to more than the machine.
_WRITE_BUFFER_BYTES = 16 << 20
_WRITE_BUFFERS = 3
_OPEN_FILES = 128
_CACHE_BYTES = 128 << 20  # shared by all partitions of a table
_BLOOM_BITS = 10

_IO_ERROR = "IO error"
_SIZES = ("estimate-num-keys", "total-sst-files-size", "cur-size-all-mem-tables")


class RocksState:
    """`PartitionedState` in RocksDB. The folder belongs to one process at a time.

    A partition whose disk refused once takes no more writes until it is opened anew, so it is closed then.

    Raises:
        StateLockedError: when another process has the partition open.
        StateUnavailableError: when the disk refuses; the same call may succeed later.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._open: dict[int, Any] = {}
        self._refused: set[int] = set()
        self._cache = rocksdict.Cache(_CACHE_BYTES)

    def get_many(self, partition: int, keys: Collection[bytes]) -> dict[bytes, bytes]:
        """Return the values of those of `keys` that exist."""
        wanted = list(keys)
        with self._disk(partition):
            values = self._partition(partition).get(wanted) if wanted else []
        return {key: value for key, value in zip(wanted, values, strict=True) if value is not None}

    def write(self, partition: int, writes: Iterable[Write], offset: int) -> None:
        """Apply the writes and the changelog offset in one atomic write."""
        batch = rocksdict.WriteBatch(raw_mode=True)
        for key, value in writes:
            if key == OFFSET_KEY:
                message = "a table's key may not be the reserved key of the changelog offset"
                raise ValueError(message)
            if value is None:
                batch.delete(key)
            else:
                batch.put(key, value)
        batch.put(OFFSET_KEY, b"%d" % offset)
        with self._disk(partition):
            self._partition(partition).write(batch)

    def offset(self, partition: int) -> int:
        """Return the changelog offset the partition is complete up to, or `NO_OFFSET`."""
        with self._disk(partition):
            stored = self._partition(partition).get(OFFSET_KEY)
        return NO_OFFSET if stored is None else int(stored)

    def scan(self, partition: int, after: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """Yield all keys and values as they were when the scan began; with `after`, greater keys only, in their order."""
        with self._disk(partition):
            for key, value in self._partition(partition).items(from_key=after or None):
                if key not in {OFFSET_KEY, after}:
                    yield key, value

    def size(self, partition: int) -> StateSize:
        """Return an estimate, by what RocksDB keeps account of."""
        with self._disk(partition):
            database = self._partition(partition)
            entries, *sizes = (database.property_int_value(f"rocksdb.{name}") or 0 for name in _SIZES)
        return StateSize(entries, sum(sizes))

    def release(self, partition: int) -> None:
        """Close the partition's folder, so that another process may open it."""
        database = self._open.pop(partition, None)
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

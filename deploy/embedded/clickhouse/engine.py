"""The typed border to chDB: one engine over one folder, any number of connections to it.

What the rest rests on, measured with chdb-core 26.9: connections are independent sessions (settings, database, temporary
tables), cost 0.3 ms to open, may be used from any thread one call at a time, release the GIL, and run in parallel. A
streaming insert parses while bytes arrive and writes nothing before its end when its blocks are squashed into one.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol, cast

import psutil

from deploy.embedded.clickhouse.confinement import FILE_FUNCTION, configuration, file_function
from deploy.embedded.clickhouse.exceptions import ClickHouseError, from_engine, without_formatter
from kybstream.errors import RunError

_MEBIBYTE: Final = 1024 * 1024
_MARK_CACHE_BYTES: Final = 128 * _MEBIBYTE
_MEMORY_SHARE: Final = 0.6  # of the machine's memory, for all queries together; beyond it a query fails, not the process


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a statement gave: its answer's bytes, and the counts that go into X-ClickHouse-Summary."""

    data: bytes = b""
    result_rows: int = 0
    read_rows: int = 0
    read_bytes: int = 0
    written_rows: int = 0
    written_bytes: int = 0
    elapsed_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Classification:
    """What a text would do, as the engine's parser sees it."""

    reads_only: bool
    statements: int  # 0: the text does not parse


class _NativeResult(Protocol):
    def bytes(self) -> bytes: ...
    def has_error(self) -> bool: ...
    def error_message(self) -> str: ...
    def rows_read(self) -> int: ...
    def storage_rows_read(self) -> int: ...
    def storage_bytes_read(self) -> int: ...
    def rows_written(self) -> int: ...
    def bytes_written(self) -> int: ...
    def elapsed(self) -> float: ...


class _NativeConnection(Protocol):
    def query(self, sql: bytes, output_format: str, *, params: dict[str, str]) -> _NativeResult: ...
    def send_query(self, sql: bytes, output_format: str, *, params: dict[str, str]) -> object: ...
    def streaming_fetch_result(self, handle: object) -> _NativeResult: ...
    def streaming_cancel_query(self, handle: object) -> None: ...
    def send_insert(self, sql: bytes, data_format: str) -> object: ...
    def insert_append(self, handle: object, data: bytes) -> None: ...
    def insert_done(self, handle: object) -> _NativeResult: ...
    def insert_cancel(self, handle: object) -> None: ...
    def classify_query(self, sql: bytes) -> dict[str, object]: ...
    def close(self) -> None: ...


class _NativeModule(Protocol):
    def connect(self, target: str) -> _NativeConnection: ...
    def create_function(self, name: str, function: Callable[[str], str], arguments: list[str], result: str) -> None: ...


class Connection:
    """One session of the engine. Not for two threads at once; every call blocks until the engine has answered.

    Every method raises ClickHouseError with the engine's own words.
    """

    def __init__(self, native: _NativeConnection, version: str) -> None:
        self._native = native
        self._version = version

    def classify(self, sql: bytes) -> Classification:
        """What the text would do, without running it."""
        try:
            found = self._native.classify_query(sql)
        except (RuntimeError, UnicodeDecodeError):
            return Classification(reads_only=False, statements=0)
        reads_only = getattr(found["query_class"], "name", "") == "READ_ONLY"
        return Classification(reads_only=reads_only, statements=cast("int", found["statement_count"]))

    def run(self, sql: bytes, output_format: str, parameters: Mapping[str, str] | None = None) -> Outcome:
        """Run a statement and return its whole answer in the format it names, else in `output_format`."""
        try:
            result = self._native.query(sql, output_format, params=dict(parameters or {}))
        except RuntimeError as error:
            raise from_engine(str(error), self._version) from None
        return _outcome(result, self._version)

    def formatted(self, sql: bytes) -> bytes:
        """One statement as the engine's formatter writes it: on one line, without comments, spaces as it sets them.

        Nothing runs. What does not parse, or is more than one statement, raises the engine's error.
        """
        literal = sql.replace(b"\\", b"\\\\").replace(b"'", b"\\'")
        try:
            return self.run(b"SELECT formatQuerySingleLine('" + literal + b"')", "TabSeparatedRaw").data
        except ClickHouseError as error:
            raise without_formatter(error) from None

    def stream(self, sql: bytes, output_format: str, parameters: Mapping[str, str]) -> Iterator[Outcome]:
        """Run a SELECT and yield its answer block by block; closing the iterator cancels the query."""
        try:
            handle = self._native.send_query(sql, output_format, params=dict(parameters))
        except RuntimeError as error:
            raise from_engine(str(error), self._version) from None
        finished = False
        try:
            while True:
                outcome = _outcome(self._fetch(handle), self._version)
                finished = outcome.result_rows == 0
                yield outcome
                if finished:
                    return
        except ClickHouseError:
            finished = True
            raise
        finally:
            if not finished:
                self._native.streaming_cancel_query(handle)

    def _fetch(self, handle: object) -> _NativeResult:
        try:
            return self._native.streaming_fetch_result(handle)
        except RuntimeError as error:
            raise from_engine(str(error), self._version) from None

    def insert(self, statement: bytes, data_format: str) -> Insert:
        """Begin an INSERT whose data follow; `statement` is without FORMAT and data."""
        try:
            handle = self._native.send_insert(statement, data_format)
        except RuntimeError as error:
            raise from_engine(str(error), self._version) from None
        return Insert(self._native, handle, self._version)

    def close(self) -> None:
        """Give the connection back; the engine stops with its last one."""
        self._native.close()


class Insert:
    """An INSERT under way: bytes in its format, then `finish`. Nothing is kept unless `finish` returned."""

    def __init__(self, native: _NativeConnection, handle: object, version: str) -> None:
        self._native = native
        self._handle = handle
        self._version = version
        self._open = True

    def append(self, data: bytes) -> None:
        """Give the engine the next bytes, cut anywhere."""
        try:
            self._native.insert_append(self._handle, data)
        except RuntimeError as error:
            raise from_engine(str(error), self._version) from None

    def finish(self) -> Outcome:
        """Commit; the rows are in the table when this returns."""
        self._open = False
        try:
            result = self._native.insert_done(self._handle)
        except RuntimeError as error:
            raise from_engine(str(error), self._version) from None
        return _outcome(result, self._version)

    def cancel(self) -> None:
        """Give the insert up, unless it is finished."""
        if self._open:
            self._open = False
            self._native.insert_cancel(self._handle)


class Engine:
    """chDB over one folder. A process can hold one."""

    def __init__(self, folder: Path) -> None:
        """Open the folder, made if it is not there.

        Raises:
            RunError: chDB is not installed, or cannot open the folder.
        """
        module = _native_module()
        options = {
            "max_server_memory_usage": int(psutil.virtual_memory().total * _MEMORY_SHARE),
            "mark_cache_size": _MARK_CACHE_BYTES,
        }
        if "?" in str(folder):
            raise RunError(f"the data folder {folder} has a question mark in its path", hint="chDB cannot open such a path")
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._module = module
        self._target = str(folder)
        self._opening = threading.Lock()
        self.version = ""
        self.timezone = ""
        try:
            with configuration() as path:
                given = {"config-file": path, **options}
                self._anchor = self._connect(self._target + "?" + "&".join(f"{name}={given[name]}" for name in given))
            module.create_function(FILE_FUNCTION, file_function, ["String"], "String")
            _keep_files_out_of_default(self._anchor)
            answer = self._anchor.run(b"SELECT version(), timezone()", "TabSeparated").data.decode()
        except (RuntimeError, ClickHouseError) as error:
            raise RunError(f"chDB cannot open the data folder {folder}: {error}") from None
        self.version, self.timezone = answer.rstrip("\n").split("\t")

    def connect(self) -> Connection:
        """A new connection with the engine's own settings."""
        with self._opening:
            return self._connect(self._target)

    def formatted(self, sql: bytes) -> bytes:
        """As `Connection.formatted`, on a connection whose settings nobody has changed."""
        connection = self.connect()
        try:
            return connection.formatted(sql)
        finally:
            connection.close()

    def _connect(self, target: str) -> Connection:
        return Connection(self._module.connect(target), self.version)

    def kill_queries(self) -> None:
        """Ask every running query to stop; returns at once. A finishing insert still finishes."""
        self._anchor.run(b"KILL QUERY WHERE 1 ASYNC", "Null")

    def close(self) -> None:
        """Close the engine; all other connections must be closed before."""
        self._anchor.close()


def _keep_files_out_of_default(connection: Connection) -> None:
    """Attach the database `default` anew: at each start it also shows the files of the current folder as tables."""
    found = connection.run(b"SELECT engine, uuid FROM system.databases WHERE name = 'default'", "TabSeparated").data.decode()
    engine, uuid = found.rstrip("\n").split("\t")
    if engine != "Atomic":
        connection.run(b"DETACH DATABASE default", "Null")
        connection.run(f"ATTACH DATABASE default UUID '{uuid}' ENGINE = Atomic".encode(), "Null")
        connection.run(b"USE default", "Null")


def _outcome(result: _NativeResult, version: str) -> Outcome:
    if result.has_error():
        raise from_engine(result.error_message(), version)
    return Outcome(
        data=result.bytes(),
        result_rows=result.rows_read(),
        read_rows=result.storage_rows_read(),
        read_bytes=result.storage_bytes_read(),
        written_rows=result.rows_written(),
        written_bytes=result.bytes_written(),
        elapsed_seconds=result.elapsed(),
    )


def _native_module() -> _NativeModule:
    try:
        from chdb import _chdb  # noqa: PLC0415 - 1.6 s and 300 MB, only for who opens it
    except ImportError:
        raise RunError(
            "the embedded ClickHouse needs the package chdb-core",
            hint="install it with: pip install 'kyb-stream[embedded]', or set clickhouse.url to a server",
        ) from None
    return cast("_NativeModule", _chdb)

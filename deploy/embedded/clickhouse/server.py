"""Runs the embedded server: folder lock, engine, HTTP, and an orderly end."""

from __future__ import annotations

import asyncio
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import structlog
from aiohttp import web

from deploy.embedded.clickhouse.access import Credentials
from deploy.embedded.clickhouse.engine import Engine
from deploy.embedded.clickhouse.exceptions import ClickHouseError
from deploy.embedded.clickhouse.service import Service
from deploy.embedded.clickhouse.sessions import SessionRegistry
from deploy.embedded.ports import require_free_port
from kybstream.errors import RunError
from kybstream.folder_lock import lock_folder

_log = structlog.get_logger(__name__)

_LOOPBACK: Final = {"127.0.0.1": socket.AF_INET, "localhost": socket.AF_INET, "::1": socket.AF_INET6}
_ENGINE_FOLDER: Final = "engine"
_THREADS: Final = 16  # statements at once; the engine itself uses as many threads as there are cores for each
_STOP_SECONDS: Final = 1.5  # for the answers under way
_LONGEST_URL_BYTES: Final = 1024 * 1024  # ClickHouse's http_max_uri_size
_READ_BUFFER_BYTES: Final = 512 * 1024
_BACKLOG: Final = 128


async def serve(
    *,
    data_dir: Path,
    port: int,
    host: str = "127.0.0.1",
    credentials: Credentials = Credentials(),  # noqa: B008 (immutable)
    ready: Callable[[int], None] | None = None,
) -> None:
    """Serve ClickHouse's HTTP interface until SIGTERM, SIGINT or cancellation; then stop within 3 seconds.

    Args:
        data_dir: Holds the data and a lock file; made if it is not there.
        port: 0 picks a free one.
        host: 127.0.0.1, ::1 or localhost.
        credentials: Who may ask.
        ready: Called with the port once requests are answered.

    Raises:
        RunError: The folder is in use by another process, the port is taken, the host is not of this machine alone, or
            chDB is missing or cannot open the folder.
    """
    with lock_folder(data_dir), _listening(host, port) as listener, _stop_signals() as stop:
        threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="chdb")
        loop = asyncio.get_running_loop()
        engine = await loop.run_in_executor(threads, Engine, data_dir / _ENGINE_FOLDER)
        sessions = SessionRegistry(engine)
        bound: int = listener.getsockname()[1]
        runner = web.ServerRunner(
            web.Server(
                Service(engine, sessions, threads, port=bound, credentials=credentials).handle,
                auto_decompress=False,
                max_line_size=_LONGEST_URL_BYTES,
                read_bufsize=_READ_BUFFER_BYTES,
                access_log=None,
            ),
            shutdown_timeout=_STOP_SECONDS,
        )
        try:
            await runner.setup()
            await web.SockSite(runner, listener, backlog=_BACKLOG).start()
            _log.info("clickhouse_listening", host=host, port=bound, version=engine.version)
            if ready is not None:
                ready(bound)
            await stop.wait()
        finally:
            await _stop(engine, sessions, runner, threads)


async def _stop(engine: Engine, sessions: SessionRegistry, runner: web.ServerRunner, threads: ThreadPoolExecutor) -> None:
    """End in the order that loses nothing: no new requests, running reads killed, inserts finished, engine closed."""
    loop = asyncio.get_running_loop()
    killing = loop.run_in_executor(None, _kill_queries, engine)
    await runner.cleanup()
    await killing
    threads.shutdown(wait=False, cancel_futures=True)
    await loop.run_in_executor(None, sessions.close)
    await loop.run_in_executor(None, engine.close)
    _log.info("clickhouse_stopped")


def _kill_queries(engine: Engine) -> None:
    try:
        engine.kill_queries()
    except ClickHouseError as error:
        _log.warning("kill_refused", code=error.code)


@contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    family = _LOOPBACK.get(host)
    if family is None:
        raise RunError(
            f"the embedded ClickHouse listens on this machine only, not on {host}",
            hint="run a ClickHouse server for others to connect to",
        )
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
            listener.listen(_BACKLOG)
        except OSError as error:
            require_free_port(host, port, "ClickHouse")  # says who has it
            raise RunError(f"cannot listen on port {port} of {host}: {error.strerror}") from None
        yield listener
    finally:
        listener.close()


@contextmanager
def _stop_signals() -> Iterator[asyncio.Event]:
    """An event that SIGTERM and SIGINT set; in a thread that gets no signals, only cancellation stops the server."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    signals = (signal.SIGTERM, signal.SIGINT) if threading.current_thread() is threading.main_thread() else ()
    for number in signals:
        loop.add_signal_handler(number, stop.set)
    try:
        yield stop
    finally:
        for number in signals:
            loop.remove_signal_handler(number)

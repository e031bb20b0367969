"""Start, stop, kill and start again: what was acknowledged stays, and a folder has one process."""

from __future__ import annotations

import itertools
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from clickhouse_connect.driver.exceptions import Error

from deploy.embedded.clickhouse.server import serve
from kybstream.errors import RunError
from tests.deploy.clickhouse.serving import Server, command

_ROWS = 100
_TABLE = """
    CREATE TABLE IF NOT EXISTS t (batch UInt64, a UInt64) ENGINE = MergeTree ORDER BY batch
    SETTINGS non_replicated_deduplication_window = 1000
"""


@pytest.fixture
def restartable(tmp_path: Path) -> Iterator[Server]:
    """A server of the test's own."""
    server = Server(tmp_path / "data")
    server.start()
    yield server
    server.stop()


def test_sigkill_loses_no_acknowledged_insert_and_keeps_no_half_one(restartable: Server) -> None:
    """Twice killed in the middle of inserts: every acknowledged batch is whole, any other is whole or absent."""
    acknowledged: list[int] = []
    batches = itertools.count()
    for _ in range(2):
        with restartable.client() as client:
            client.command(_TABLE)
        killer = threading.Timer(0.4, restartable.kill)
        with restartable.client(query_retries=0) as client:
            killer.start()
            try:
                for batch in batches:
                    client.insert(
                        "t", [[batch, n] for n in range(_ROWS)], ["batch", "a"], column_type_names=["UInt64", "UInt64"]
                    )
                    acknowledged.append(batch)
            except (Error, OSError):
                pass
        killer.join()
        restartable.start()
    with restartable.client() as client:
        counts = dict(client.query("SELECT batch, count() FROM t GROUP BY batch").result_rows)
    assert len(acknowledged) > 10
    assert set(counts.values()) == {_ROWS}
    assert set(acknowledged) <= set(counts)


def test_a_token_is_remembered_over_a_kill_and_a_restart(restartable: Server) -> None:
    """The same insert again after the server was killed, and after it was stopped, changes nothing."""
    with restartable.client() as client:
        client.command(_TABLE)
    for end in (signal.SIGKILL, signal.SIGTERM, None):
        with restartable.client() as client:
            client.raw_insert("t", insert_block=b"1,1\n1,2\n", fmt="CSV", settings={"insert_deduplication_token": "x"})
            assert client.query("SELECT count() FROM t").first_row == (2,)
        if end is not None:
            restartable.stop(end)
            restartable.start()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it_within_three_seconds(tmp_path: Path, number: signal.Signals) -> None:
    """Also with a query that would take a minute; the exit code is 0."""
    server = Server(tmp_path / "data")
    server.start()
    failed = threading.Event()

    def ask_for_long() -> None:
        try:
            with server.client(query_retries=0) as client:
                client.command(
                    "SELECT sum(sleepEachRow(0.5)) FROM numbers(120)",
                    settings={"max_block_size": 1, "function_sleep_max_microseconds_per_block": 10**9},
                )
        except (Error, OSError):
            failed.set()

    asking = threading.Thread(target=ask_for_long)
    asking.start()
    with server.client() as client:
        deadline = time.monotonic() + 10
        while client.command("SELECT count() FROM system.processes WHERE query LIKE '%sleepEachRow%'") != 2:
            assert time.monotonic() < deadline
    began = time.monotonic()
    assert server.stop(number) == 0
    assert time.monotonic() - began < 3
    asking.join(10)
    assert failed.is_set()


def test_a_folder_has_one_process(server: Server) -> None:
    """A second server on the same folder ends with 1 and one sentence that names the folder and the first one's id."""
    second = subprocess.run(command(server.data_dir), capture_output=True, text=True, timeout=30, check=False)
    assert second.returncode == 1
    assert str(server.data_dir) in second.stderr
    assert str(server.pid) in second.stderr
    assert "Traceback" not in second.stderr
    with server.client() as client:
        assert client.ping()


async def test_a_taken_port_and_a_public_address_are_refused_before_the_engine_starts(tmp_path: Path) -> None:
    """Each is one clear RunError."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(RunError, match=str(port)):
            await serve(data_dir=tmp_path, port=port)
    with pytest.raises(RunError, match=r"0\.0\.0\.0"):
        await serve(data_dir=tmp_path, port=0, host="0.0.0.0")


def test_idle_it_needs_less_than_500_mib(server: Server) -> None:
    """Resident memory after a start and a query."""
    with server.client() as client:
        client.command("SELECT 1")
    assert psutil.Process(server.pid).memory_info().rss < 500 * 1024 * 1024

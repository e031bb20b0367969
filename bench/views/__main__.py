"""`python -m bench.views`: how fast each view answers, ten times each, on tables of 2 million cases and 10 million events.

The server is the embedded one, a process of its own, on all cores of the machine (two, for the figures of docs/performance.md).
The query runs there whole and its answer is thrown away (FORMAT Null), so that the reader's speed is not in it.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import quantiles

import aiohttp
import msgspec
import psutil

from bench.views.filling import Size, statements
from bench.views.questions import Question, questions
from deploy.embedded.clickhouse.child import clickhouse_child, clickhouse_url
from deploy.embedded.ports import free_port
from deploy.embedded.supervisor import Supervisor
from kybstream.errors import KybStreamError, RunError
from kybstream.settings import ClickHouseSettings
from sinks.migrate import migrate

_DATABASE = "kyb"
_STATEMENT_SECONDS = 600.0
_AIM_SECONDS = 1.0


class Server:
    """The embedded server over HTTP, and what it costs.

    Args:
        url: Where it listens.
        session: To ask with.
        process: The server's.
    """

    def __init__(self, url: str, session: aiohttp.ClientSession, process: psutil.Process) -> None:
        self._url = url
        self._session = session
        self._process = process

    async def ask(self, sql: str, *, settings: dict[str, str] | None = None) -> tuple[str, int]:
        """The answer, and how many rows were read for it.

        Raises:
            RunError: The server refuses the statement.
        """
        names = {"database": _DATABASE, **(settings or {})}
        async with self._session.post(self._url, data=sql.encode(), params=names) as answer:
            text = await answer.text()
            if answer.status != 200:  # noqa: PLR2004
                raise RunError(f"{text[:500]} in {sql[:80]!r}")
            summary = msgspec.json.decode(answer.headers.get("X-ClickHouse-Summary", "{}"), type=dict[str, str])
        return text, int(summary.get("read_rows", "0"))

    def cpu_seconds(self) -> float:
        """User and system time of the server so far."""
        times = self._process.cpu_times()
        return float(times.user + times.system)

    def peak_mib(self) -> int:
        """The most memory it has held, in MiB."""
        for line in Path(f"/proc/{self._process.pid}/status").read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) // 1024
        return 0

    def forget_peak(self) -> None:
        """Lets the peak begin anew (Linux)."""
        Path(f"/proc/{self._process.pid}/clear_refs").write_text("5", encoding="utf-8")


async def fill(server: Server, clickhouse: ClickHouseSettings, size: Size) -> None:
    """Migrates an empty database and fills it as the sink would, derived tables along with it."""
    await migrate(clickhouse)
    for statement in statements(_DATABASE, size):
        await server.ask(statement, settings={"max_insert_threads": "1"})


async def settle(server: Server) -> None:
    """Waits until ClickHouse has merged what it wants to merge; it goes on answering meanwhile, but not alone."""
    deadline = time.monotonic() + _STATEMENT_SECONDS
    while time.monotonic() < deadline:
        running, _ = await server.ask("SELECT count() FROM system.merges FORMAT TSV")
        if running.strip() == "0":
            return
        await asyncio.sleep(1)


async def measure(server: Server, question: Question, rounds: int, known: dict[str, str]) -> str:
    """One row of the table: p50, p95, CPU, rows read, memory."""
    sql = question.sql.format(**known) + " FORMAT Null"
    seconds: list[float] = []
    rows = 0
    server.forget_peak()
    before = server.peak_mib()
    cpu = server.cpu_seconds()
    for _ in range(rounds):
        began = time.perf_counter()
        _, rows = await server.ask(sql)
        seconds.append(time.perf_counter() - began)
    cpu = (server.cpu_seconds() - cpu) / rounds
    p50, p95 = _percentile(seconds, 50), _percentile(seconds, 95)
    met = "" if p95 < _AIM_SECONDS else " **over**"
    memory = max(0, server.peak_mib() - before)
    return f"| {question.view} | {question.name} | {p50:.2f} | {p95:.2f}{met} | {cpu:.2f} | {rows:,} | {memory:,} |"


def _percentile(values: Sequence[float], share: int) -> float:
    return values[0] if len(values) == 1 else quantiles(values, n=100, method="inclusive")[share - 1]


async def _explain(server: Server, question: Question, known: dict[str, str]) -> str:
    text, _ = await server.ask("EXPLAIN indexes = 1 " + question.sql.format(**known) + " FORMAT TSVRaw")
    return text


async def run(arguments: argparse.Namespace) -> int:
    """Fills, measures and prints; the exit code."""
    port = free_port()
    url = clickhouse_url(port)
    with tempfile.TemporaryDirectory(prefix="kyb-stream-bench-views-") as temporary:
        folder = arguments.data_dir or Path(temporary)
        child = clickhouse_child(folder / "data", port, log_path=folder / "server.log")
        async with (
            Supervisor() as supervisor,
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(_STATEMENT_SECONDS)) as session,
        ):
            await supervisor.start(child)
            server = Server(url, session, _listener(port))
            clickhouse = ClickHouseSettings(url=url, database=_DATABASE)
            if arguments.keep:
                await migrate(clickhouse)
            else:
                began = time.perf_counter()
                today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
                await fill(server, clickhouse, Size(arguments.cases, today))
                print(f"filled in {time.perf_counter() - began:.0f} s\n", file=sys.stderr)
            await settle(server)
            await _report(server, arguments)
    return 0


async def _report(server: Server, arguments: argparse.Namespace) -> None:
    counts, _ = await server.ask(
        "SELECT table, sum(rows), count() FROM system.parts WHERE database = currentDatabase() AND active "
        "GROUP BY table FORMAT TSV"
    )
    for line in sorted(counts.splitlines()):
        name, rows, parts = line.split("\t")
        print(f"{name}: {int(rows):,} rows in {parts} parts")
    case_id, _ = await server.ask(
        "SELECT case_id FROM cases WHERE case_id NOT LIKE 'kyc:%' ORDER BY cityHash64(case_id) LIMIT 1 FORMAT TSV"
    )
    known = {"case_id": case_id.strip(), "day": f"{datetime.now(UTC) - timedelta(days=9):%Y-%m-%d}"}
    print(f"\n{os.cpu_count()} cores, Python {platform.python_version()}, {arguments.rounds} runs each\n")
    print("| view | asked | p50 s | p95 s | CPU s | rows read | MiB |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for question in questions():
        if arguments.only and question.view not in arguments.only:
            continue
        print(await measure(server, question, arguments.rounds, known), flush=True)
        if arguments.explain:
            print(await _explain(server, question, known))


def _listener(port: int) -> psutil.Process:
    """The process that listens at a port: the supervisor's child, or a child of it."""
    for process in psutil.Process().children(recursive=True):
        if any(each.laddr.port == port for each in process.net_connections(kind="tcp") if each.status == psutil.CONN_LISTEN):
            return process
    raise RunError("the embedded server does not listen")


def main() -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.views", description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--cases", type=int, default=2_000_000, help="there are five times as many events")
    parser.add_argument("--rounds", type=int, default=10, help="how often each query runs")
    parser.add_argument("--only", nargs="*", help="views, instead of all")
    parser.add_argument("--explain", action="store_true", help="print what EXPLAIN says of each query, too")
    parser.add_argument("--data-dir", type=Path, help="where the tables lie and stay; a temporary folder unless given")
    parser.add_argument("--keep", action="store_true", help="measure what lies in --data-dir instead of filling it")
    try:
        return asyncio.run(run(parser.parse_args()))
    except KybStreamError as error:
        print(f"{error.message}{f'; {error.hint}' if error.hint else ''}", file=sys.stderr)
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main())

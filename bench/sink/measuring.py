"""One run of the sink: a fresh process in a fresh group on a fresh database, watched from outside by how its table grows."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from deploy.embedded.configuration import write_configuration
from kybstream.errors import RunError
from kybstream.settings import ClickHouseSettings
from sinks.clickhouse import Client, connected, in_our_words

_POLL_SECONDS = 0.02
_STILL_SECONDS = 60.0
_STOP_SECONDS = 15.0


@dataclass(frozen=True)
class Measured:
    """What a run came to.

    Attributes:
        per_second: Rows a second, from the first that could be queried to the last; records of what only consumes.
        cpu_us: CPU time of the process, a row, user and system.
        clickhouse_us: The same of the ClickHouse server; None of what only consumes.
        kafka_us: The same of the broker.
    """

    per_second: float
    cpu_us: float
    clickhouse_us: float | None
    kafka_us: float


@dataclass(frozen=True)
class Servers:
    """The processes beside."""

    kafka: psutil.Process
    clickhouse: psutil.Process

    def cpu(self) -> tuple[float, float]:
        """CPU seconds of Kafka and of ClickHouse up to now."""
        return _cpu(self.kafka), _cpu(self.clickhouse)


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


async def run_reading(servers: Servers, arguments: Sequence[str], *, inserts: bool) -> Measured:
    """One run of `bench.sink.reading`.

    Raises:
        RunError: It failed.
    """
    before = servers.cpu()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.sink.reading", *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await process.communicate()
    if process.returncode:
        raise RunError(f"bench.sink.reading failed: {err.decode(errors='replace')[-500:]}")
    said = json.loads(out)
    kafka, clickhouse = (after - was for after, was in zip(servers.cpu(), before, strict=True))
    records = said["records"]
    return Measured(
        records / said["seconds"],
        said["cpu_seconds"] / records * 1e6,
        clickhouse / records * 1e6 if inserts else None,
        kafka / records * 1e6,
    )


@dataclass(frozen=True)
class Sink:
    """A run of the sink.

    Attributes:
        values: Its configuration.
        clickhouse: Of the configuration; the database is migrated and empty.
        table: What is watched.
        records: How many rows it must have in the end.
        folder: For configuration and log.
    """

    values: dict[str, object]
    clickhouse: ClickHouseSettings
    table: str
    records: int
    folder: Path

    @property
    def log(self) -> Path:
        """What it says goes there."""
        return self.folder / f"{self.clickhouse.database}.log"

    def start(self) -> psutil.Process:
        """Starts `kyb-stream sink`, as it is."""
        config = self.log.with_suffix(".toml")
        write_configuration(config, self.values, comment="of one run")
        command = [sys.executable, "-m", "kybstream.cli", "sink", "--config", str(config)]
        with self.log.open("wb") as said:
            return psutil.Process(subprocess.Popen(command, stdout=said, stderr=said).pid)


async def run_sink(servers: Servers, sink: Sink) -> Measured:
    """One run.

    Raises:
        RunError: It ended, or nothing landed any more, or too much.
    """
    process = sink.start()
    try:
        async with connected(sink.clickhouse) as client:
            return await _watched(servers, process, client, f"{sink.clickhouse.database}.{sink.table}", sink.records)
    except RunError as error:
        raise RunError(f"{error.message}: {sink.log.read_text(errors='replace')[-500:]}") from None
    finally:
        await asyncio.to_thread(_end, process)


async def _watched(servers: Servers, process: psutil.Process, client: Client, table: str, records: int) -> Measured:
    first: tuple[int, float, float, tuple[float, float]] | None = None
    seen, moved_at = 0, time.perf_counter()
    while True:
        if not process.is_running() or process.status() == psutil.STATUS_ZOMBIE:
            raise RunError("the sink ended")
        rows, now = await _count(client, table), time.perf_counter()
        if rows > records:
            raise RunError(f"{rows} rows of {records} records")
        if rows > seen:
            seen, moved_at = rows, now
            first = first or (rows, now, _cpu(process), servers.cpu())
        if rows == records and first is not None:
            done = rows - first[0]
            if not done:
                raise RunError("all rows came at once: more records are needed")
            kafka, clickhouse = (after - was for after, was in zip(servers.cpu(), first[3], strict=True))
            spent = _cpu(process) - first[2]
            return Measured(done / (now - first[1]), *(each / done * 1e6 for each in (spent, clickhouse, kafka)))
        if now - moved_at > _STILL_SECONDS:
            raise RunError(f"nothing landed any more after {rows} rows of {records}")
        await asyncio.sleep(_POLL_SECONDS)


async def _count(client: Client, table: str) -> int:
    with in_our_words(ClickHouseSettings()):
        result = await client.query(f"SELECT count() FROM {table}")  # noqa: S608 (our own names)
    return int(result.result_rows[0][0])


def _end(process: psutil.Process) -> None:
    if process.is_running():
        process.terminate()
    _gone, alive = psutil.wait_procs([process], timeout=_STOP_SECONDS)
    for each in alive:
        each.kill()
    psutil.wait_procs(alive, timeout=_STOP_SECONDS)

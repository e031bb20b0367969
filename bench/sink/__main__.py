"""Rows a second from a filled topic into ClickHouse: a real Apache Kafka, the embedded ClickHouse server and one sink process.

    consume   plain aiokafka that reads the topic and does nothing else: the limit
    rows      plain aiokafka, each record decoded, inserted as rows by clickhouse-connect: no offsets, no tokens
    sink      `kyb-stream sink` as it is

for small and for large records, all on this machine. What is compared is measured in turn and the turns are repeated, so that
whatever else the machine does falls on all alike; the median round counts.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import secrets
import statistics
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

import psutil

from bench.sink.filling import KINDS, Kind
from bench.sink.measuring import Measured, Servers, Sink, run_reading, run_sink
from bench.streams.filling import PARTITIONS, Topics
from deploy.embedded.apache_kafka import KafkaNode
from deploy.embedded.clickhouse.child import clickhouse_child, clickhouse_url
from deploy.embedded.ports import free_port
from deploy.embedded.supervisor import Supervisor
from kybstream.errors import KybStreamError, RunError
from kybstream.kafka import ensure_topics
from kybstream.settings import ClickHouseSettings, KafkaSettings
from kybstream.telemetry import configure_logging
from schemas.topics import ALL_TOPICS
from sinks.migrate import migrate

WAYS = ("consume", "rows", "sink")
_NAMES = {"consume": "plain aiokafka, consuming alone", "rows": "decoded, inserted row by row", "sink": "kyb-stream sink"}

Line = tuple[Kind, str]
"""What is landed, and how."""


class Bench:
    """Measures between one Kafka node and one ClickHouse server.

    Args:
        kafka: The node, running.
        clickhouse_url: Of the server, running.
        servers: Their processes.
        scratch: A folder of its own.
        records: How many of each kind.
        headers: Whether records have the headers that the worker gives them.
    """

    def __init__(
        self, kafka: KafkaNode, clickhouse_url: str, servers: Servers, scratch: Path, *, records: int, headers: bool
    ) -> None:
        self._kafka = kafka
        self._url = clickhouse_url
        self._servers = servers
        self._scratch = scratch
        self._records = records
        self._headers = headers

    async def prepare(self, kind: Kind) -> None:
        """Makes the topics that a sink needs, and fills the one that is measured."""
        prefix = self._prefix(kind)
        settings = KafkaSettings(bootstrap_servers=self._kafka.bootstrap_servers, partitions=PARTITIONS)
        await ensure_topics(settings, {prefix + topic.suffix: topic.config(settings) for topic in ALL_TOPICS})
        rows = kind.rows(self._records)
        bare = ((key, value, ()) for key, value, _ in rows)
        await Topics(self._kafka.bootstrap_servers).fill(prefix + kind.topic, rows if self._headers else bare)

    async def measure(self, kind: Kind, way: str) -> Measured:
        """One run.

        Raises:
            RunError: It did not come to its end.
        """
        database = f"bench_{kind.letter}_{secrets.token_hex(4)}"
        clickhouse = ClickHouseSettings(url=self._url, database=database)
        reading: list[str] = [way, self._kafka.bootstrap_servers, self._prefix(kind) + kind.topic, str(self._records)]
        if way == "consume":
            return await run_reading(self._servers, reading, inserts=False)
        await migrate(clickhouse)
        if way == "rows":
            return await run_reading(self._servers, [*reading, self._url, database, kind.letter], inserts=True)
        values: dict[str, object] = {
            "kafka": {"bootstrap_servers": self._kafka.bootstrap_servers, "topic_prefix": self._prefix(kind)},
            "clickhouse": {"url": self._url, "database": database},
            "sink": {"group": database},
        }
        return await run_sink(self._servers, Sink(values, clickhouse, kind.table, self._records, self._scratch))

    @staticmethod
    def _prefix(kind: Kind) -> str:
        return f"{kind.letter}."


def main(arguments: list[str]) -> int:
    """Runs the benchmark; returns the exit code."""
    letters = [each.letter for each in KINDS]
    parser = argparse.ArgumentParser(prog="python -m bench.sink", description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--records", type=int, default=1_000_000, help="of each kind")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=letters, default=letters, help="kinds of records")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--headers", action="store_true", help="with the headers that the worker gives, 180 bytes")
    options = parser.parse_args(arguments)
    configure_logging(events=False)
    try:
        with tempfile.TemporaryDirectory(prefix="kyb-stream-bench-") as folder:
            asyncio.run(_run(options, Path(folder)))
    except KybStreamError as error:
        print(f"error: {error}", file=sys.stderr)
        if error.hint:
            print(error.hint, file=sys.stderr)
        return 1
    return 0


async def _run(options: argparse.Namespace, scratch: Path) -> None:
    kinds = [each for each in KINDS if each.letter in options.only]
    node = KafkaNode(scratch / "kafka", free_port(), free_port())
    port = free_port()
    url = clickhouse_url(port)
    server = clickhouse_child(scratch / "clickhouse", port, log_path=scratch / "clickhouse.log")
    await node.start()
    try:
        async with Supervisor() as supervisor:
            await supervisor.start(server)
            if node.pid is None:
                raise RunError("Kafka ended")
            servers = Servers(psutil.Process(node.pid), psutil.Process(supervisor.pids["clickhouse"]))
            bench = Bench(node, url, servers, scratch, records=options.records, headers=options.headers)
            found: dict[Line, list[Measured]] = defaultdict(list)
            for kind in kinds:
                await bench.prepare(kind)
                for _ in range(options.rounds):
                    for way in options.ways:
                        run = await bench.measure(kind, way)
                        found[kind, way].append(run)
                        print(f"{kind.letter} {way}: {run.per_second:,.0f}/s {run.cpu_us:.1f} us", file=sys.stderr)
    finally:
        await node.kill()
    _report(options, found)


def _report(options: argparse.Namespace, found: dict[Line, list[Measured]]) -> None:
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, one Apache Kafka node and the "
        f"embedded ClickHouse server on the same cores\n{options.records:,} records in {PARTITIONS} partitions, "
        f"{'with' if options.headers else 'without'} headers; median of {options.rounds} rounds\n"
    )
    print("| records | | rows/s | of consuming | CPU us/row | of ClickHouse | of Kafka |\n| --- " + "| --- " * 6 + "|")
    middle = {line: statistics.median(run.per_second for run in runs) for line, runs in found.items()}
    for (kind, way), rate in middle.items():
        limit = middle.get((kind, "consume"))
        run = sorted(found[kind, way], key=lambda run: run.per_second)[len(found[kind, way]) // 2]
        cells = (
            kind.name,
            f"{way}: {_NAMES[way]}",
            f"{rate:,.0f}",
            f"{rate / limit:.0%}" if limit else "",
            f"{run.cpu_us:.1f}",
            "" if run.clickhouse_us is None else f"{run.clickhouse_us:.1f}",
            f"{run.kafka_us:.1f}",
        )
        print(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

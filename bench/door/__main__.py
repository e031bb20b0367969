"""Requests a second and percentiles of the ingress, beside bare aiohttp and on a real Apache Kafka, all on this machine.

    a   aiohttp's low-level server: reads the body and sends it back
    a'  the same through aiohttp's application and router
    b   the ingress, scheme `none`, bodies in clear
    c   the ingress, HMAC-SHA256 and encryption

each in one process and in two that share the port, at 32, 64 and 128 connections. What is compared is measured in turn and
the turns are repeated, so that whatever else the machine does falls on all alike; the median round counts. At the end, (c)
at 80 % of its own highest rate, with requests at random moments.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import statistics
import sys
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.door.servers import KINDS, SECRET, Kind, Server, running
from bench.door.wrk import Load, require_wrk, run_wrk, signed_bodies
from deploy.embedded.apache_kafka import KafkaNode
from deploy.embedded.ports import free_port
from kybstream.errors import KybStreamError, RunError
from kybstream.kafka import ensure_topics
from kybstream.settings import KafkaSettings
from schemas.topics import ALL_TOPICS

CONNECTIONS = (32, 64, 128)
PACED_CONNECTIONS = 64
PACED_SHARE = 0.8
TRIES = 5
WARM_UP_SECONDS = 2.0
WARM_UP_CONNECTIONS = 64
_AUTHENTIC = KINDS[-1]


@dataclass(frozen=True)
class Measured:
    """A run, and what the server's processes spent on it."""

    load: Load
    cpu_us: float


class Bench:
    """Measures against one Kafka node.

    Args:
        bootstrap: Of the node.
        scratch: A folder of its own.
        seconds: Of each run.
    """

    def __init__(self, bootstrap: str, scratch: Path, seconds: float) -> None:
        self._bootstrap = bootstrap
        self._scratch = scratch
        self._seconds = seconds
        self._bodies = signed_bodies(SECRET.encode())

    async def measure(self, kind: Kind, processes: int, connections: Sequence[int]) -> dict[int, Measured]:
        """One start of a server, and one run for each number of connections.

        Raises:
            RunError: It does not start, or it answered a request with anything but 2xx.
        """
        found = {}
        async with running(kind, self._scratch, processes, self._bootstrap) as server:
            await self._load(server, WARM_UP_CONNECTIONS, WARM_UP_SECONDS)
            for each in connections:
                before = server.cpu_seconds()
                load = await self._load(server, each)
                spent = server.cpu_seconds() - before
                _require_clean(load, kind)
                found[each] = Measured(load, spent / (load.per_second * self._seconds) * 1e6)
        return found

    async def paced(self, kind: Kind, processes: int) -> tuple[float, Load]:
        """(The share of its highest rate that was reached, what was seen) when requests come at random moments.

        The pause between requests is found by trying: wrk knows pauses, not rates.
        """
        async with running(kind, self._scratch, processes, self._bootstrap) as server:
            await self._load(server, PACED_CONNECTIONS, WARM_UP_SECONDS)
            most = (await self._load(server, PACED_CONNECTIONS)).per_second
            wanted = most * PACED_SHARE
            pause_ms = 2.0
            for _ in range(TRIES):
                tried = await self._load(server, PACED_CONNECTIONS, WARM_UP_SECONDS, pause_ms)
                # A connection's round is its pause and the answer: what is missing to the wanted rate is pause.
                missing_ms = (PACED_CONNECTIONS / wanted - PACED_CONNECTIONS / tried.per_second) * 1e3
                pause_ms = max(0.1, pause_ms + missing_ms)
            load = await self._load(server, PACED_CONNECTIONS, pause_ms=pause_ms)
            _require_clean(load, kind)
            return load.per_second / most, load

    async def _load(self, server: Server, connections: int, seconds: float | None = None, pause_ms: float = 0.0) -> Load:
        return await asyncio.to_thread(
            run_wrk,
            server.url,
            self._bodies,
            self._scratch,
            connections=connections,
            seconds=seconds or self._seconds,
            pause_ms=pause_ms,
        )


def _require_clean(load: Load, kind: Kind) -> None:
    if load.refused or load.failed:
        raise RunError(f"{kind.name}: {load.refused} refused, {load.failed} failed: these are not figures of a working server")


def main(arguments: list[str]) -> int:
    """Runs the benchmark; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.door", description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seconds", type=float, default=8.0, help="of each run")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--kinds", nargs="+", default=[kind.letter for kind in KINDS])
    parser.add_argument("--connections", type=int, nargs="+", default=list(CONNECTIONS))
    parser.add_argument("--no-paced", action="store_true", help="leave out the run at 80 %% of the highest rate")
    options = parser.parse_args(arguments)
    try:
        require_wrk()
        with tempfile.TemporaryDirectory(prefix="kyb-stream-bench-") as folder:
            asyncio.run(_run(options, Path(folder)))
    except KybStreamError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


async def _run(options: argparse.Namespace, scratch: Path) -> None:
    node = KafkaNode(scratch / "kafka", free_port(), free_port())
    await node.start()
    try:
        kafka = KafkaSettings(bootstrap_servers=node.bootstrap_servers)
        await ensure_topics(kafka, {kafka.topic_prefix + topic.suffix: topic.config(kafka) for topic in ALL_TOPICS})
        bench = Bench(node.bootstrap_servers, scratch, options.seconds)
        print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, one Apache Kafka node beside")
        await _report(bench, options)
    finally:
        await node.kill()


async def _report(bench: Bench, options: argparse.Namespace) -> None:
    kinds = [kind for kind in KINDS if kind.letter in options.kinds]
    for processes in options.processes:
        found: dict[tuple[Kind, int], list[Measured]] = defaultdict(list)
        for _ in range(options.rounds):
            for kind in kinds:
                for connections, measured in (await bench.measure(kind, processes, options.connections)).items():
                    found[kind, connections].append(measured)
        print(f"\n{processes} process{'es' if processes > 1 else ''}")
        print("| | connections | req/s | of (a) | CPU us/req | p50 ms | p99 ms | p99.9 ms |\n| --- " + "| --- " * 7 + "|")
        for connections in options.connections:
            limit = _rate(found[KINDS[0], connections])
            for kind in kinds:
                print(_line(kind, connections, found[kind, connections], limit))
    if not options.no_paced:
        for processes in options.processes:
            share, load = await bench.paced(_AUTHENTIC, processes)
            print(
                f"\n(c) {processes} process(es), random moments, {load.per_second:,.0f} req/s = {share:.0%} of its highest: "
                f"p50 {load.p50:.1f}, p99 {load.p99:.1f}, p99.9 {load.p999:.1f} ms"
            )


def _rate(runs: list[Measured]) -> float:
    return statistics.median(run.load.per_second for run in runs) if runs else 0.0


def _line(kind: Kind, connections: int, runs: list[Measured], limit: float) -> str:
    rate = _rate(runs)
    middle = sorted(runs, key=lambda run: run.load.per_second)[len(runs) // 2]
    load = middle.load
    share = f"{rate / limit:.0%}" if limit else ""
    return (
        f"| ({kind.letter}) {kind.name} | {connections} | {rate:,.0f} | {share} | {middle.cpu_us:.0f} "
        f"| {load.p50:.1f} | {load.p99:.1f} | {load.p999:.1f} |"
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

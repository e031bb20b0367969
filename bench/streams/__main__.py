"""Records a second and CPU a record of the batch plumbing and the worker, on a real Apache Kafka beside, all on this machine.

    limit*   plain aiokafka: consumes and produces the same bytes in batches
    dedupe   a minimal agent on `streams.batching` with RocksDB state: forwards the first record of each id
    quix     the same in quixstreams, at least once, with RocksDB state
    intake   the worker's intake alone: decrypts, parses, fingerprints, deduplicates; three Avro records for a new delivery
    worker   `kyb-stream worker` as it is, intake and cases; done when the last case is told
    cases    the worker's cases alone

each in one process and in two. What is compared is measured in turn and the turns are repeated, so that whatever else the
machine does falls on all alike; the median round counts.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import os
import platform
import secrets
import statistics
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

from bench.streams.contestants import CASES_PREFIX, CONTESTANTS, JSON_SOURCE, RAW_PREFIX, Contestant, Setting
from bench.streams.environment import QUIXSTREAMS_VERSION, peer_python
from bench.streams.filling import DUPLICATES_IN, PARTITIONS, RECORD_BYTES, Topics, case_events, json_records, raw_deliveries
from bench.streams.measuring import Measured, measure
from deploy.embedded.apache_kafka import KafkaNode
from deploy.embedded.configuration import BODY_KEY, new_configuration, write_configuration
from deploy.embedded.ports import free_port
from kybstream.encryption import BodyEncryptor
from kybstream.errors import KybStreamError, RunError
from kybstream.kafka import ensure_topics
from kybstream.settings import load_settings
from schemas.topics import ALL_TOPICS, CASE_EVENTS, RAW
from streams.worker import changelog_topics

JOIN_MS = 4_000
"""How long a new group waits for members: two processes then get their halves at once, not one after the other."""

Line = tuple[Contestant, int]
"""Who, in how many processes."""


class Bench:
    """Measures against one Kafka node.

    Args:
        bootstrap: Of the node.
        scratch: A folder of its own.
        records: How many JSON records.
        deliveries: How many raw deliveries, and how many case events.
        peer: The Python that has quixstreams, if there is one.
    """

    def __init__(self, bootstrap: str, scratch: Path, *, records: int, deliveries: int, peer: Path | None) -> None:
        self._bootstrap = bootstrap
        self._scratch = scratch
        self._topics = Topics(bootstrap)
        self._counts = {JSON_SOURCE: records, RAW_PREFIX + RAW: deliveries, CASES_PREFIX + CASE_EVENTS: deliveries}
        self._peer = peer
        self._key = secrets.token_bytes(32)
        self._configuration = new_configuration(bootstrap_servers=bootstrap, clickhouse_port=1, ingress_port=0)
        self._configuration["encryption"] = {"keys": [{"id": BODY_KEY, "key": base64.b64encode(self._key).decode()}]}

    async def prepare(self, sources: set[str]) -> None:
        """Fills the topics that are needed."""
        await self._topics.renew(prefix + topic.suffix for prefix in (RAW_PREFIX, CASES_PREFIX) for topic in ALL_TOPICS)
        await self._topics.renew([JSON_SOURCE])
        for source in sources:
            count = self._counts[source]
            if source == JSON_SOURCE:
                rows = json_records(count)
            elif source.endswith(RAW):
                rows = raw_deliveries(count, BodyEncryptor(BODY_KEY, self._key))
            else:
                rows = case_events(count)
            await self._topics.fill(source, rows)

    async def measure(self, contestant: Contestant, processes: int) -> Measured:
        """One run.

        Raises:
            RunError: It did not come to its end.
        """
        group = f"{contestant.letter}-{secrets.token_hex(4)}"
        count = self._counts[contestant.source]
        made = contestant.made(count)
        await self._topics.renew(made)
        settings = [self._setting(contestant, group, number) for number in range(processes)]
        # As `kyb-stream migrate` makes them: the worker makes none.
        ours = load_settings(settings[0].config)
        await ensure_topics(ours.kafka, changelog_topics(ours))
        commands = [contestant.command(each) for each in settings]
        try:
            return await measure(self._bootstrap, commands, self._scratch / f"{group}.log", count, made)
        except RunError as error:
            raise RunError(f"{contestant.letter}: {error.message}", hint=error.hint) from None

    def _setting(self, contestant: Contestant, group: str, number: int) -> Setting:
        folder = self._scratch / f"{group}-{number}"
        config = folder.with_suffix(".toml")
        kafka = {"bootstrap_servers": self._bootstrap, "topic_prefix": contestant.prefix, "partitions": PARTITIONS}
        worker = {"group": group, "data_dir": str(folder)}
        write_configuration(config, self._configuration | {"kafka": kafka, "worker": worker}, comment="of one run")
        return Setting(self._bootstrap, group, folder, config, self._peer)


def main(arguments: list[str]) -> int:
    """Runs the benchmark; returns the exit code."""
    letters = [each.letter for each in CONTESTANTS]
    parser = argparse.ArgumentParser(prog="python -m bench.streams", description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--records", type=int, default=400_000, help="JSON records")
    parser.add_argument("--deliveries", type=int, default=100_000, help="raw deliveries, and as many case events")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--only", nargs="+", choices=letters, default=letters)
    options = parser.parse_args(arguments)
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
    contestants = [each for each in CONTESTANTS if each.letter in options.only]
    peer = None
    if "quix" in options.only:
        try:
            peer = await asyncio.to_thread(peer_python)
        except RunError as error:
            print(f"without quixstreams: {error.message}")
            contestants = [each for each in contestants if each.letter != "quix"]
    overrides = {"group.initial.rebalance.delay.ms": JOIN_MS if max(options.processes) > 1 else 0}
    node = KafkaNode(scratch / "kafka", free_port(), free_port(), overrides=overrides)
    await node.start()
    try:
        bench = Bench(node.bootstrap_servers, scratch, records=options.records, deliveries=options.deliveries, peer=peer)
        await bench.prepare({each.source for each in contestants})
        lines = [(each, processes) for each in contestants for processes in options.processes]
        found: dict[Line, list[Measured]] = defaultdict(list)
        for _ in range(options.rounds):
            for contestant, processes in lines:
                run = await bench.measure(contestant, processes)
                found[contestant, processes].append(run)
                print(f"{contestant.letter} x{processes}: {run.per_second:,.0f}/s {run.cpu_us:.1f} us", file=sys.stderr)
    finally:
        await node.kill()
    _report(options, found)


def _report(options: argparse.Namespace, found: dict[Line, list[Measured]]) -> None:
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, one Apache Kafka node on the same "
        f"cores, {PARTITIONS} partitions; median of {options.rounds} rounds\n"
        f"{options.records:,} JSON records of {RECORD_BYTES} bytes, {options.deliveries:,} encrypted deliveries of "
        f"{RECORD_BYTES} bytes, {options.deliveries:,} case events; one in {DUPLICATES_IN} records and deliveries repeats "
        f"another; quixstreams {QUIXSTREAMS_VERSION}\n"
    )
    print("| | topic | processes | records/s | of the limit | of one process | CPU us/record |\n| --- " + "| --- " * 6 + "|")
    middle = {line: statistics.median(run.per_second for run in runs) for line, runs in found.items()}
    limits = {(who.source, processes): rate for (who, processes), rate in middle.items() if who.is_limit}
    for (who, processes), rate in sorted(middle.items(), key=lambda item: (CONTESTANTS.index(item[0][0]), item[0][1])):
        limit, alone = limits.get((who.source, processes)), middle.get((who, 1))
        cells = (
            f"{who.letter}: {who.name}",
            who.source,
            str(processes),
            f"{rate:,.0f}",
            f"{rate / limit:.0%}" if limit else "",
            f"{rate / alone:.2f}" if alone and processes > 1 else "",
            f"{statistics.median(run.cpu_us for run in found[who, processes]):.1f}",
        )
        print(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""What state costs: bytes for a case, a turn of the expiry timer, and seconds until a worker with many keys is ready.

It starts with and without its local store, and takes over from another worker, which is killed under load.

The changelogs lie on a real Apache Kafka, the worker is the real one. `make bench-state` runs it.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import sys
import tempfile
import time
from datetime import timedelta
from pathlib import Path

import rocksdict

from bench.state.failover import seconds_without_verdict
from bench.state.filling import (
    PARTITIONS,
    POLICIES,
    SECRET,
    SERVICE_ID,
    START,
    Cases,
    Entries,
    fill,
    there,
    typical_case,
)
from bench.state.turn import DUE, milliseconds_of_turn
from deploy.embedded.apache_kafka import KafkaNode
from deploy.embedded.ports import free_port
from kybstream.errors import KybStreamError
from kybstream.ids import to_micros
from kybstream.kafka import ensure_topics
from kybstream.settings import Settings
from schemas.topics import ALL_TOPICS
from streams.expiring import IntakeRemains
from streams.intake_state import REPLAY_MARGIN
from streams.worker import INTAKE_TABLE, changelog_topics, run_worker


async def seconds_to_ready(settings: Settings) -> float:
    """Starts the worker, waits until it processes batches, and stops it."""
    stop, ready = asyncio.Event(), asyncio.Event()
    began = time.perf_counter()
    worker = asyncio.create_task(run_worker(settings, stop=stop, ready=ready.set, clock=lambda: START))
    waiting = asyncio.create_task(ready.wait())
    await asyncio.wait({worker, waiting}, return_when=asyncio.FIRST_COMPLETED)
    took = time.perf_counter() - began
    waiting.cancel()
    stop.set()
    await worker
    return took


def bytes_in(folder: Path, pattern: str) -> int:
    """Size of the files below a folder whose path fits."""
    return sum(path.stat().st_size for path in folder.rglob(pattern) if path.is_file())


def compact(folder: Path) -> None:
    """Compacts every RocksDB below a folder, as it does by itself in time."""
    for current in sorted(folder.rglob("CURRENT")):
        database = rocksdict.Rdict(str(current.parent), rocksdict.Options(raw_mode=True))
        database.compact_range(None, None)
        database.close()


def report_entries(entries: Entries) -> int:
    """Prints the bytes of each entry of a typical case, now and when all has expired that will; returns the number of keys."""
    later = to_micros(START + timedelta(hours=72) + REPLAY_MARGIN) + 1
    remains = IntakeRemains(POLICIES)
    print("| entry of a typical case | bytes | after 10 days |\n| --- | --- | --- |")
    total = [0, 0]
    for table, values in entries.items():
        for key, value in values.items():
            left = remains(key, value, later) if table == INTAKE_TABLE else value
            sizes = len(key) + len(value), len(key) + len(left) if left else 0
            total = [before + size for before, size in zip(total, sizes, strict=True)]
            whose = "company" if SERVICE_ID.encode() in key else "person"
            print(f"| {table}: {whose if table == INTAKE_TABLE else 'case'} | {sizes[0]:,} | {sizes[1]:,} |")
    print(f"| together | {total[0]:,} | {total[1]:,} |\n")
    return sum(map(len, entries.values()))


async def measure(keys: int, scratch: Path) -> None:
    """Prints everything; a Kafka node runs meanwhile."""
    entries = typical_case()
    each = report_entries(entries)
    node = KafkaNode(scratch / "kafka", free_port(), free_port())
    await node.start()
    try:
        settings = Settings.model_validate(
            {
                "kafka": {"bootstrap_servers": node.bootstrap_servers, "partitions": PARTITIONS},
                "worker": {"data_dir": str(scratch / "worker"), "instance": "worker-0"},
                "tenants": [{"name": "acme", "pseudonym_key": SECRET, "case_token_keys": [SECRET]}],
            }
        )
        topics = {settings.topic(topic.suffix): topic.config(settings.kafka) for topic in ALL_TOPICS}
        await ensure_topics(settings.kafka, topics | changelog_topics(settings))
        await there(settings, topics)
        idle = await seconds_to_ready(settings)
        turn = await asyncio.to_thread(milliseconds_of_turn, keys, scratch / "cases")
        await fill(settings, Cases(entries), keys)
        shape = f"{keys:,} keys, {keys // each:,} cases"
        print(f"| {shape} | |\n| --- | --- |")
        bare = scratch / "another"
        without = settings.model_copy(update={"worker": settings.worker.model_copy(update={"data_dir": str(bare)})})
        print(f"| turn of the expiry timer, {keys:,} cases of which {DUE} are due | {turn:,.0f} ms |")
        print(f"| start of a worker without any state | {idle:.1f} s |")
        print(f"| start without its local store | {await seconds_to_ready(without):.1f} s |", flush=True)
        print(f"| start with its local store | {await seconds_to_ready(without):.1f} s |", flush=True)
        per_case = each / keys
        away = await seconds_without_verdict(without, scratch)
        print(f"| a worker killed under load: until another has told of each of its partitions | {away:.1f} s |", flush=True)
        print(f"| changelogs in Kafka, bytes a case | {bytes_in(scratch / 'kafka', '*-changelog-*/*.log') * per_case:,.0f} |")
        print(f"| RocksDB on disk, bytes a case | {bytes_in(bare, '*') * per_case:,.0f} |")
        compact(bare)
        print(f"| the same compacted, bytes a case | {bytes_in(bare, '*.sst') * per_case:,.0f} |")
    finally:
        await node.kill()


def main(arguments: list[str]) -> int:
    """Runs the benchmark; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.state", description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--keys", type=int, default=20_000, help="of both tables together; the figures of the docs: 1000000")
    options = parser.parse_args(arguments)
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, one Apache Kafka node beside\n")
    try:
        with tempfile.TemporaryDirectory(prefix="kyb-stream-bench-") as folder:
            asyncio.run(measure(options.keys, Path(folder)))
    except KybStreamError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""What state costs: bytes for a case, and seconds until a worker with many keys is ready, with and without its local store.

The case is a typical one: its company is verified in three services, its person by a registered link. Its entries are what the
intake and the cases really write; for the other cases their ids are drawn anew. The changelogs lie on a real Apache Kafka, the
worker is the real one, in this process. `make bench-state` runs it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import re
import sys
import tempfile
import time
from collections.abc import Collection, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import rocksdict
from aiokafka import AIOKafkaProducer

from bench.tables import DictTable
from deploy.embedded.apache_kafka import KafkaNode
from deploy.embedded.ports import free_port
from kybstream.errors import KybStreamError, RunError
from kybstream.ids import new_delivery_id, to_micros
from kybstream.kafka import ensure_topics, require_topics
from kybstream.partitions import partition_of
from kybstream.privacy import Pseudonymiser
from kybstream.settings import Settings
from schemas.codec import encode
from schemas.links import make_link
from schemas.providers.identity import identify_bytes
from schemas.records import WebhookDelivery
from schemas.topics import ALL_TOPICS, entity_key
from streams.batching import Record, changelog_topic
from streams.expiring import IntakeRemains
from streams.intake_state import REPLAY_MARGIN
from streams.policy import TenantPolicy
from streams.processing import CasesProcess, IntakeProcess, TopicNames
from streams.worker import CASES_TABLE, INTAKE_TABLE, TABLES, changelog_topics, run_worker

START = datetime(2026, 3, 1, 9, 0, tzinfo=UTC)
NAMES = TopicNames("kyb.")
SERVICE_ID = "667ab56f0e4e6520880"
SECRET = "0123456789abcdef0123456789abcdef"  # noqa: S105 (of nothing)
POLICIES = {"acme": TenantPolicy(Pseudonymiser(SECRET.encode()), (SECRET.encode(),))}
PAYLOADS = Path(__file__).parent.parent / "tests/fixtures"
SERVICES = ("questionnaire", "company_register", "documents")
PARTITIONS = 8

_ID = re.compile(rb"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")

Entries = dict[str, dict[bytes, bytes]]
"""Keys and values by table."""


def typical_case() -> Entries:
    """What the tables hold of one case after its seven deliveries and its link."""
    intake, cases = DictTable(), DictTable()
    process, fold = IntakeProcess(POLICIES, NAMES), CasesProcess(POLICIES, NAMES)
    for record in _records():
        result = process(0, [record], intake)
        intake.write(result.writes)
        for output in result.outputs:
            if output.topic == NAMES.case_events:
                told = Record(output.topic, 0, 0, 0, output.key, output.value, ())
                cases.write(fold(0, [told], cases).writes)
    # The provisional case does not come into being: the link came first.
    return {INTAKE_TABLE: intake.values, CASES_TABLE: cases.values}


def _records() -> Iterator[Record]:
    person = json.loads((PAYLOADS / "kyc/registration_callback.json").read_text(encoding="utf-8"))
    company = json.loads((PAYLOADS / "kyb/01_business_information_service_initiated.json").read_text(encoding="utf-8"))
    identity = identify_bytes("kyc-registration", json.dumps(person).encode(), POLICIES["acme"].pseudonymiser)
    if identity is None:
        raise AssertionError("the fixture names nobody")
    subject = identity.entity
    link = make_link("acme", SERVICE_ID, subject, expected_subjects=1, registered_at=START)
    yield Record(NAMES.links, 0, 0, 0, entity_key("acme", subject).encode(), encode(link), ())
    bodies = [
        ("kyb", SERVICE_ID, company | {"service_id": SERVICE_ID, "services": [service], "type": kind, "status": status})
        for service in SERVICES
        for kind, status in (("service_initiated", "pending"), ("service_resolved", "resolved"))
    ]
    for kind, entity, body in [*bodies, ("kyc", subject, person)]:
        delivery = WebhookDelivery(
            delivery_id=new_delivery_id(),
            received_at=START,
            tenant="acme",
            source=kind,
            source_kind="kyb-service" if kind == "kyb" else "kyc-registration",
            entity_key=entity_key("acme", entity),
            body=json.dumps(body).encode(),
        )
        yield Record(NAMES.raw, 0, 0, 0, entity_key("acme", entity).encode(), encode(delivery), ())


class Cases:
    """As many cases as one likes: the entries of the typical one, with ids of their own."""

    def __init__(self, entries: Entries) -> None:
        self._names = {SERVICE_ID.encode()} | {
            key.partition(b"/")[2] for key in entries[INTAKE_TABLE] if key.partition(b"/")[2] != SERVICE_ID.encode()
        }
        self._rows = [(table, key, _ID.split(value)) for table, values in entries.items() for key, value in values.items()]

    def rows(self) -> Iterator[tuple[str, bytes, bytes]]:
        """Table, key and value of each entry of one more case."""
        names = {name: os.urandom(len(name)).hex().encode()[: len(name)] for name in self._names}
        for table, key, parts in self._rows:
            value = parts[0]
            for part in parts[1:]:
                drawn = os.urandom(16).hex()
                value += f"{drawn[:8]}-{drawn[8:12]}-{drawn[12:16]}-{drawn[16:20]}-{drawn[20:]}".encode() + part
            for name, fresh in names.items():
                key, value = key.replace(name, fresh), value.replace(name, fresh)  # noqa: PLW2901 - the same row, renamed
            yield table, key, value


async def there(settings: Settings, topics: Collection[str]) -> None:
    """Waits for topics: a broker that has just made one may not list it yet."""
    async with asyncio.timeout(20):
        while True:
            try:
                return await require_topics(settings.kafka, topics)
            except RunError:
                await asyncio.sleep(0.1)


async def fill(settings: Settings, cases: Cases, keys: int) -> None:
    """Writes the changelogs of so many keys, of both tables together."""
    topics = {table: changelog_topic(settings.worker.group, table, PARTITIONS).name for table in TABLES}
    millis = int(START.timestamp() * 1000)
    builders: dict[tuple[str, int], Any] = {}
    async with AIOKafkaProducer(bootstrap_servers=settings.kafka.bootstrap_servers, acks="all", max_batch_size=900_000) as out:
        written = 0
        while written < keys:
            for table, key, value in cases.rows():
                target = topics[table], partition_of(key, PARTITIONS)
                builder = builders.get(target) or out.create_batch()
                if builder.append(key=key, value=value, timestamp=millis) is None:
                    await out.send_batch(builder, target[0], partition=target[1])
                    builder = out.create_batch()
                    builder.append(key=key, value=value, timestamp=millis)
                builders[target] = builder
                written += 1
        sent = [await out.send_batch(builder, topic, partition=number) for (topic, number), builder in builders.items()]
        await asyncio.gather(*sent)


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
        await fill(settings, Cases(entries), keys)
        shape = f"{keys:,} keys, {keys // each:,} cases"
        print(f"| {shape} | |\n| --- | --- |")
        bare = scratch / "another"
        without = settings.model_copy(update={"worker": settings.worker.model_copy(update={"data_dir": str(bare)})})
        print(f"| start of a worker without any state | {idle:.1f} s |")
        print(f"| start without its local store | {await seconds_to_ready(without):.1f} s |", flush=True)
        print(f"| start with its local store | {await seconds_to_ready(without):.1f} s |", flush=True)
        per_case = each / keys
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

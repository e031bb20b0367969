"""The consumer in docs/how-to/consume-topics.md, run as it stands, against a broker and records of the code."""

from __future__ import annotations

import asyncio
import shutil
import signal
import sqlite3
import sys
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from kybstream.kafka import durable_producer, ensure_topics
from kybstream.settings import KafkaSettings
from schemas.cloudevents import cloud_event_headers
from schemas.codec import encode
from schemas.records import Case, Outcome
from schemas.topics import CASES, case_key
from tests.docs.pages import ROOT, blocks
from tests.support.waiting import wait_until

PAGE = ROOT / "docs" / "how-to" / "consume-topics.md"
START = datetime(2026, 3, 1, 9, 0, tzinfo=UTC)
LONGEST = 40
# What is started in the background of a shell ignores Ctrl-C, and so would the example.
_RUN = (
    "import runpy, signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "runpy.run_path('consume_cases.py', run_name='__main__')"
)


def example() -> str:
    """The page's only Python block."""
    [code] = [block.text for block in blocks(PAGE) if block.language == "python"]
    return code


def case(case_id: str, version: int, outcome: Outcome = "open", tenant: str = "acme") -> Case:
    """A version of a case."""
    return Case(
        tenant=tenant,
        case_id=case_id,
        version=version,
        match_state="kyb_only",
        kyb_status="pending",
        kyc_status="none",
        outcome=outcome,
        opened_at=START,
        opened_at_source="event",
        deadline_at=START + timedelta(days=90),
        updated_at=START,
        resubmissions=0,
        aml_alerts=0,
    )


class Reader:
    """Somebody who saved the example as a file, with the schema files beside it and none of our code."""

    def __init__(self, folder: Path, kafka: KafkaSettings) -> None:
        self.kafka = kafka
        self.file = folder / "cases.sqlite"
        self._folder = folder
        (folder / "consume_cases.py").write_text(example())
        shutil.copytree(ROOT / "schemas" / "avro", folder / "avro")

    @asynccontextmanager
    async def running(self) -> AsyncIterator[asyncio.subprocess.Process]:
        """The example while it runs; Ctrl-C ends it, or else it is killed."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-I", "-c", _RUN, self.kafka.bootstrap_servers, self.kafka.topic_prefix + CASES, "avro",
            str(self.file), cwd=self._folder, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        try:
            yield process
        finally:
            if process.returncode is None:
                process.send_signal(signal.SIGINT)
            try:
                await asyncio.wait_for(process.communicate(), 20)
            except TimeoutError:
                process.kill()
                raise

    def kept(self) -> set[tuple[str, str, int, str]]:
        """What is in its database."""
        if not self.file.exists():
            return set()
        with closing(sqlite3.connect(f"file:{self.file}?mode=ro", uri=True)) as database:
            try:
                return set(database.execute("SELECT tenant, case_id, version, outcome FROM cases"))
            except sqlite3.OperationalError:  # the table is being made
                return set()

    async def keeps(self, *rows: tuple[str, str, int, str]) -> None:
        """Returns when exactly these rows are kept."""
        await wait_until(lambda: self.kept() == set(rows), 40, f"{rows} are kept")


@pytest.fixture
async def reader(noida_broker: str, topic_prefix: str, tmp_path: Path) -> Reader:
    """A reader of a topic that is there and empty."""
    kafka = KafkaSettings(bootstrap_servers=noida_broker, topic_prefix=topic_prefix, partitions=2)
    await ensure_topics(kafka, {kafka.topic_prefix + CASES: {"cleanup.policy": "compact"}}, partitions=2)
    return Reader(tmp_path, kafka)


async def produce(kafka: KafkaSettings, cases: Iterable[Case]) -> None:
    """Writes snapshots as the worker does."""
    producer = durable_producer(kafka)
    await producer.start()
    try:
        for each in cases:
            key = case_key(each.tenant, each.case_id).encode()
            await producer.send_and_wait(kafka.topic_prefix + CASES, encode(each), key, headers=cloud_event_headers(each))
    finally:
        await producer.stop()


def test_the_example_is_short_and_needs_nothing_of_ours() -> None:
    """About thirty lines of code, with the two libraries that the page names."""
    lines = [line for line in example().splitlines() if line.strip()]
    assert len(lines) <= LONGEST
    assert not any(name in example() for name in ("kybstream", "from schemas", "import schemas", "streams"))


async def test_the_example_keeps_the_newest_version_of_each_case(reader: Reader) -> None:
    """Repeats and old versions that come again change nothing, nor does a restart; tenants are kept apart."""
    first = [case("c1", 1), case("c1", 2, "completed"), case("c2", 1), case("c1", 1), case("c1", 2, "completed")]
    await produce(reader.kafka, [*first, case("c1", 7, "expired", "globex")])
    async with reader.running():
        await reader.keeps(("acme", "c1", 2, "completed"), ("acme", "c2", 1, "open"), ("globex", "c1", 7, "expired"))
    await produce(reader.kafka, [case("c1", 1), case("c2", 2, "rejected"), case("c2", 1)])
    async with reader.running():
        await reader.keeps(("acme", "c1", 2, "completed"), ("acme", "c2", 2, "rejected"), ("globex", "c1", 7, "expired"))


async def test_the_example_loses_nothing_when_its_own_work_fails(reader: Reader) -> None:
    """Its database refuses: it stops without having committed, and reads the same again when it is started."""
    await produce(reader.kafka, [case("c1", 1)])
    async with reader.running():
        await reader.keeps(("acme", "c1", 1, "open"))
    await produce(reader.kafka, [case("c1", 2, "completed")])
    with closing(sqlite3.connect(reader.file, isolation_level=None)) as database:
        database.execute("CREATE TRIGGER refuse BEFORE INSERT ON cases BEGIN SELECT RAISE(ABORT, 'the disk is full'); END")
        async with reader.running() as process:
            await asyncio.wait_for(process.wait(), 40)
        assert process.returncode == 1
        database.execute("DROP TRIGGER refuse")
    async with reader.running():
        await reader.keeps(("acme", "c1", 2, "completed"))


async def test_the_example_stops_at_a_schema_that_it_does_not_have(reader: Reader) -> None:
    """And goes on where it stopped when the file is there: nothing is skipped, nothing is read wrongly."""
    schema = reader.file.parent / "avro" / "case.v1.avsc"
    away = schema.rename(schema.with_suffix(".away"))
    await produce(reader.kafka, [case("c1", 1)])
    async with reader.running() as process:
        await asyncio.wait_for(process.wait(), 40)
    assert (process.returncode, reader.kept()) == (1, set())
    away.rename(schema)
    async with reader.running():
        await reader.keeps(("acme", "c1", 1, "open"))

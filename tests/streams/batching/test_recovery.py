"""Recovery: what it reads of a changelog, when it is cut off, and that nothing is served before it is over. On a real Kafka."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import pytest_asyncio
from aiokafka import AIOKafkaProducer

from deploy.embedded.apache_kafka import KafkaNode
from streams.batching import BatchApp, BatchResult, BatchTable, Record, StateReader, changelog_topic, run
from streams.batching.store import BatchStore
from tests.streams.batching.harness import Lab
from tests.support.waiting import wait_until

pytestmark = pytest.mark.kafka

TABLE = "values"


@pytest_asyncio.fixture
async def lab(apache_kafka: KafkaNode, tmp_path: Path) -> AsyncIterator[Lab]:
    """A source topic."""
    async with Lab(apache_kafka.bootstrap_servers, tmp_path, partitions=2) as lab:
        await lab.create("in")
        yield lab


def remember(_partition: int, records: Sequence[Record], _state: StateReader) -> BatchResult:
    """Keep each value under its key."""
    return BatchResult(writes={record.key or b"": record.value for record in records})


def build(lab: Lab, folder: str, store: str = "rocksdb://") -> tuple[BatchApp, BatchTable]:
    """An app with one agent, and its table, with its data in that folder."""
    app = BatchApp(
        lab.topic("app"),
        broker=lab.bootstrap,
        datadir=lab.folder / folder,
        partitions=lab.partitions,
        commit_interval=0.2,
        store=store,
        instance_id="one",  # the next one has its partitions at once
    )
    table = app.batch_table(TABLE)
    app.batch_agent(app.batch_topic(lab.topic("in")), table, remember)
    return app, table


@asynccontextmanager
async def running(app: BatchApp) -> AsyncIterator[None]:
    """The app, from when it is ready; it is stopped at the end."""
    stop = asyncio.Event()
    task = asyncio.create_task(run(app, stop))
    await wait_until(lambda: app.ready() or task.done(), 30, "ready")
    try:
        yield
    finally:
        stop.set()
        await task


def contents(table: BatchTable) -> dict[bytes, bytes]:
    """What the table holds here."""
    return {key: value for number in table.owned_partitions() for key, value in table.data.local.scan(number)}


async def changelog(lab: Lab, rows: Sequence[tuple[bytes, bytes | None]]) -> None:
    """A changelog of two partitions with these rows, written in a transaction: it ends with a marker."""
    topic = changelog_topic(lab.topic("app"), TABLE, lab.partitions).name
    await lab.create_full(topic)
    async with AIOKafkaProducer(bootstrap_servers=lab.bootstrap, transactional_id=lab.topic("tx")) as producer:
        await producer.begin_transaction()
        for key, value in rows:
            for number in range(lab.partitions):
                await producer.send(topic, key=b"%d-" % number + key, value=value, partition=number)
        await producer.commit_transaction()


@pytest.mark.parametrize("store", ["rocksdb://", "memory://"])
async def test_it_ends_at_the_end_of_a_changelog_that_ends_without_a_record(lab: Lab, store: str) -> None:
    """Markers of transactions take offsets, as do records that compaction took: the end is an offset, no record.

    What is written then follows on the end.
    """
    await changelog(lab, [(b"a", b"0"), (b"gone", b"3"), (b"b", b"2"), (b"a", b"1"), (b"gone", None)])
    app, table = build(lab, "data", store)
    async with running(app):
        assert contents(table) == {b"%d-%b" % (n, key): value for n in (0, 1) for key, value in ((b"a", b"1"), (b"b", b"2"))}
        assert {table.data.local.offset(number) for number in (0, 1)} == {await lab.end_of(table.changelog.name, 0) - 1}
        await lab.send("in", b"key", b"value")

        async def processed() -> bool:
            return await lab.committed(str(app.conf.id)) == 1

        await wait_until(processed, 20, "the batch is done")


async def test_nothing_is_served_before_it_is_over(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither are batches processed nor is the table read, while only a part of the state is there."""
    monkeypatch.setattr("streams.batching.recovery.CHUNK_RECORDS", 10)
    await changelog(lab, [(b"%d" % number, b"old") for number in range(200)])
    await lab.send("in", b"0-7", b"new")
    app, table = build(lab, "data")
    seen: list[tuple[bool, frozenset[int], list[tuple[bytes, bytes]]]] = []
    recover = BatchStore.recover

    def recover_and_look(
        store: BatchStore, partition: int, writes: Collection[tuple[bytes, bytes | None]], offset: int
    ) -> None:
        recover(store, partition, writes, offset)
        seen.append((app.ready(), table.owned_partitions(), list(table.due(partition, 0, 2**62))))

    monkeypatch.setattr(BatchStore, "recover", recover_and_look)
    async with running(app):
        assert len(seen) >= 40
        assert set(map(repr, seen)) == {repr((False, frozenset(), []))}

        async def processed() -> bool:
            return contents(table).get(b"0-7") == b"new"

        await wait_until(processed, 20, "the batch is done")
        assert len(contents(table)) == 400
        assert app.recovered() == 400


@pytest.mark.parametrize("after", [1, 7, 15])
async def test_a_worker_killed_in_it_begins_again_rightly(lab: Lab, monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    """What a kill leaves on disk is completed by the next start, wherever it came."""
    monkeypatch.setattr("streams.batching.recovery.CHUNK_RECORDS", 10)
    await changelog(lab, [(b"%d" % number, b"%d" % number * 50_000) for number in range(100)])
    app, table = build(lab, "first")
    recovered = 0
    recover = BatchStore.recover

    def recover_and_copy(
        store: BatchStore, partition: int, writes: Collection[tuple[bytes, bytes | None]], offset: int
    ) -> None:
        nonlocal recovered
        recover(store, partition, writes, offset)
        recovered += 1
        if recovered == after:
            shutil.copytree(lab.folder / "first", lab.folder / "second", ignore=shutil.ignore_patterns("LOCK"))

    monkeypatch.setattr(BatchStore, "recover", recover_and_copy)
    async with running(app):
        whole = contents(table)
    assert len(whole) == 200
    app, table = build(lab, "second")
    async with running(app):
        assert contents(table) == whole
        assert 0 < app.recovered() <= 200


async def test_a_rebalance_in_the_midst_of_it_loses_nothing(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second worker comes while the first one reads: both end with the whole state of their partitions."""
    monkeypatch.setattr("streams.batching.recovery.CHUNK_RECORDS", 10)
    await changelog(lab, [(b"%d" % number, b"x") for number in range(300)])
    first, of_first = build(lab, "first")
    second, of_second = build(lab, "second")
    second.conf.consumer_group_instance_id = "two"
    joined = asyncio.Event()
    recover = BatchStore.recover

    def recover_and_join(
        store: BatchStore, partition: int, writes: Collection[tuple[bytes, bytes | None]], offset: int
    ) -> None:
        recover(store, partition, writes, offset)
        if offset > 100:
            joined.set()
        if not second.ready():
            time.sleep(0.05)

    monkeypatch.setattr(BatchStore, "recover", recover_and_join)
    stop = asyncio.Event()
    tasks = [asyncio.create_task(run(first, stop))]
    await asyncio.wait_for(joined.wait(), 20)
    tasks.append(asyncio.create_task(run(second, stop)))
    tables = (of_first, of_second)
    try:
        await wait_until(lambda: [len(table.owned_partitions()) for table in tables] == [1, 1], 40, "each has a partition")
        assert [len(contents(table)) for table in tables] == [300, 300]
        assert len(contents(of_first) | contents(of_second)) == 600
    finally:
        stop.set()
        await asyncio.gather(*tasks)

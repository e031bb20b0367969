"""The app inside this process: tables, timers' reads and sends, stops, and refusals."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from faust.types import TP

from kybstream.errors import RunError
from streams.batching import (
    AssignmentError,
    BatchResult,
    ChangelogConflictError,
    Output,
    Record,
    StateReader,
    TopicMismatchError,
    WorkerCrashedError,
    run,
)
from streams.batching.agent import BatchAgent, KafkaEffects
from streams.batching.consumer import BatchConsumer
from streams.batching.errors import ChangelogLostError
from streams.batching.rocks import RocksState
from streams.batching.starting import Starting
from tests.streams.batching.harness import Lab
from tests.streams.batching.in_process import build, committed, contents, crash_of, due, remember, running
from tests.support.waiting import wait_until


async def test_a_timer_can_ask_the_table_what_is_due_and_send(lab: Lab) -> None:
    """`due` yields what batches wrote, without deleted keys; `publish` returns when the records are in Kafka."""
    app, table = build(lab, remember)
    assert table.owned_partitions() == frozenset()
    async with running(app):
        assert table.owned_partitions() == {0, 1, 2, 3}
        await lab.produce("in", [b"a", b"b", b"c"])
        await committed(lab, app)
        assert contents(table) == {b"a": b"a", b"b": b"b", b"c": b"c"}
        await lab.send("in", b"b", b"")
        await committed(lab, app)
        await lab.send("in", b"later", b"later")
        await committed(lab, app)
        assert table.indexed()
        assert (due(table, 0), len(due(table, 5))) == ([], 3)
        await app.publish([Output(lab.topic("out"), key, b"expired") for key in due(table, 4)])
        assert sorted(record.key or b"" for record in await lab.read(lab.topic("out"))) == [b"a", b"c"]
        assert set(app.progress()) == {(lab.topic("in"), number) for number in range(4)}
        await wait_until(lambda: {each.lag for each in app.progress().values()} == {0}, 5, "caught up")
    assert table.owned_partitions() == frozenset()
    assert due(table, 9) == []
    tombstones = [r for r in await lab.read(table.changelog.name) if r.value is None]
    assert [record.key for record in tombstones] == [b"b"]


async def test_a_start_waits_neither_for_fetches_nor_for_indexes(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """A broker that holds a fetch answers nothing else meanwhile, and an index of a million entries takes ten seconds."""
    app, table = build(lab, remember)
    read_while_asked: list[set[TP]] = []
    indexed_while_ready: list[bool] = []
    compare, index_more = Starting.compare, RocksState.index_more

    def fetched() -> set[TP]:
        consumer = app.consumer._thread._ensure_consumer()
        return set(consumer.assignment() - consumer.paused())

    async def note_fetches(starting: Starting, before: Mapping[TP, int | None] | None = None, *, running: bool = False) -> None:
        if not running:
            read_while_asked.append(fetched())
        await compare(starting, before, running=running)

    def note_ready(state: RocksState, partition: int, entries: int) -> bool:
        indexed_while_ready.append(app.ready())
        return index_more(state, partition, entries)

    monkeypatch.setattr(Starting, "compare", note_fetches)
    monkeypatch.setattr(RocksState, "index_more", note_ready)
    async with running(app):
        await wait_until(table.indexed, 5, "indexed")
        assert fetched() == {(lab.topic("in"), number) for number in range(4)}
    assert read_while_asked == [set()]
    assert indexed_while_ready == [True] * 4


async def test_large_and_many_outputs_arrive_in_order(lab: Lab) -> None:
    """Outputs of a batch are cut into record batches by size; one larger than a record batch travels alone."""

    def spread(_partition: int, records: Sequence[Record], _state: StateReader) -> BatchResult:
        sizes = [10, 200_000, *[1_000] * 200, 60_000, 10]
        return BatchResult(
            [
                Output(lab.topic("out"), record.key, b"%d " % i + b"x" * size, [("n", b"%d" % i)])
                for record in records
                for i, size in enumerate(sizes)
            ]
        )

    app, _ = build(lab, spread)
    async with running(app):
        await lab.produce("in", [b"k"])
        await committed(lab, app)
    numbers = [int(dict(record.headers)["n"]) for record in await lab.read(lab.topic("out"))]
    assert numbers == list(range(204))


async def test_a_stop_before_the_start_is_over_is_a_clean_stop(lab: Lab) -> None:
    """Whenever the stop comes, `run` returns within the promised time."""
    for delay in (0.0, 0.5, 1.5):
        app, _ = build(lab, remember)
        stop = asyncio.Event()
        task = asyncio.create_task(run(app, stop))
        await asyncio.wait({task}, timeout=delay)
        stop.set()
        async with asyncio.timeout(8):
            await task


@pytest.mark.parametrize("own", [True, False])
async def test_a_crash_raises_the_applications_own_error(lab: Lab, *, own: bool) -> None:
    """An error of ours comes out as it is, any other as a WorkerCrashedError with its cause; nothing is committed."""
    cause: Exception = RunError("our own") if own else ValueError("another's")

    def fail(_partition: int, _records: Sequence[Record], _state: StateReader) -> BatchResult:
        raise cause

    app, _ = build(lab, fail)
    error = await crash_of(app, lambda: lab.send("in", b"key", b"value"))
    if own:
        assert error is cause
    else:
        assert isinstance(error, WorkerCrashedError)
        assert error.__cause__ is cause
    assert await lab.committed(str(app.conf.id)) == 0


async def test_a_foreign_write_to_the_changelog_stops_the_worker(lab: Lab) -> None:
    """Offsets of the only writer follow on one another; where they do not, the state is in doubt."""
    app, table = build(lab, remember)

    async def interfere() -> None:
        await lab.send("in", b"key", b"1")
        await committed(lab, app)
        number = next(r.partition for r in await lab.read(table.changelog.name))
        await lab.append(table.changelog.name, number, b"key", b"foreign")
        await lab.send("in", b"key", b"2")

    error = await crash_of(app, interfere)
    assert isinstance(error, ChangelogConflictError)
    assert "wrote at offset 2, expected 1" in error.message
    assert await lab.committed(str(app.conf.id)) == 1


async def test_local_state_ahead_of_its_changelog_is_never_thrown_away(lab: Lab) -> None:
    """Of a changelog that was lost the local state may be the only copy: the worker does not start, and leaves it alone."""
    app, _ = build(lab, remember)
    async with running(app):
        await lab.produce("in", [b"a", b"b", b"c"])
        await committed(lab, app)
    folder = Path(app.conf.tabledir) / "values"
    disk = RocksState(folder)
    for number in range(4):
        disk.write(number, [(b"only here", b"1")], 1_000)
    disk.close()
    app, _ = build(lab, remember)
    error = await crash_of(app, nothing)
    assert isinstance(error, ChangelogLostError)
    assert "ends at offset" in error.message
    disk = RocksState(folder)
    assert [disk.get_many(number, [b"only here"]) for number in range(4)] == [{b"only here": b"1"}] * 4
    disk.close()


async def nothing() -> None:
    """Is done while the app ends by itself."""


async def test_a_chunk_fetched_at_the_end_of_a_rebalance_is_not_forgotten(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Faust empties the agents' queues after it has let the partitions be read again; nothing may be in them then."""
    app, _ = build(lab, remember, store="memory://")
    async with running(app):
        await lab.produce("in", [b"%d" % i for i in range(50)])
        await committed(lab, app)
    await lab.produce("in", [b"%d" % i for i in range(50, 100)])
    seek, consume = BatchConsumer.perform_seek, BatchAgent.consume

    async def seek_and_linger(consumer: BatchConsumer) -> None:
        await seek(consumer)
        await asyncio.sleep(0.5)  # the window is a few turns of the event loop otherwise

    async def consume_late(agent: BatchAgent, stream: object) -> None:
        await wait_until(app.ready, 15, "ready")
        await consume(agent, stream)

    monkeypatch.setattr(BatchConsumer, "perform_seek", seek_and_linger)
    monkeypatch.setattr(BatchAgent, "consume", consume_late)
    app, table = build(lab, remember, store="memory://")
    async with running(app):
        await committed(lab, app)
        assert len(contents(table)) == 100


async def test_a_stop_does_not_wait_for_batches_that_have_not_begun(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """The batch under way is finished and committed; those behind it are left for the next start, unacknowledged."""
    send = KafkaEffects.send_outputs

    async def send_slowly(effects: KafkaEffects, outputs: Sequence[Output]) -> None:
        await asyncio.sleep(1.5)  # longer than it takes to send the others, on a busy machine too
        await send(effects, outputs)

    monkeypatch.setattr(KafkaEffects, "send_outputs", send_slowly)

    def forward(_partition: int, records: Sequence[Record], _state: StateReader) -> BatchResult:
        return BatchResult([Output(lab.topic("out"), record.key, record.value) for record in records])

    app, _ = build(lab, forward)
    loop = asyncio.get_running_loop()
    async with running(app):
        for number in range(8):
            await lab.send("in", b"key", b"%d" % number)
            await asyncio.sleep(0.05)  # so that each is a batch of its own
        began = loop.time()
    assert loop.time() - began < 4
    forwarded = await lab.end(lab.topic("out"))
    assert 0 < forwarded < 8
    assert await lab.committed(str(app.conf.id)) == forwarded
    app, _ = build(lab, forward)
    async with running(app):
        await committed(lab, app)
    assert [record.value for record in await lab.read(lab.topic("out"))] == [b"%d" % number for number in range(8)]


async def test_partitions_without_their_state_are_refused(lab: Lab) -> None:
    """An assignment made before the changelog was known ends the worker, instead of starting from nothing."""
    app, table = build(lab, remember)
    with pytest.raises(AssignmentError, match="without their changelog"):
        await table.data.on_rebalance({TP(lab.topic("in"), 0)}, set(), set())
    assert not app.ready()


async def test_topics_must_exist_and_match(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing topic, or one with other partitions than the tables, is refused with the command that mends it."""
    monkeypatch.setattr("streams.batching.producer.TOPIC_LOOKUP_SECONDS", 1.0)
    for topic, partitions, expected in (("nowhere", 4, "nowhere"), ("in", 8, "has 4 partitions")):
        app, _ = build(lab, remember, topic=topic, partitions=partitions)
        with pytest.raises(TopicMismatchError, match=expected) as caught:
            await run(app, asyncio.Event())
        assert "migrate" in (caught.value.hint or "")

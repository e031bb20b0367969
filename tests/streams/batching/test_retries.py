"""Trouble of Kafka's or of the disk's is waited out: the batch is tried again, whole, and what it does stands once."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
import structlog
from aiokafka.errors import KafkaConnectionError, TopicAuthorizationFailedError

from deploy.embedded.apache_kafka import KafkaNode
from streams.batching import (
    BatchResult,
    Output,
    Record,
    StateReader,
    StateUnavailableError,
    TopicMismatchError,
    WorkerCrashedError,
)
from streams.batching.agent import KafkaEffects
from streams.batching.rocks import RocksState
from tests.streams.batching.harness import Lab
from tests.streams.batching.in_process import build, committed, contents, crash_of, remember, running
from tests.support.waiting import wait_until


@contextmanager
def full_disk() -> Iterator[None]:
    """No file of this process may grow beyond a few kilobytes: a write of more fails, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8_192, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_disk_that_refuses_is_told_and_takes_the_write_later(tmp_path: Path) -> None:
    """What was written before is there, reads go on, and once there is room the same write succeeds; the error names place."""
    state = RocksState(tmp_path)
    state.write(0, [(b"a", b"1")], 1)
    large = [(b"b", b"x" * 50_000)]
    with full_disk():
        for _ in range(2):
            with pytest.raises(
                StateUnavailableError, match=f"the disk refuses the state in {tmp_path}/0: File too large"
            ) as no:
                state.write(0, large, 2)
            assert no.value.retriable
            assert state.get_many(0, {b"a", b"b"}) == {b"a": b"1"}
            assert state.offset(0) == 1
    scan = state.scan(0)
    next(scan)
    with full_disk(), pytest.raises(StateUnavailableError):
        state.write(0, large, 2)
    with pytest.raises(StateUnavailableError, match="a scan still has it open"):
        state.write(0, large, 2)
    del scan
    state.write(0, large, 2)
    assert (dict(state.scan(0)), state.offset(0)) == ({b"a": b"1", b"b": b"x" * 50_000}, 2)
    with full_disk(), pytest.raises(StateUnavailableError):
        state.write(0, large, 3)
    state.close()


async def test_a_full_disk_is_waited_out(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is committed meanwhile; then all is, and each record is in the state."""
    app, table = build(lab, remember)
    write, refused = RocksState.write, [0]

    def refuse_thrice(state: RocksState, partition: int, writes: Sequence[tuple[bytes, bytes | None]], offset: int) -> None:
        if refused[0] < 3:
            refused[0] += 1
            raise StateUnavailableError("full")
        write(state, partition, writes, offset)

    async with running(app):
        with structlog.testing.capture_logs() as logged:
            monkeypatch.setattr(RocksState, "write", refuse_thrice)
            await lab.send("in", b"key", b"value")
            await committed(lab, app)
        assert contents(table) == {b"key": b"value"}
    attempts = [entry["seconds"] for entry in logged if entry["event"] == "batch_tried_again"]
    assert attempts == [0.2, 0.4, 0.8]


async def test_a_broker_that_cannot_be_reached_is_waited_out(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error that Kafka itself calls retriable ends no worker."""
    send, failed = KafkaEffects.send_outputs, [0]

    async def fail_twice(effects: KafkaEffects, outputs: Sequence[Output]) -> None:
        if failed[0] < 2:
            failed[0] += 1
            raise KafkaConnectionError("away")
        await send(effects, outputs)

    def forward(_partition: int, records: Sequence[Record], _state: StateReader) -> BatchResult:
        return BatchResult([Output(lab.topic("out"), record.key, record.value) for record in records])

    monkeypatch.setattr(KafkaEffects, "send_outputs", fail_twice)
    app, _ = build(lab, forward)
    async with running(app):
        await lab.produce("in", [b"a"])
        await committed(lab, app)
    assert [record.value for record in await lab.read(lab.topic("out"))] == [b"a"]


async def test_what_waiting_cannot_mend_ends_the_worker(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """A right that is missing, for one."""

    async def refuse(_effects: KafkaEffects, _outputs: Sequence[Output]) -> None:
        raise TopicAuthorizationFailedError

    monkeypatch.setattr(KafkaEffects, "send_outputs", refuse)
    app, _ = build(lab, lambda *_: BatchResult([Output(lab.topic("out"), b"k", b"v")]))
    error = await crash_of(app, lambda: lab.send("in", b"key", b"value"))
    assert isinstance(error, WorkerCrashedError)
    assert isinstance(error.__cause__, TopicAuthorizationFailedError)


async def test_a_stop_does_not_wait_for_what_is_tried_again(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """The batch is left for the next start, uncommitted; `running` fails if the stop takes longer than promised."""
    tried = asyncio.Event()

    def refuse(*_: object) -> None:
        tried.set()
        raise StateUnavailableError("full")

    app, _ = build(lab, remember)
    async with running(app):
        monkeypatch.setattr(RocksState, "write", refuse)
        await lab.send("in", b"key", b"value")
        await wait_until(tried.is_set, 10, "the first attempt")
    assert await lab.committed(str(app.conf.id)) == 0
    monkeypatch.undo()
    app, table = build(lab, remember)
    async with running(app):
        await committed(lab, app)
        assert contents(table) == {b"key": b"value"}


@pytest.mark.kafka
async def test_a_missing_topic_is_not_taken_for_a_silent_broker(
    breakable_kafka: KafkaNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the broker is frozen nobody can say whether a topic exists: it is asked again. Then the worker ends."""
    monkeypatch.setattr("streams.batching.producer.TOPIC_LOOKUP_SECONDS", 1.0)
    async with Lab(breakable_kafka.bootstrap_servers, tmp_path) as lab:
        await lab.create("in")
        app, _ = build(lab, frozen_in_between := FrozenInBetween(lab, breakable_kafka))
        with structlog.testing.capture_logs() as logged:

            async def thaw() -> None:
                await lab.send("in", b"key", b"value")
                await wait_until(
                    lambda: [each for each in logged if each["event"] == "batch_tried_again"], 15, "another attempt"
                )
                breakable_kafka.resume()

            error = await crash_of(app, thaw)
        assert isinstance(error, TopicMismatchError)
        assert "nowhere does not exist" in error.message
        assert frozen_in_between.done


class FrozenInBetween:
    """A process that freezes the broker, once, before its outputs go to a topic that does not exist."""

    def __init__(self, lab: Lab, broker: KafkaNode) -> None:
        self._topic = lab.topic("nowhere")
        self._broker = broker
        self.done = False

    def __call__(self, _partition: int, _records: Sequence[Record], _state: StateReader) -> BatchResult:
        """One output."""
        if not self.done:
            self._broker.pause()
            self.done = True
        return BatchResult([Output(self._topic, b"k", b"v")])

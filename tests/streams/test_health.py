"""The worker's health pages, on real brokers: what they say when it works, when it is stuck, and when it is well again."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest
import structlog
from aiokafka import TopicPartition
from aiokafka.admin import RecordsToDelete

from deploy.embedded.apache_kafka import KafkaNode
from kybstream.errors import RunError
from schemas.topics import DELIVERIES, RAW
from streams.batching import Output
from streams.batching.agent import KafkaEffects
from streams.monitoring import StalledError
from tests.streams.pipeline import NAMES, START, Door, as_record
from tests.streams.running import PARTITIONS, crash_of, deliveries, lab, metric, misplaced, page, reason_of, running_worker
from tests.support.waiting import wait_until


class Gate:
    """Holds back a batch's outputs while it is shut: an agent that is stuck."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._open = asyncio.Event()
        self.held = asyncio.Event()
        self.open()
        send, gate = KafkaEffects.send_outputs, self

        async def send_outputs(effects: KafkaEffects, outputs: Sequence[Output]) -> None:
            if not gate._open.is_set():
                gate.held.set()
                await gate._open.wait()
            await send(effects, outputs)

        monkeypatch.setattr(KafkaEffects, "send_outputs", send_outputs)

    def shut(self) -> None:
        """Holds back from now on."""
        self._open.clear()
        self.held.clear()

    def open(self) -> None:
        """Lets everything pass."""
        self._open.set()


async def test_the_metrics_say_what_was_done(noida_broker: str, topic_prefix: str, tmp_path: Path) -> None:
    """Records by agent and outcome, dead letters by reason, steps, lag, ages and the size of the state."""
    async with lab(noida_broker, topic_prefix, tmp_path) as given, running_worker(given.settings, clock=lambda: START):
        assert await page(f"{given.url}/healthz") == (200, "ok")
        assert await page(f"{given.url}/readyz") == (200, "ready")
        door = Door()
        await given.send(
            [*deliveries(20), door.record(door.delivery(b"{")), *misplaced(3), as_record(NAMES.raw, "acme/x", b"?")]
        )
        await given.all_committed(25)
        raw = given.settings.topic(RAW)

        async def cases_done() -> bool:
            return await metric(given.url, "kyb_worker_records_total", agent="cases", outcome="processed") == 20

        await wait_until(cases_done, 10, "the cases are counted")
        shown = {
            (name, *labels.values()): await metric(given.url, name, **labels)
            for name, labels in [
                ("kyb_worker_records_total", {"agent": "intake", "outcome": "processed"}),
                ("kyb_worker_records_total", {"agent": "intake", "outcome": "dead_letter"}),
                ("kyb_worker_dead_letters_total", {"agent": "intake", "reason": "key_mismatch"}),
                ("kyb_worker_dead_letters_total", {"agent": "intake", "reason": "not_json"}),
                ("kyb_worker_dead_letters_total", {"agent": "intake", "reason": "undecodable"}),
                ("kyb_worker_batch_records_sum", {"agent": "intake"}),
                ("kyb_worker_lag", {"topic": raw}),
                ("kyb_worker_ready", {}),
                ("kyb_worker_recovering", {}),
                ("kyb_worker_stalled_seconds", {}),
            ]
        }
        assert list(shown.values()) == [20, 5, 3, 1, 1, 25, 0, 1, 0, 0], shown
        for step in ("compute", "outputs", "changelog", "store"):
            assert (await metric(given.url, "kyb_worker_step_seconds_count", agent="intake", step=step) or 0) > 0, step
        assert (await metric(given.url, "kyb_worker_state_entries", table="intake") or 0) >= 20
        assert (await metric(given.url, "kyb_worker_state_bytes", table="cases") or 0) > 0
        age = await metric(given.url, "kyb_worker_commit_age_seconds", topic=raw)
        assert age is not None
        assert 0 < age < 60
        _, text = await page(f"{given.url}/metrics")
        assert "acme" not in text
        assert await metric(given.url, "kyb_worker_recovered_records") == 0


async def test_a_stuck_agent_fails_the_health_page_until_it_gets_on(
    noida_broker: str, topic_prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With records waiting and nothing committed: 503 with the partition, and once in the log where everything stands."""
    gate = Gate(monkeypatch)
    async with lab(noida_broker, topic_prefix, tmp_path, stalled_after_seconds=1.5) as given, running_worker(given.settings):
        await given.send(deliveries(1))
        await given.all_committed(1)
        with structlog.testing.capture_logs() as logged:
            gate.shut()
            await given.send(deliveries(6))

            async def unwell() -> str:
                status, text = await page(f"{given.url}/healthz")
                return text if status == 503 else ""

            problem = await wait_until(unwell, 10, "the stall is seen")
            # Of two topics that wait either may be named: what is held up may have told the cases something before.
            assert reason_of(problem).startswith(f"topic {given.settings.kafka.topic_prefix}")
            assert " partition " in reason_of(problem)
            assert "records wait and nothing was committed for " in reason_of(problem)
            assert (await page(f"{given.url}/readyz"))[0] == 200
            assert (await metric(given.url, "kyb_worker_stalled_seconds") or 0) > 1.5
            assert (await metric(given.url, "kyb_worker_lag") or 0) > 0
            await wait_until(lambda: [entry for entry in logged if entry["event"] == "stalled"], 5, "the stacks are logged")
            gate.open()

            async def well() -> bool:
                return await page(f"{given.url}/healthz") == (200, "ok")

            await wait_until(well, 10, "it is well again")
            await given.all_committed(7)
            await wait_until(lambda: [entry for entry in logged if entry["event"] == "stall_ended"], 5, "its end is logged")
        (stalled,) = [entry for entry in logged if entry["event"] == "stalled"]
        assert any("streams.batching.agent:" in stack and "test_health:" in stack for stack in stalled["tasks"])
        assert "acme" not in repr(stalled)


async def test_a_worker_that_stays_stuck_ends_with_an_error(
    noida_broker: str, topic_prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that whoever started it starts it again; nothing was committed, and the next one does it all."""
    gate = Gate(monkeypatch)
    async with lab(noida_broker, topic_prefix, tmp_path, stalled_after_seconds=1, give_up_after_seconds=2) as given:
        gate.shut()
        await given.send(deliveries(6))
        error = await crash_of(given.settings)
        assert isinstance(error, StalledError)
        assert "records wait" in error.message
        assert await given.committed() == 0
        gate.open()
        async with running_worker(given.settings):
            await given.all_committed(6)
        assert len(await given.read(DELIVERIES)) == 6


@pytest.mark.parametrize(
    ("own", "reason"),
    [({"data_dir": "another"}, "health pages of the worker is in use"), ({"health_port": 0}, "is in use by process")],
    ids=["port", "folder"],
)
async def test_what_another_worker_uses_ends_the_start(
    own: dict[str, object], reason: str, noida_broker: str, topic_prefix: str, tmp_path: Path
) -> None:
    """Two workers with one health port, or one data folder, on a machine: the second says so, and joins no group."""
    async with lab(noida_broker, topic_prefix, tmp_path) as given, running_worker(given.settings):
        own = {name: str(tmp_path / value) if isinstance(value, str) else value for name, value in own.items()}
        second = given.settings.model_copy(update={"worker": given.settings.worker.model_copy(update=own)})
        with pytest.raises(RunError, match=reason):
            async with running_worker(second):
                pass


@pytest.mark.kafka
async def test_a_log_that_retention_has_emptied_is_no_lag(apache_kafka: KafkaNode, topic_prefix: str, tmp_path: Path) -> None:
    """A new group has committed nothing of it, and never will: a worker on a quiet topic is well for all that."""
    settings = {"stalled_after_seconds": 1, "give_up_after_seconds": 2}
    async with lab(apache_kafka.bootstrap_servers, topic_prefix, tmp_path, **settings) as given:
        await given.send(deliveries(6))
        raw = given.settings.topic(RAW)
        everything = RecordsToDelete(before_offset=-1)
        await given.admin.delete_records({TopicPartition(raw, number): everything for number in range(PARTITIONS)})
        async with running_worker(given.settings) as worker:

            async def lag_known() -> bool:
                return await metric(given.url, "kyb_worker_lag", topic=raw) is not None

            await wait_until(lag_known, 10, "the end of the log is known")
            await asyncio.wait({worker}, timeout=3)  # longer than it takes to give up
            assert not worker.done()
            assert await metric(given.url, "kyb_worker_lag", topic=raw) == 0
            assert await page(f"{given.url}/healthz") == (200, "ok")
            await given.send(deliveries(2))
            await wait_until(lag_known, 10, "it goes on")

            async def processed() -> bool:
                return await metric(given.url, "kyb_worker_records_total", agent="intake", outcome="processed") == 2

            await wait_until(processed, 10, "what comes after that is processed")


@pytest.mark.kafka
async def test_a_frozen_broker_is_told_and_waited_for(
    breakable_kafka: KafkaNode, topic_prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While it is frozen with records known to wait, the page says so; then the worker goes on by itself, and loses nothing."""
    gate = Gate(monkeypatch)
    async with (
        lab(breakable_kafka.bootstrap_servers, topic_prefix, tmp_path, stalled_after_seconds=1.5) as given,
        running_worker(given.settings) as worker,
    ):
        gate.shut()
        await given.send(deliveries(6))
        await asyncio.wait_for(gate.held.wait(), 10)
        breakable_kafka.pause()
        gate.open()

        async def says(status: int) -> bool:
            return (await page(f"{given.url}/healthz"))[0] == status

        await wait_until(lambda: says(503), 15, "the stall is seen")
        breakable_kafka.resume()
        await wait_until(lambda: says(200), 30, "it is well again")
        await given.all_committed(6)
        assert len(await given.read(DELIVERIES)) == 6
        assert not worker.done()


@pytest.mark.kafka
async def test_a_killed_broker_is_waited_for(
    breakable_kafka: KafkaNode, topic_prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch that has begun is finished when the broker is back, by the same worker, and so are those that follow."""
    gate = Gate(monkeypatch)
    async with (
        lab(breakable_kafka.bootstrap_servers, topic_prefix, tmp_path) as given,
        running_worker(given.settings) as worker,
    ):
        gate.shut()
        door = Door()
        await given.send(deliveries(4, door))
        await asyncio.wait_for(gate.held.wait(), 10)
        await breakable_kafka.kill()
        gate.open()
        await breakable_kafka.start()
        await breakable_kafka.wait_ready()
        await given.send(deliveries(2, door))
        await given.all_committed(6)
        assert len(set(await given.read(DELIVERIES))) == 6
        assert not worker.done()

"""Offsets that lead nowhere: expired records, topics made anew, changelogs that were lost, and brokers that do not tell."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import structlog
from aiokafka import TopicPartition
from aiokafka.admin import NewPartitions, RecordsToDelete
from aiokafka.errors import KafkaTimeoutError, TopicAuthorizationFailedError
from faust.types import TP

from deploy.embedded.apache_kafka import KafkaNode
from kybstream.expired import Expired
from kybstream.kafka import ensure_topics, reading
from kybstream.unread import ExpiredUnreadError
from schemas.codec import decode
from schemas.expired import EXPIRED_UNREAD, expired_range
from schemas.records import DeadLetter
from schemas.topics import DEAD_LETTERS, DELIVERIES, RAW
from streams.batching import Output, starting
from streams.batching.errors import ChangelogLostError, TopicMismatchError
from streams.batching.rocks import RocksState
from streams.batching.starting import Starting, patiently
from streams.worker import INTAKE_TABLE, every_topic
from tests.streams.pipeline import Door
from tests.streams.running import PARTITIONS, Lab, crash_of, deliveries, lab, metric, running_worker, topics_are_there
from tests.support.waiting import wait_until


async def expire_all(given: Lab, topic: str) -> None:
    """Lets a topic forget all its records, as its retention does."""
    places = [TopicPartition(topic, number) for number in range(PARTITIONS)]
    async with reading(given.settings.kafka) as consumer:
        ends = await consumer.end_offsets(places)
    await given.admin.delete_records({place: RecordsToDelete(end) for place, end in ends.items() if end})


async def make_anew(given: Lab, *topics: str) -> None:
    """Deletes topics, and makes them again as they were."""
    await given.admin.delete_topics(list(topics))

    async def gone() -> bool:
        return not set(topics) & set(await given.admin.list_topics())

    await wait_until(gone, 15, "the topics are gone")
    configured = every_topic(given.settings)
    await ensure_topics(given.settings.kafka, {topic: configured[topic] for topic in topics})

    async def there() -> bool:
        return set(topics) <= set(await given.admin.list_topics())

    await wait_until(there, 15, "the topics are there")


async def told(given: Lab, count: int) -> None:
    """Waits until there are verdicts of so many deliveries."""

    async def there() -> bool:
        return len(await given.read(DELIVERIES)) == count

    await wait_until(there, 30, f"{count} verdicts")


@pytest.mark.kafka
async def test_records_that_expire_unread_are_told_once(apache_kafka: KafkaNode, topic_prefix: str, tmp_path: Path) -> None:
    """While no worker runs: an error with the range and a metric at the next start, with `stop` an end; then it goes on."""
    door = Door()
    async with lab(apache_kafka.bootstrap_servers, topic_prefix, tmp_path) as given:
        raw = given.settings.topic(RAW)
        await given.send(deliveries(6, door))
        async with running_worker(given.settings):
            await given.all_committed(6)
        await given.send(deliveries(24, door))
        await expire_all(given, raw)
        kafka = given.settings.kafka.model_copy(update={"expired_unread": "stop"})
        stopped = await crash_of(given.settings.model_copy(update={"kafka": kafka}))
        assert isinstance(stopped, ExpiredUnreadError)
        assert raw in stopped.message
        assert await given.read(DEAD_LETTERS) == []
        with structlog.testing.capture_logs() as logs:
            async with running_worker(given.settings):
                await given.all_committed(30)
                assert await metric(given.url, "kyb_worker_records_expired_unread_total", topic=raw) == 24
                await given.send(deliveries(5, door))
                await given.all_committed(35)
        expired = [line for line in logs if line["event"] == "records_expired_unread"]
        assert sum(line["last"] - line["first"] + 1 for line in expired) == 24
        assert {(line["log_level"], line["topic"], line["reader"]) for line in expired} == {("error", raw, "worker")}
        with structlog.testing.capture_logs() as logs:
            async with running_worker(given.settings):
                pass
        assert not [line for line in logs if line["event"] == "records_expired_unread"]
        assert len(await given.read(DELIVERIES)) == 11
        letters = [decode(value, DeadLetter) for value in await given.read(DEAD_LETTERS)]
        assert {(letter.stage, letter.reason, letter.origin_topic) for letter in letters} == {("intake", EXPIRED_UNREAD, raw)}
        ranges = [expired_range(raw, letter.detail or "") for letter in letters]
        assert set(ranges) == {Expired(raw, line["partition"], line["first"], line["last"]) for line in expired}
        assert len(ranges) == len(expired)


@pytest.mark.kafka
async def test_the_metrics_say_when_the_oldest_unread_record_expires(
    apache_kafka: KafkaNode, topic_prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While records wait; not of what is read."""
    from streams import retention  # noqa: PLC0415

    monkeypatch.setattr(retention, "LOOK_SECONDS", 0.2)
    async with lab(apache_kafka.bootstrap_servers, topic_prefix, tmp_path, commit_interval_seconds=20) as given:
        await given.admin.delete_topics([given.settings.topic(RAW)])
        raw = given.settings.topic(RAW)
        await wait_gone(given, raw)
        await ensure_topics(given.settings.kafka, {raw: every_topic(given.settings)[raw] | {"retention.ms": "3600000"}})
        await topics_are_there(given.settings, [raw])
        async with running_worker(given.settings):
            await given.send(deliveries(4))

            async def shown() -> bool:
                return bool(await metric(given.url, "kyb_worker_unread_expires_seconds", topic=raw))

            await wait_until(shown, 20, "the gauge is there")
            left = await metric(given.url, "kyb_worker_unread_expires_seconds", topic=raw)
            assert left is not None
            assert 3_400 * 1 <= left <= 3_600 * PARTITIONS


async def wait_gone(given: Lab, topic: str) -> None:
    """Waits until a topic is deleted."""

    async def gone() -> bool:
        return topic not in await given.admin.list_topics()

    await wait_until(gone, 15, "the topic is gone")


@pytest.mark.kafka
async def test_a_topic_made_anew_under_a_running_worker_is_read_from_its_beginning(
    apache_kafka: KafkaNode, topic_prefix: str, tmp_path: Path
) -> None:
    """Within seconds, with an error in the log; and by the next start of the worker, too."""
    door = Door()
    async with lab(apache_kafka.bootstrap_servers, topic_prefix, tmp_path) as given:
        raw = given.settings.topic(RAW)
        await given.send(deliveries(20, door))
        with structlog.testing.capture_logs() as logs:
            async with running_worker(given.settings):
                await given.all_committed(20)
                await make_anew(given, raw)
                await given.send(deliveries(4, door))
                await told(given, 24)
        # How it is noticed depends on whether Kafka's client has asked while there was none.
        assert {line["event"] for line in logs if line["log_level"] == "error"} & {"topic_made_anew", "topic_missing"}
        await given.send(deliveries(2, door))
        async with running_worker(given.settings):
            await told(given, 26)


@pytest.mark.kafka
async def test_partitions_added_to_a_topic_stop_the_worker_with_the_way_to_go_on(
    apache_kafka: KafkaNode, topic_prefix: str, tmp_path: Path
) -> None:
    """While it runs, as soon as it hears of them."""
    async with lab(apache_kafka.bootstrap_servers, topic_prefix, tmp_path) as given:
        raw = given.settings.topic(RAW)

        async def added() -> None:
            async with running_worker(given.settings) as running:
                await given.admin.create_partitions({raw: NewPartitions(PARTITIONS + 1)})
                await wait_until(running.done, 30, "it ends")

        with pytest.raises(TopicMismatchError, match=f"{raw} has more partitions than the {PARTITIONS}") as stopped:
            await added()
        assert "grow-partitions.md" in (stopped.value.hint or "")


@pytest.mark.kafka
async def test_a_lost_changelog_stops_the_worker_and_leaves_the_state_alone(
    apache_kafka: KafkaNode, topic_prefix: str, tmp_path: Path
) -> None:
    """It says how to go on, again after each restart."""
    async with lab(apache_kafka.bootstrap_servers, topic_prefix, tmp_path) as given:
        await given.send(deliveries(6))
        async with running_worker(given.settings):
            await given.all_committed(6)
        changelog = f"{given.settings.worker.group}-{INTAKE_TABLE}-changelog"
        await make_anew(given, changelog)
        for _ in range(2):
            error = await crash_of(given.settings)
            assert isinstance(error, ChangelogLostError)
            assert changelog in error.message
            assert "worker.data_dir" in (error.hint or "")
        folders = folders_of(Path(given.settings.worker.data_dir))
        state = RocksState(folders[0].parent)
        kept = [key for folder in folders for key, _ in state.scan(int(folder.name))]
        state.close()
        assert len(kept) == 6


def folders_of(data: Path) -> list[Path]:
    """Where the intake's state is, by partition."""
    return list(data.rglob(f"{INTAKE_TABLE}/[0-9]"))


class _Reader:
    """What `Starting` asks of a consumer and its app: one partition, of which ten offsets expired."""

    def __init__(self, failures: list[BaseException]) -> None:
        self.app = self.observer = self
        self.source_topics = {"t"}
        self.failures = failures
        self.sent: list[Output] = []
        self.begun_at: list[int] = []
        self.assignment = self.found(frozenset({TP("t", 0)}))
        self.next_offset = self.committed_offset = self.found(0)
        self.counted: list[Expired] = []
        self.records_expired = self.counted.append
        self.taken = asyncio.Event()
        self.taken.set()

    @staticmethod
    def found(answer: Any) -> Callable[..., Any]:
        """An answer to any question."""
        return lambda *_args: answer

    async def earliest_offsets(self, *places: TP) -> dict[TP, int]:
        """Where the topic begins."""
        return dict.fromkeys(places, 10)

    highwaters = earliest_offsets

    def tell_expired(self, expired: Expired) -> list[Output]:
        """One output of all that is gone."""
        return [Output("dead", None, b"%d %d" % (expired.first, expired.last))]

    async def publish(self, outputs: Sequence[Output]) -> None:
        """Fails as often as is wanted."""
        if self.failures:
            raise self.failures.pop()
        await self.taken.wait()
        self.sent += outputs

    async def begin_at(self, _tp: TP, offset: int) -> None:
        """Goes on."""
        assert self.sent, "it went on behind records of which Kafka has nothing"
        self.begun_at.append(offset)


async def test_nothing_goes_on_behind_expired_records_before_they_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A broker that does not take it is asked again; a rebalance in between makes the next one tell it."""
    monkeypatch.setattr(starting, "PAUSE_SECONDS", 0.0)
    reader = _Reader([asyncio.CancelledError(), KafkaTimeoutError(), TimeoutError()])
    compared = Starting(reader)  # type: ignore[arg-type]
    with pytest.raises(asyncio.CancelledError):
        await compared.compare()
    assert reader.begun_at == []
    assert reader.counted == []
    for _ in range(2):
        await compared.compare()
    assert [output.value for output in reader.sent] == [b"0 9"]
    assert reader.begun_at == [10, 10]
    assert reader.counted == [Expired("t", 0, 0, 9)]


async def test_who_meets_a_loss_that_is_being_told_waits() -> None:
    """New records come behind it while Kafka has not taken what is told: they are not delivered before."""
    reader = _Reader([])
    reader.taken.clear()
    compared = Starting(reader)  # type: ignore[arg-type]
    first, second = (asyncio.create_task(compared.tell(TP("t", 0), 0, 10)) for _ in range(2))
    done, _ = await asyncio.wait([first, second], timeout=0.1)
    assert not done
    reader.taken.set()
    assert await first
    assert await second
    assert len(reader.sent) == 1


async def test_offsets_are_asked_for_until_a_broker_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kafka's client gives up after a while; what will not change is raised, and a stop is not waited for."""
    monkeypatch.setattr(starting, "PAUSE_SECONDS", 0.0)
    place = TP("t", 0)
    failures: list[Exception] = [KafkaTimeoutError(), TimeoutError(), KafkaTimeoutError()]

    async def ask(*places: TP) -> Mapping[TP, int]:
        if failures:
            raise failures.pop()
        return dict.fromkeys(places, 7)

    assert await patiently(ask, [place], lambda: False) == {place: 7}
    failures.append(TopicAuthorizationFailedError("t"))
    with pytest.raises(TopicAuthorizationFailedError):
        await patiently(ask, [place], lambda: False)
    failures.append(KafkaTimeoutError())
    with pytest.raises(KafkaTimeoutError):
        await patiently(ask, [place], lambda: True)

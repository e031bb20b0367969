"""Records that expire before the sink has read them, on a real Kafka: told with their offsets, counted, and warned of."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest
import structlog
from aiokafka.admin.records_to_delete import RecordsToDelete
from aiokafka.structs import TopicPartition

from deploy.embedded.apache_kafka import KafkaNode
from kybstream.kafka import administering
from kybstream.settings import Settings
from kybstream.unread import ExpiredUnreadError
from schemas import topics
from schemas.records import DeadLetter
from sinks import offsets, writer
from sinks.run import run_sink
from tests.sinks.making import delivery, rows, settings_for
from tests.sinks.running import DEADLINE, landed, made, produce, running, with_sink
from tests.sinks.stuck_proxy import StuckProxy
from tests.sinks.watching import metrics_of, watched
from tests.support.waiting import wait_until

pytestmark = pytest.mark.kafka

WEEK_SECONDS = 7 * 86_400


@pytest.fixture
def settings(apache_kafka: KafkaNode, topic_prefix: str, clickhouse_server: str, database_name: str) -> Settings:
    """A sink's settings on the real Kafka."""
    return settings_for(clickhouse_server, database_name, bootstrap=apache_kafka.bootstrap_servers, prefix=topic_prefix)


async def _expire(settings: Settings, before: Mapping[int, int]) -> None:
    """As retention does: each partition of the deliveries begins at an offset from now on."""
    topic = settings.topic(topics.DELIVERIES)
    async with administering(settings.kafka) as admin:
        gone = {TopicPartition(topic, partition): RecordsToDelete(before_offset=offset) for partition, offset in before.items()}
        await admin.delete_records(gone)


def _told(logs: list[structlog.typing.EventDict]) -> list[tuple[int, int, int]]:
    """Partition, first and last offset of each error, sorted."""
    found = [entry for entry in logs if entry["event"] == "records_expired_unread"]
    assert all(entry["log_level"] == "error" and entry["reader"] == "sink" for entry in found)
    return sorted((entry["partition"], entry["first"], entry["last"]) for entry in found)


async def test_what_expired_while_no_sink_ran_is_told_and_may_stop_it(settings: Settings) -> None:
    """Of a partition with rows and of one without; `stop` stops each start, `continue` goes on with what is left, once told."""
    await made(settings)
    await produce(settings, [delivery(number) for number in range(10)])
    async with running(settings):
        await landed(settings, "deliveries", 10)
    for partition in (0, 1):
        await produce(settings, [delivery(100 * partition + number) for number in range(10, 30)], partition=partition)
    await _expire(settings, {0: 25, 1: 8})
    stopping = settings.model_copy(update={"kafka": settings.kafka.model_copy(update={"expired_unread": "stop"})})
    for _ in range(2):
        with pytest.raises(ExpiredUnreadError, match="expired before the sink read them"):
            await asyncio.wait_for(run_sink(stopping, stop=asyncio.Event()), DEADLINE)
    with structlog.testing.capture_logs() as logs:
        async with watched(settings) as url:
            await landed(settings, "deliveries", 10 + 5 + 12)
            topic = settings.topic(topics.DELIVERIES)
            await landed(settings, "dead_letters", 2)
            assert await metrics_of(url, "kyb_sink_expired_unread_total") == {topic: 15 + 8}
    assert _told(logs) == [(0, 10, 24), (1, 0, 7)]
    letters = await rows(settings.clickhouse, "SELECT stage, reason, origin_topic, detail FROM dead_letters ORDER BY detail")
    assert [tuple(letter.values()) for letter in letters] == [
        ("sink", "expired_unread", topic, "partition 0 offsets 10 to 24"),
        ("sink", "expired_unread", topic, "partition 1 offsets 0 to 7"),
    ]
    with structlog.testing.capture_logs() as logs:
        async with running(settings) as ready:
            await asyncio.wait_for(ready.wait(), DEADLINE)
    assert _told(logs) == []


async def test_a_partition_waits_until_its_loss_is_told(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until then the partition is not read, while others are, and a stop does not wait for it; then it counts once."""
    await made(settings)
    for partition in (0, 1):
        await produce(settings, [delivery(100 * partition + number) for number in range(10)], partition=partition)
    async with running(settings):
        await landed(settings, "deliveries", 20)
    for partition in (0, 1):
        await produce(settings, [delivery(100 * partition + number) for number in range(10, 30)], partition=partition)
    await _expire(settings, {0: 25})
    tell, away = writer.Writer.tell, asyncio.Event()

    async def not_now(self: writer.Writer, letter: DeadLetter) -> None:
        await away.wait()
        await tell(self, letter)

    monkeypatch.setattr(writer.Writer, "tell", not_now)
    with structlog.testing.capture_logs() as logs:
        async with running(settings):
            await landed(settings, "deliveries", 20 + 20)
        assert _told(logs) == [(0, 10, 24)]
        async with watched(settings) as url:
            await asyncio.sleep(1)
            assert await metrics_of(url, "kyb_sink_expired_unread_total") == {}
            away.set()
            await landed(settings, "deliveries", 20 + 20 + 5)
            await landed(settings, "dead_letters", 1)
            assert await metrics_of(url, "kyb_sink_expired_unread_total") == {settings.topic(topics.DELIVERIES): 15}


async def test_what_was_read_and_made_no_row_is_not_told_as_lost(settings: Settings) -> None:
    """Records at the end of a partition that became dead letters, and then expired: `stop` stops nothing."""
    await made(settings)
    await produce(settings, [delivery(number) for number in range(10)])
    await produce(settings, [b"no record of ours"] * 10, topics.DELIVERIES)
    async with running(settings):
        await landed(settings, "deliveries", 10)
        await landed(settings, "dead_letters", 1)

        async def committed() -> bool:
            async with administering(settings.kafka) as admin:
                offsets_of = await admin.list_consumer_group_offsets(settings.sink.group)
            return any(found.offset == 20 for place, found in offsets_of.items() if place.topic == topic)

        topic = settings.topic(topics.DELIVERIES)
        await wait_until(committed, DEADLINE, "the sink has committed behind them")
    await _expire(settings, {0: 20})
    stopping = settings.model_copy(update={"kafka": settings.kafka.model_copy(update={"expired_unread": "stop"})})
    with structlog.testing.capture_logs() as logs:
        async with running(stopping):
            await produce(settings, [delivery(30)])
            await landed(settings, "deliveries", 11)
    assert _told(logs) == []


async def test_what_expires_while_the_sink_waits_is_warned_of_and_told(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ClickHouse takes nothing: a metric says when the oldest record expires. What was read lands, all the rest is told."""
    monkeypatch.setattr(offsets, "UNREAD_EVERY_SECONDS", 0.5)
    await made(settings)
    await produce(settings, [delivery(number) for number in range(50)])
    topic = settings.topic(topics.DELIVERIES)
    async with StuckProxy(settings.clickhouse.url, 1).listening() as proxy:
        assert isinstance(proxy, StuckProxy)
        behind = settings.model_copy(update={"clickhouse": settings.clickhouse.model_copy(update={"url": proxy.url})})
        with structlog.testing.capture_logs() as logs:
            async with watched(with_sink(behind, flush_rows=10)) as url:

                async def paused() -> bool:
                    return (await metrics_of(url, "kyb_sink_paused")).get(f"0,{topic}") == 1

                async def warned() -> float | None:
                    return (await metrics_of(url, "kyb_sink_unread_expires_seconds")).get(f"0,{topic}")

                await wait_until(paused, DEADLINE, "it reads no further")
                for begin in range(50, 100, 10):  # the consumer fetches what comes first, and no more until that is read
                    await produce(settings, [delivery(number) for number in range(begin, begin + 10)])
                left = await wait_until(warned, DEADLINE, "the metric says when the oldest record expires")
                assert left is not None
                assert WEEK_SECONDS - 600 < left <= WEEK_SECONDS
                await _expire(settings, {0: 95})
                proxy.let_go()
                await wait_until(lambda: _told(logs), DEADLINE, "it is told when the sink goes on")
                ((_, first, last),) = _told(logs)
                assert (first >= 50, last) == (True, 94)
                await landed(settings, "deliveries", first + 5)
                assert await metrics_of(url, "kyb_sink_expired_unread_total") == {topic: 95 - first}
    found = await rows(settings.clickhouse, "SELECT _offset FROM deliveries ORDER BY _offset", final=False)
    assert [row["_offset"] for row in found] == [*range(first), *range(95, 100)]
    assert len(_told(logs)) == 1

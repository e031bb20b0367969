"""What expires before it is read is found, told once, and foreseen."""

from __future__ import annotations

import pytest
import structlog
from aiokafka import TopicPartition
from aiokafka.admin import RecordsToDelete

from deploy.embedded.apache_kafka import KafkaNode
from kybstream.expired import Expired, ExpiredUnread
from kybstream.kafka import administering, durable_producer, ensure_topics
from kybstream.settings import KafkaSettings
from kybstream.unread import ExpiredUnreadError, TopicState, look_at_topics, seconds_left, tell_expired

PLACE = ("raw", 3)


class TestFinding:
    """`ExpiredUnread.find`, which is pure."""

    def test_nothing_is_gone_while_the_reader_is_not_behind_the_beginning(self) -> None:
        """At the beginning, beyond it, and with nothing deleted yet."""
        found = ExpiredUnread()
        assert found.find(PLACE, 10, 10) is None
        assert found.find(PLACE, 11, 10) is None
        assert found.find(PLACE, None, 0) is None

    @pytest.mark.parametrize(("next_offset", "first"), [(4, 4), (0, 0), (None, 0)])
    def test_what_is_gone_is_told_once(self, next_offset: int | None, first: int) -> None:
        """Looking again tells nothing, and when more is gone only that; of a group without a commit it is everything."""
        found = ExpiredUnread()
        gone = found.find(PLACE, next_offset, 10)
        assert gone == Expired("raw", 3, first, 9)
        assert gone.records == 10 - first
        assert found.find(PLACE, next_offset, 10) == gone
        found.told(gone)
        assert found.find(PLACE, next_offset, 10) is None
        assert found.find(PLACE, next_offset, 12) == Expired("raw", 3, 10, 11)
        assert found.find(("raw", 4), next_offset, 10) == Expired("raw", 4, first, 9)
        found.forget(PLACE)
        assert found.find(PLACE, 0, 2) == Expired("raw", 3, 0, 1)


@pytest.mark.parametrize(
    ("oldest_ms", "retention_ms", "left"),
    [(1_000, 60_000, 51.0), (1_000, 8_000, 0.0), (1_000, None, None), (None, 60_000, None)],
)
def test_the_time_left_counts_from_the_oldest_unread_record(
    oldest_ms: int | None, retention_ms: int | None, left: float | None
) -> None:
    """It is never negative, and there is none without an unread record or without a retention."""
    assert seconds_left(TopicState(0, 5, oldest_ms, retention_ms), now_ms=10_000) == left


def test_the_setting_says_whether_to_go_on() -> None:
    """An error is logged in either case; `stop` raises with the range and the way to go on."""
    with structlog.testing.capture_logs() as logs:
        tell_expired(Expired("raw", 3, 4, 9), KafkaSettings(), "worker")
        with pytest.raises(ExpiredUnreadError, match="offsets 4 to 9") as stopped:
            tell_expired(Expired("raw", 3, 4, 9), KafkaSettings(expired_unread="stop"), "worker")
    assert "continue" in (stopped.value.hint or "")
    assert [(log["log_level"], log["first"], log["last"], log["records"]) for log in logs] == [("error", 4, 9, 6)] * 2


@pytest.mark.kafka
async def test_a_look_says_what_a_topic_still_has(apache_kafka: KafkaNode, topic_prefix: str) -> None:
    """Beginning, end, the oldest unread record's time and the retention; no time of what is read or kept for ever."""
    kafka = KafkaSettings(bootstrap_servers=apache_kafka.bootstrap_servers, partitions=3)
    aged, kept = f"{topic_prefix}aged", f"{topic_prefix}kept"
    await ensure_topics(kafka, {aged: {"retention.ms": "-1"}, kept: {"cleanup.policy": "compact"}})
    await ensure_topics(kafka, {f"{aged}-2": {"retention.ms": "3600000000"}})
    async with durable_producer(kafka) as producer:
        for topic in (aged, f"{aged}-2", kept):
            for number in range(5):
                await producer.send_and_wait(topic, b"x" * 100_000, b"k", partition=1, timestamp_ms=1_700_000_000_000 + number)
    async with administering(kafka) as admin:
        await admin.delete_records({TopicPartition(f"{aged}-2", 1): RecordsToDelete(2)})
    looked = await look_at_topics(
        kafka,
        {
            (f"{aged}-2", 0): None,
            (f"{aged}-2", 1): None,
            (aged, 1): 3,
            (kept, 1): 5,
            (f"{topic_prefix}none", 0): 7,
        },
    )
    assert looked == {
        (f"{aged}-2", 0): TopicState(0, 0, None, 3_600_000_000),
        (f"{aged}-2", 1): TopicState(2, 5, 1_700_000_000_002, 3_600_000_000),
        (aged, 1): TopicState(0, 5, 1_700_000_000_003, None),
        (kept, 1): TopicState(0, 5, None, None),
    }

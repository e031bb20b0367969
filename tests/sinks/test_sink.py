from __future__ import annotations

import asyncio

import pytest
import structlog
from aiokafka import AIOKafkaConsumer

from deploy.embedded.ports import free_port
from kybstream.errors import RunError
from kybstream.kafka import reading
from kybstream.settings import Settings
from schemas import topics
from schemas.codec import HEADER_SIZE, decode, encode
from schemas.records import DeadLetter, Record
from sinks.migrate import migrate, migrations
from sinks.query import query
from sinks.run import run_sink
from sinks.tables import TABLES
from tests.sinks.making import case, dead_letter, delivery, event, rejection, replay, rows, settings_for
from tests.sinks.running import DEADLINE, landed, produce, row_count, running, with_sink


async def test_each_topic_lands_in_its_table_and_a_restart_adds_nothing(settings: Settings) -> None:
    """Records of all six kinds, also a single one; after a stop and a start there is still one row each."""
    others: list[Record] = [event(1), case("c1"), dead_letter(1), rejection(1), replay(1)]
    made: list[Record] = [*others, *(delivery(number) for number in range(50))]
    await produce(settings, made)
    for _ in range(2):
        async with running(settings):
            await landed(settings, "deliveries", 50)
            for table in ("events", "cases", "dead_letters", "rejections", "replays"):
                await landed(settings, table, 1)
    await produce(settings, [delivery(50)])
    async with running(settings):
        await landed(settings, "deliveries", 51)
    assert await row_count(settings, "deliveries") == 51
    assert [await row_count(settings, table.name) for table in TABLES] == [51, 1, 1, 1, 1, 1]


async def test_a_stop_writes_the_tail(settings: Settings) -> None:
    """What was read but not due yet is written at a stop."""
    slow = with_sink(settings, flush_seconds=60.0, flush_rows=2)
    async with running(slow):
        await produce(slow, [delivery(1)])
        await landed(slow, "deliveries", 1)  # the first does not wait; the next would, for a minute
        await produce(slow, [delivery(2), delivery(3), delivery(4)])
        await landed(slow, "deliveries", 3)  # a full batch; the last came with it and waits
        assert await row_count(slow, "deliveries") == 3
    assert await row_count(slow, "deliveries") == 4


async def test_a_stop_does_not_wait_for_partitions(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """A group may take minutes to give them out, as after a kill: a sink that waits for them ends at once."""
    waits, cancelled = asyncio.Event(), asyncio.Event()

    async def start(_self: AIOKafkaConsumer) -> None:
        waits.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    original = AIOKafkaConsumer.start

    async def start_groups_later(self: AIOKafkaConsumer) -> None:
        await (original(self) if self._group_id is None else start(self))

    monkeypatch.setattr(AIOKafkaConsumer, "start", start_groups_later)
    stop = asyncio.Event()
    sink = asyncio.create_task(run_sink(settings, stop=stop))
    async with asyncio.timeout(20):
        await waits.wait()
    stop.set()
    async with asyncio.timeout(8):
        await sink
    assert cancelled.is_set()


async def test_a_bad_record_goes_to_the_dead_letters_and_its_neighbours_land(settings: Settings) -> None:
    """Bytes that are no record, another kind, a cut body, a damaged length: all in the dead letters; the neighbours land."""
    good = [encode(delivery(number)) for number in range(7)]
    cut = encode(delivery(99))[: HEADER_SIZE + 3]
    huge = encode(delivery(98))[:HEADER_SIZE] + b"\xfe\xff\xff\xff\xff\xff\x3f" + b"delivery"  # a text of some 2**47 bytes
    poison = [b"not avro", encode(event(1)), cut, huge]
    values = [*good[:2], poison[0], *good[2:4], poison[1], *good[4:6], poison[2], good[6], poison[3]]
    await produce(settings, values, topics.DELIVERIES)
    await produce(settings, [delivery(number) for number in range(100, 112)], partition=1)  # healthy, in the same insert
    async with running(settings):
        await landed(settings, "deliveries", 19)
        await landed(settings, "dead_letters", 4)
    ordered = "SELECT _partition, _offset FROM deliveries ORDER BY _partition, _offset"
    found = await rows(settings.clickhouse, ordered, final=False)
    assert [row["_offset"] for row in found] == [0, 1, 3, 4, 6, 7, 9, *range(12)]
    dead = await rows(settings.clickhouse, "SELECT stage, reason, origin_topic, body_size FROM dead_letters ORDER BY reason")
    assert [(row["stage"], row["reason"]) for row in dead] == [
        ("sink", "bad_body"),
        ("sink", "bad_body"),
        ("sink", "not_avro"),
        ("sink", "wrong_record"),
    ]
    letters = await _read_dead_letters(settings, 4)
    assert sorted(letter.origin_value or b"" for letter in letters) == sorted(poison)
    assert {letter.origin_topic for letter in letters} == {settings.topic(topics.DELIVERIES)}
    assert [letter.origin_headers for letter in letters] == [{"ce_id": b"1"}] * 4


async def _read_dead_letters(settings: Settings, count: int) -> list[DeadLetter]:
    found: list[DeadLetter] = []
    topic = settings.topic(topics.DEAD_LETTERS)
    async with reading(settings.kafka, auto_offset_reset="earliest") as consumer:
        consumer.subscribe([topic])
        async with asyncio.timeout(DEADLINE):
            while len(found) < count:
                for messages in (await consumer.getmany(timeout_ms=200)).values():
                    found += [decode(message.value, DeadLetter) for message in messages]
    return found


async def test_missing_tables_and_topics_are_named_before_anything_is_read(
    noida_broker: str, topic_prefix: str, clickhouse_server: str, database_name: str
) -> None:
    """Without a migrate the sink ends at once and says what to run."""
    settings = settings_for(clickhouse_server, database_name, bootstrap=noida_broker, prefix=topic_prefix)
    with pytest.raises(RunError, match="lacks 0001_deliveries") as caught:
        await run_sink(settings, stop=asyncio.Event())
    assert "kyb-stream migrate" in (caught.value.hint or "")
    await migrate(settings.clickhouse)
    with pytest.raises(RunError, match=r"lacks the topics .*cases\.v1"):
        await run_sink(settings, stop=asyncio.Event())


async def test_a_database_of_an_older_version_is_refused(settings: Settings) -> None:
    """A newer sink names the migrations that it misses, and what to run; it writes nothing."""
    newest = migrations()[-1]
    await query(settings.clickhouse, f"DELETE FROM schema_migrations WHERE number = {newest.number}")  # noqa: S608
    with pytest.raises(RunError, match=f"lacks {newest}") as caught:
        await run_sink(settings, stop=asyncio.Event())
    assert "kyb-stream migrate" in (caught.value.hint or "")


async def test_a_stop_while_kafka_and_clickhouse_are_away_is_quick() -> None:
    """Nobody answers: the sink waits, and ends when told to."""
    settings = settings_for(f"http://127.0.0.1:{free_port()}", "kyb", bootstrap=f"127.0.0.1:{free_port()}")
    async with running(settings) as ready:
        await asyncio.sleep(0)
        assert not ready.is_set()


_HOSTILE = "line\nfeed, \r return, \u2028 separator, \0 null, \x1b[2J escape, 'quotes\"`, back\\slash, \t tab, \x85 next"


async def test_no_character_of_an_id_has_a_partition_read_again(settings: Settings) -> None:
    """Ids are compared with the topic's as they are: whatever is in them, a restart goes on behind the newest row."""
    await produce(settings, [case(_HOSTILE), case(_HOSTILE + "\n")])
    await produce(settings, [delivery(1, delivery_id=_HOSTILE)])
    await produce(settings, [event(1, event_id=_HOSTILE + "\n1")])
    async with running(settings):
        await landed(settings, "cases", 2)
        await landed(settings, "deliveries", 1)
        await landed(settings, "events", 1)
    with structlog.testing.capture_logs() as logs:
        async with running(settings) as ready:
            await asyncio.wait_for(ready.wait(), DEADLINE)
    whys = {(str(entry["topic"]).partition(".")[2], entry["why"]) for entry in logs if entry["event"] == "sink.resumed"}
    assert {why for _, why in whys} == {"continues", "empty_table"}
    assert sum(why == "continues" for _, why in whys) == 3

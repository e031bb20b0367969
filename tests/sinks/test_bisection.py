from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kybstream.errors import RunError
from kybstream.kafka import reading
from kybstream.settings import Settings
from schemas import topics
from schemas.codec import decode
from schemas.records import DeadLetter, Delivery
from sinks.errors import RefusedError
from sinks.framing import Unframable
from sinks.limit import REJECTED, RejectionLimit, RejectionLimitError
from sinks.metrics import SinkMetrics
from sinks.query import query
from sinks.run import run_sink
from sinks.writer import Writer
from tests.sinks.making import NO_PRODUCER, FakeMessage, delivery, rows, settings_for, table_of
from tests.sinks.running import DEADLINE, landed, produce, row_count, running, with_sink
from tests.sinks.stuck_proxy import StuckProxy
from tests.support.waiting import wait_until

PRIVATE = "ada@example.com"
COUNT = 120
POISON = frozenset({0, 57, 58, 90, COUNT - 1})
HEALTHY = [number for number in range(COUNT) if number not in POISON]
PARTITIONS = 2


async def _produce_deliveries(settings: Settings) -> None:
    """Even numbers on one partition, odd ones on the other: an insert holds some of both."""
    for partition in range(PARTITIONS):
        made = [delivery(number, entity_key=PRIVATE if number in POISON else None) for number in range(COUNT)]
        await produce(settings, made[partition::PARTITIONS], partition=partition)


async def _refuse_private(settings: Settings) -> None:
    """From now on ClickHouse rejects records, and quotes a value of theirs, that are right by their schema."""
    await query(settings.clickhouse, "ALTER TABLE deliveries MODIFY COLUMN entity_key Nullable(UUID)")
    await query(settings.clickhouse, "SYSTEM STOP MERGES deliveries")  # a merge would hide what landed twice


async def _landed(settings: Settings) -> list[int]:
    """The numbers of the rows in the table, repeats among them."""
    found = await rows(settings.clickhouse, "SELECT delivery_id FROM deliveries ORDER BY delivery_id", final=False)
    return [int(str(row["delivery_id"])[-6:]) for row in found]


async def _dead_letters(settings: Settings) -> list[DeadLetter]:
    async with reading(settings.kafka, auto_offset_reset="earliest") as consumer:
        consumer.subscribe([settings.topic(topics.DEAD_LETTERS)])
        found: list[DeadLetter] = []
        ends: dict[object, int] = {}
        async with asyncio.timeout(DEADLINE):
            while not ends or any([await consumer.position(place) < end for place, end in ends.items()]):
                for messages in (await consumer.getmany(timeout_ms=100)).values():
                    found += [decode(message.value, DeadLetter) for message in messages]
                ends = await consumer.end_offsets(consumer.assignment()) if consumer.assignment() else {}
    return found


def _numbers(letters: list[DeadLetter]) -> set[int]:
    return {int(decode(letter.origin_value or b"", Delivery).delivery_id[-6:]) for letter in letters}


async def test_records_that_clickhouse_rejects_are_isolated(settings: Settings) -> None:
    """First, last, neighbours: each is alone in the dead letters, with ClickHouse's error and no value; others land once."""
    await _refuse_private(settings)
    await _produce_deliveries(settings)
    for _ in range(2):  # the last one is seen again after a restart: the same dead letter
        async with running(with_sink(settings, flush_rows=COUNT, flush_seconds=0.5)) as ready:
            await asyncio.wait_for(ready.wait(), DEADLINE)
            await landed(settings, "deliveries", len(HEALTHY))
            await landed(settings, "dead_letters", len(POISON))
    assert await _landed(settings) == HEALTHY
    dead = await rows(settings.clickhouse, "SELECT stage, reason, detail FROM dead_letters")
    said = "CANNOT_PARSE_UUID (code 376): a value cannot be read as its column's type"
    assert [tuple(row.values()) for row in dead] == [("sink", REJECTED, said)] * len(POISON)
    assert _numbers(await _dead_letters(settings)) == POISON


def test_clickhouses_words_are_told_without_values() -> None:
    """Its error's name, and the columns it names; nothing else of what it says."""
    writer = Writer(
        settings_for("http://127.0.0.1:1", "kyb"),
        None,
        NO_PRODUCER,
        {"deliveries": frozenset({"body_size", "tenant"})},
        SinkMetrics(),
    )
    words = f"Code: 469. DB::Exception: Constraint `c` is violated. Column values: body_size = 666, x = '{PRIVATE}'."
    assert writer._said(table_of(Delivery), RefusedError(words, code=469)) == (
        "VIOLATED_CONSTRAINT (code 469): a constraint of the table refuses it; it names body_size"
    )


async def test_a_crash_at_any_point_of_the_search_loses_and_repeats_nothing(settings: Settings) -> None:
    """Again and again the process ends in the middle, not knowing whether a half has landed: the next one goes on there."""
    await _refuse_private(settings)
    await _produce_deliveries(settings)
    for answered in (1, 3, 8, 5):
        async with StuckProxy(settings.clickhouse.url, answered).listening() as proxy:
            assert isinstance(proxy, StuckProxy)
            behind = settings.clickhouse.model_copy(update={"url": proxy.url})
            life = with_sink(settings.model_copy(update={"clickhouse": behind}), flush_rows=COUNT, group=f"life-{answered}")
            sink = asyncio.create_task(run_sink(life, stop=asyncio.Event()))

            async def stuck_or_done(proxy: StuckProxy = proxy) -> bool:
                done = await row_count(settings, "deliveries") == len(HEALTHY) and await row_count(settings, "dead_letters") > 0
                return proxy.stuck.is_set() or done

            await wait_until(stuck_or_done, DEADLINE, "an answer is kept back")
            sink.cancel()
            await asyncio.gather(sink, return_exceptions=True)
            proxy.let_go()
        there = await _landed(settings)
        passed_over = {bad for bad in POISON if any(good > bad and (good - bad) % PARTITIONS == 0 for good in there)}
        assert passed_over <= _numbers(await _dead_letters(settings)), (
            "a record is in neither place, and will not be read again"
        )
    async with running(with_sink(settings, group="last-life")):
        await landed(settings, "deliveries", len(HEALTHY))
        await landed(settings, "dead_letters", len(POISON))
    assert await _landed(settings) == HEALTHY
    assert _numbers(await _dead_letters(settings)) == POISON


async def test_when_most_are_rejected_the_sink_stops(settings: Settings) -> None:
    """Exit code 1 and what to compare; half a window is in the dead letters, the others land when it is mended."""
    await _refuse_private(settings)
    await produce(settings, [delivery(number, entity_key=PRIVATE) for number in range(60)])
    limited = with_sink(settings, dead_letter_share=0.5, dead_letter_window=20, flush_rows=60, flush_seconds=0.5)
    with pytest.raises(RunError, match=r"more than 0.5 of 20 neighbouring records .* CANNOT_PARSE_UUID .* offset 10,") as stop:
        async with asyncio.timeout(DEADLINE):
            await run_sink(limited, stop=asyncio.Event())
    assert isinstance(stop.value, RejectionLimitError)
    assert stop.value.exit_code == 1
    assert PRIVATE not in stop.value.message
    assert "another than this version" in (stop.value.hint or "")
    assert len(await _dead_letters(settings)) == 10
    assert await row_count(settings, "deliveries") == 0
    await query(settings.clickhouse, "ALTER TABLE deliveries MODIFY COLUMN entity_key Nullable(String)")
    async with running(with_sink(settings, dead_letter_share=1.0)):
        await landed(settings, "deliveries", 60)  # nothing had landed: it goes on at the beginning


async def test_bytes_that_are_no_records_count_too(settings: Settings) -> None:
    """A topic full of what is no record stops the sink before any of it is dead-lettered."""
    await produce(settings, [b"not avro %d" % number for number in range(30)], topics.DELIVERIES)
    limited = with_sink(settings, dead_letter_share=0.5, dead_letter_window=20, flush_rows=30, flush_seconds=0.5)
    with pytest.raises(RejectionLimitError, match="for not_avro"):
        async with asyncio.timeout(DEADLINE):
            await run_sink(limited, stop=asyncio.Event())
    assert await _dead_letters(settings) == []


@given(
    rejected=st.lists(st.booleans(), max_size=40),
    window=st.integers(1, 12),
    share=st.sampled_from([0.01, 0.25, 0.5, 0.75, 1.0]),
    batch=st.integers(1, 15),
)
def test_the_limit_is_a_share_of_any_window_of_neighbours(rejected: list[bool], window: int, share: float, batch: int) -> None:
    """It stops at the first record with which some `window` neighbours have more than the share, in batches of any size."""
    limit = RejectionLimit("deliveries", share=share, window=window)
    bad = [Unframable(FakeMessage(0, b""), REJECTED, "")]
    for begin in range(0, len(rejected), batch):
        first = limit.begin(len(rejected[begin : begin + batch]))
        assert first == begin
        for number in range(begin, min(begin + batch, len(rejected))):
            if not rejected[number]:
                continue
            too_many = sum(rejected[max(0, number - window + 1) : number + 1]) > share * window
            if too_many:
                with pytest.raises(RejectionLimitError):
                    limit.reject([number], bad)
                return
            limit.reject([number], bad)

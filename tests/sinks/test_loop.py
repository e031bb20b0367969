from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager

import pytest
import structlog
from aiokafka import TopicPartition
from aiokafka.structs import OffsetAndMetadata

from kybstream.errors import RunError
from kybstream.topic_ids import note_of
from schemas.records import DeadLetter
from sinks import consumer as loop_module
from sinks import offsets
from sinks.consumer import SinkLoop
from sinks.framing import Message
from sinks.metrics import SinkMetrics
from sinks.resume import Resume
from sinks.tables import Table
from sinks.writer import Written
from tests.sinks.making import FakeMessage, settings_for
from tests.support.waiting import wait_until

DELIVERIES, EVENTS = "kyb.deliveries.v1", "kyb.events.v1"


class _Topics:
    """What the loop sees of an aiokafka consumer: records that were put here, of partitions that are not paused."""

    def __init__(self) -> None:
        self._records: dict[TopicPartition, list[Message]] = {}
        self._paused: set[TopicPartition] = set()
        self.committed: dict[TopicPartition, int] = {}
        self.places: dict[TopicPartition, int] = {}
        self.ends_answered = 0
        self.end_under_way: Callable[[], None] = lambda: None
        self.ids: dict[TopicPartition, str] = {}
        self.notes: dict[TopicPartition, str] = {}
        self._client = self._coordinator = self

    async def fetch_committed_offsets(self, places: Collection[TopicPartition]) -> dict[TopicPartition, OffsetAndMetadata]:
        return {place: OffsetAndMetadata(0, self.notes[place]) for place in places if place in self.notes}

    def put(self, topic: str, partition: int, records: int) -> None:
        """So many records follow those that the partition has."""
        place = TopicPartition(topic, partition)
        first = self.places.get(place, 0)
        self.places[place] = first + records
        new = [FakeMessage(offset, b"value", topic, partition) for offset in range(first, first + records)]
        self._records.setdefault(place, []).extend(new)

    async def getmany(self, *places: TopicPartition, timeout_ms: int) -> dict[TopicPartition, list[Message]]:
        await asyncio.sleep(min(timeout_ms, 1) / 1000)
        return {place: self._records.pop(place) for place in places if place in self._records and place not in self._paused}

    def pause(self, place: TopicPartition) -> None:
        self._paused.add(place)

    def resume(self, place: TopicPartition) -> None:
        self._paused.discard(place)

    def seek(self, place: TopicPartition, offset: int) -> None:
        new = [
            FakeMessage(number, b"value", place.topic, place.partition) for number in range(offset, self.places.get(place, 0))
        ]
        self._records[place] = list(new)
        if not new:
            del self._records[place]

    def highwater(self, place: TopicPartition) -> int:
        return self.places[place]

    async def end_offsets(self, places: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        found = {place: self.places.get(place, 0) for place in places}
        self.end_under_way()
        await asyncio.sleep(0.05)  # the answer is on its way
        self.ends_answered += 1
        return found

    async def commit(self, offsets: dict[TopicPartition, OffsetAndMetadata]) -> None:
        self.committed |= {place: each.offset for place, each in offsets.items()}
        self.notes |= {place: each.metadata for place, each in offsets.items()}


class _Table:
    """What the loop sees of a writer: it remembers each write, and answers when `answer` is set."""

    def __init__(self) -> None:
        self.slots = 4
        self.last_insert = None
        self.settled: Counter[tuple[str, int]] = Counter()
        self.writes: list[dict[tuple[str, int], list[int]]] = []
        self.answer = asyncio.Event()
        self.answer.set()

    async def write(self, table: Table, messages: Sequence[Message]) -> Written:
        write: dict[tuple[str, int], list[int]] = {}
        for message in messages:
            write.setdefault((message.topic, message.partition), []).append(message.offset)
        assert list(write) == sorted(write)
        assert {topic.partition(".")[2] for topic, _ in write} == {table.topic}
        self.writes.append(write)
        await self.answer.wait()
        return Written(rows=len(messages), dead=0)

    async def tell(self, letter: DeadLetter) -> None:
        raise AssertionError(letter)


class _Running:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.topics, self.table = _Topics(), _Table()
        self.asked: list[set[TopicPartition]] = []
        self.landed = 0
        settings = settings_for("http://127.0.0.1:1", "kyb", flush_rows=10, flush_seconds=0.2)
        self.loop = SinkLoop(settings, self.topics, None, self.table, SinkMetrics())  # type: ignore[arg-type]

        async def resume_points(_settings: object, _client: object, wanted: Collection[TopicPartition]) -> dict[object, Resume]:
            self.asked.append(set(wanted))
            return {place: Resume(self.landed, "continues" if self.landed else "empty_table") for place in wanted}

        async def topic_ids(_client: object, wanted: Collection[TopicPartition]) -> dict[TopicPartition, str]:
            return {place: self.topics.ids[place] for place in wanted if self.topics.ids.get(place)}

        monkeypatch.setattr(offsets, "resume_points", resume_points)
        monkeypatch.setattr(offsets, "topic_ids", topic_ids)

    @asynccontextmanager
    async def __call__(self, places: Collection[tuple[str, int]]) -> AsyncIterator[None]:
        stop, ready = asyncio.Event(), asyncio.Event()
        self.loop.on_partitions_assigned([TopicPartition(*place) for place in places])
        task = asyncio.create_task(self.loop.run(stop, ready.set))
        await asyncio.wait_for(ready.wait(), 5)
        try:
            yield
        finally:
            self.table.answer.set()
            stop.set()
            await asyncio.wait_for(task, 5)
        ours = self.loop.standings()
        assert self.topics.committed.items() >= {(place, end) for place, end in self.topics.places.items() if place in ours}

    async def until_writes(self, number: int) -> None:
        """Waits until so many have begun."""
        await wait_until(lambda: len(self.table.writes) >= number, 5, f"{number} writes")


@pytest.fixture
def running(monkeypatch: pytest.MonkeyPatch) -> _Running:
    """A loop between doubles of Kafka and ClickHouse, with 10 rows an insert."""
    return _Running(monkeypatch)


async def test_what_waits_for_one_table_is_one_insert(running: _Running) -> None:
    """Whoever is due takes its neighbours along, each from where it was; another table's records go into one of their own."""
    async with running([(DELIVERIES, 0), (DELIVERIES, 1), (DELIVERIES, 2), (EVENTS, 0)]):
        running.topics.put(DELIVERIES, 0, 2)
        running.topics.put(DELIVERIES, 1, 3)
        running.topics.put(EVENTS, 0, 1)
        await running.until_writes(2)
        assert sorted(running.table.writes, key=len) == [
            {(EVENTS, 0): [0]},
            {(DELIVERIES, 0): [0, 1], (DELIVERIES, 1): [0, 1, 2]},
        ]
        running.topics.put(DELIVERIES, 2, 1)  # due at once: it had no insert yet, and what the others get goes with it
        running.topics.put(DELIVERIES, 0, 1)
        await running.until_writes(3)
        assert running.table.writes[2] == {(DELIVERIES, 0): [2], (DELIVERIES, 2): [0]}


async def test_an_insert_holds_no_more_than_flush_rows(running: _Running) -> None:
    """Whose records do not all fit into what is left goes into the next."""
    async with running([(DELIVERIES, 0), (DELIVERIES, 1), (DELIVERIES, 2)]):
        running.table.answer.clear()
        for partition, records in enumerate((4, 7, 6)):
            running.topics.put(DELIVERIES, partition, records)
        await running.until_writes(2)
        assert running.loop.buffered_bytes() == (4 + 7 + 6) * len(b"value")
        assert running.table.writes == [
            {(DELIVERIES, 0): list(range(4)), (DELIVERIES, 2): list(range(6))},
            {(DELIVERIES, 1): list(range(7))},
        ]


async def test_a_partition_is_in_one_insert_at_a_time(running: _Running) -> None:
    """While its insert has no answer, others go on without it."""
    async with running([(DELIVERIES, 0), (DELIVERIES, 1)]):
        running.table.answer.clear()
        running.topics.put(DELIVERIES, 0, 1)
        await running.until_writes(1)
        running.topics.put(DELIVERIES, 0, 12)
        running.topics.put(DELIVERIES, 1, 1)
        await running.until_writes(2)
        assert running.table.writes == [{(DELIVERIES, 0): [0]}, {(DELIVERIES, 1): [0]}]
        running.table.answer.set()
        await running.until_writes(3)
        assert running.table.writes[2] == {(DELIVERIES, 0): list(range(1, 11))}


async def test_who_shared_an_abandoned_insert_asks_the_table_again(running: _Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """One of two goes to another process while their insert has no answer: the other begins where the table says."""
    monkeypatch.setattr(loop_module, "REVOKE_SECONDS", 0.05)
    goes, stays = TopicPartition(DELIVERIES, 0), TopicPartition(DELIVERIES, 1)
    async with running([goes, stays]):
        running.table.answer.clear()
        running.topics.put(DELIVERIES, 0, 2)
        running.topics.put(DELIVERIES, 1, 3)
        await running.until_writes(1)
        await running.loop.on_partitions_revoked([goes])
        running.table.answer.set()
        await running.until_writes(2)
    assert running.asked == [{goes, stays}, {stays}]
    assert running.table.writes == [{tuple(goes): [0, 1], tuple(stays): [0, 1, 2]}, {tuple(stays): [0, 1, 2]}]


async def test_an_end_that_was_asked_for_before_the_last_records_is_no_reason_to_doubt(
    running: _Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Records are read while the answer is on its way: it is below the position then, and the topic is as it was."""
    monkeypatch.setattr(offsets, "ENDS_EVERY_SECONDS", 0.001)
    running.topics.end_under_way = lambda: running.topics.put(DELIVERIES, 0, 3)
    with structlog.testing.capture_logs() as logs:
        async with running([(DELIVERIES, 0)]):
            await wait_until(lambda: running.topics.ends_answered >= 5, 5, "five answers")
            running.topics.end_under_way = lambda: None
            await wait_until(lambda: running.loop.standings()[DELIVERIES, 0].lag == 0, 5, "all is written")
    assert len(running.asked) == 1
    assert not [entry for entry in logs if entry["event"] == "sink.topic_went_back"]


async def test_a_topic_that_ends_before_what_was_read_is_compared_with_the_table(
    running: _Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was made anew, and holds less than was read: what it holds is read from where the table says."""
    monkeypatch.setattr(offsets, "ENDS_EVERY_SECONDS", 0.001)
    place = TopicPartition(DELIVERIES, 0)
    async with running([place]):
        running.topics.put(DELIVERIES, 0, 5)
        await running.until_writes(1)
        running.topics.places[place] = 2
        await wait_until(lambda: len(running.asked) == 2, 5, "the table is asked again")
        await running.until_writes(2)
    assert running.table.writes == [{tuple(place): [0, 1, 2, 3, 4]}, {tuple(place): [0, 1]}]


async def test_a_topic_with_another_id_is_read_from_its_beginning_whatever_the_table_says(
    running: _Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is as long as the one before, so its end says nothing; what is committed names the topic that it is of."""
    monkeypatch.setattr(offsets, "ENDS_EVERY_SECONDS", 0.001)
    place = TopicPartition(DELIVERIES, 0)
    running.topics.ids[place] = "A" * 22
    async with running([place]):
        running.topics.put(DELIVERIES, 0, 5)
        await running.until_writes(1)
        await wait_until(lambda: running.topics.notes.get(place) == note_of("A" * 22), 5, "it is committed")
        running.landed = 5
        running.topics.ids[place] = "B" * 22
        await running.until_writes(2)
        await wait_until(lambda: running.topics.notes.get(place) == note_of("B" * 22), 5, "it is committed")
    assert running.table.writes == [{tuple(place): [0, 1, 2, 3, 4]}] * 2


@pytest.mark.parametrize(
    ("committed", "told", "begins"),
    [
        (note_of("A" * 22), "A" * 22, 5),
        (note_of("A" * 22), "B" * 22, 0),  # who committed it was killed before it had noticed
        (note_of("A" * 22), "", 5),  # a broker that tells no ids
        ("", "B" * 22, 5),  # an older version committed it
    ],
)
async def test_what_is_committed_says_of_which_topic_the_table_is(
    running: _Running, committed: str, told: str, begins: int
) -> None:
    """At a start."""
    place = TopicPartition(DELIVERIES, 0)
    running.landed, running.topics.ids[place], running.topics.notes[place] = 5, told, committed
    running.topics.put(DELIVERIES, 0, 8)
    async with running([place]):
        await running.until_writes(1)
    assert running.table.writes == [{tuple(place): list(range(begins, 8))}]


async def test_a_side_task_that_dies_of_a_bug_ends_the_sink(running: _Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault that nobody foresaw, in what moves the group's offsets, is an error that says where; its text may quote data."""

    def broken(_offsets: object) -> None:
        raise ValueError("Erika Mustermann")

    monkeypatch.setattr(running.topics, "commit", broken)
    monkeypatch.setattr(offsets, "COMMIT_EVERY_SECONDS", 0.01)
    running.loop.on_partitions_assigned([TopicPartition(DELIVERIES, 0)])
    running.topics.put(DELIVERIES, 0, 1)
    with pytest.raises(RunError, match="its task 'commits' failed with an unexpected ValueError at tests") as caught:
        await asyncio.wait_for(running.loop.run(asyncio.Event(), lambda: None), 5)
    assert "Mustermann" not in caught.value.message

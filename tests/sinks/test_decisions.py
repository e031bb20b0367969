from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sinks.batch import TOTAL_BYTES, Limits, Waiting, has_room
from sinks.interval import Interval, classify
from sinks.partition import topic_went_back
from sinks.resume import Landed, Resume, resume_at
from tests.sinks.making import FakeMessage

_LIMITS = Limits(rows=3, bytes=100, seconds=0.5)


def _messages(*sizes: int, first: int = 0) -> list[FakeMessage]:
    return [FakeMessage(first + number, b"x" * size) for number, size in enumerate(sizes)]


def test_a_tail_is_due_when_the_last_insert_is_long_enough_ago() -> None:
    """The first record is due at once, the next when flush_seconds have passed since; none waits longer than that."""
    waiting = Waiting()
    assert waiting.due_in(_LIMITS, 10.0) is None
    waiting.add(_messages(1), 10.0)
    assert waiting.due_in(_LIMITS, 10.0) == 0
    waiting.take(_LIMITS, 10.1)
    waiting.add(_messages(1, first=1), 10.2)
    waiting.add(_messages(1, first=2), 10.5)
    assert waiting.due_in(_LIMITS, 10.2) == pytest.approx(0.4)
    assert waiting.due_in(_LIMITS, 10.6) == 0
    waiting.take(_LIMITS, 10.6)
    waiting.add(_messages(1, first=3), 12.0)
    assert waiting.due_in(_LIMITS, 12.0) == 0


@pytest.mark.parametrize("sizes", [(1, 1, 1), (60, 40), (500,)])
def test_a_full_batch_is_due_at_once(sizes: tuple[int, ...]) -> None:
    """By rows or by bytes, however young."""
    waiting = Waiting()
    waiting.add(_messages(*sizes), 10.0)
    assert waiting.due_in(_LIMITS, 10.0) == 0


def test_what_is_left_keeps_its_age() -> None:
    """Records that came while an insert was full are as old as they are, not as old as the insert."""
    waiting = Waiting()
    waiting.add(_messages(1, 1), 10.0)
    waiting.add(_messages(1, 1, first=2), 10.3)
    assert [message.offset for message in waiting.take(_LIMITS, 10.3)] == [0, 1, 2]
    assert waiting.due_in(_LIMITS, 10.4) == pytest.approx(0.4)


def test_what_room_an_insert_has_for_others() -> None:
    """Another partition's records go in when all of them do, by rows and by bytes."""
    waiting = Waiting()
    waiting.add(_messages(30, 30), 0.0)
    assert waiting.fits(_LIMITS.less(1, 40))
    assert not waiting.fits(_LIMITS.less(2, 40))
    assert not waiting.fits(_LIMITS.less(1, 41))
    assert not waiting.fits(_LIMITS.less(1, 500))


def test_a_record_larger_than_a_batch_goes_alone() -> None:
    """flush_bytes never stops a partition."""
    waiting = Waiting()
    waiting.add(_messages(50, 400, 50), 0.0)
    assert [[m.offset for m in waiting.take(_LIMITS, 0.0)] for _ in range(3)] == [[0], [1], [2]]


@given(st.lists(st.lists(st.integers(0, 150), max_size=5), max_size=10), st.lists(st.booleans(), max_size=20))
def test_batches_are_the_records_in_their_order(chunks: list[list[int]], takes: list[bool]) -> None:
    """However adding and taking alternate: nothing lost, nothing twice, no batch over its limits, bytes counted rightly."""
    waiting = Waiting()
    out: list[int] = []
    offset = 0
    order = [*takes, *(False for _ in chunks), *(True for _ in range(60))]
    pending = list(chunks)
    for take in order:
        if take:
            batch = waiting.take(_LIMITS, 0.0)
            assert len(batch) <= _LIMITS.rows
            assert len(batch) <= 1 or sum(len(message.value or b"") for message in batch) <= _LIMITS.bytes
            out.extend(message.offset for message in batch)
        elif pending:
            sizes = pending.pop(0)
            waiting.add(_messages(*sizes, first=offset), 0.0)
            offset += len(sizes)
    assert out == list(range(offset))
    assert (len(waiting), waiting.bytes, waiting.due_in(_LIMITS, 1.0)) == (0, 0, None)


def test_reading_stops_before_memory_does() -> None:
    """While ClickHouse is away a partition is read two inserts ahead, by rows or bytes, and the process up to its limit."""
    waiting = Waiting()
    waiting.add(_messages(1, 1, 1, 1, 1), 0.0)
    assert has_room(waiting, _LIMITS, 5)
    assert not has_room(waiting, _LIMITS, TOTAL_BYTES)
    waiting.add(_messages(1, first=5), 0.0)
    assert not has_room(waiting, _LIMITS, 6)
    large = Waiting()
    large.add(_messages(200), 0.0)
    assert not has_room(large, _LIMITS, 200)


@pytest.mark.parametrize(
    ("first", "last", "expected"),
    [
        (10, 12, Interval.NEW),
        (11, 12, Interval.GAP),
        (8, 11, Interval.OVERLAPPING),
        (9, 10, Interval.OVERLAPPING),
        (5, 9, Interval.SAME),
        (6, 8, Interval.CONTAINED),
        (5, 7, Interval.CONTAINED),
        (4, 9, Interval.PREVIOUS),
        (0, 4, Interval.PREVIOUS),
    ],
)
def test_intervals(first: int, last: int, expected: Interval) -> None:
    """Every way in which a range can lie to 5..9, taken last, and to 10, expected next."""
    assert classify(first, last, next_offset=10, taken=(5, 9)) is expected


@given(st.integers(0, 30), st.integers(0, 30), st.integers(0, 30), st.none() | st.integers(0, 30))
def test_an_interval_is_taken_exactly_when_it_does_not_go_back(
    first: int, length: int, next_offset: int, taken_from: int | None
) -> None:
    """Of what goes back nothing is taken before the table was asked: not the part that looks new either."""
    last = first + length
    taken = None if taken_from is None or taken_from >= next_offset else (taken_from, next_offset - 1)
    assert classify(first, last, next_offset=next_offset, taken=taken).is_taken == (first >= next_offset)


_ROW = Landed(41, "acme\nd41")


@pytest.mark.parametrize(
    ("landed", "beginning", "end", "found", "expected"),
    [
        (None, 7, 50, None, Resume(7, "empty_table", 7, 5)),
        (_ROW, 0, 50, "acme\nd41", Resume(42, "continues", 0, 42)),
        (_ROW, 0, 42, "acme\nd41", Resume(42, "continues", 0, 42)),
        (_ROW, 0, 50, None, Resume(42, "continues", 0, 42)),
        (_ROW, 42, 50, None, Resume(42, "continues", 42, 42)),
        (_ROW, 43, 50, None, Resume(43, "records_expired", 43, 42)),
        (_ROW, 0, 41, None, Resume(0, "topic_shorter", 0, 0)),
        (_ROW, 0, 0, None, Resume(0, "topic_shorter", 0, 0)),
        (_ROW, 3, 50, "acme\nother", Resume(3, "topic_differs", 3, 0)),
    ],
)
def test_where_a_partition_goes_on(
    landed: Landed | None, beginning: int, end: int, found: str | None, expected: Resume
) -> None:
    """After the newest row, unless topic and table do not belong together; the group's offset counts without a row only."""
    assert resume_at(landed, beginning=beginning, end=end, found=found, committed=5) == expected


@pytest.mark.parametrize(("committed", "unread_from"), [(None, 42), (41, 42), (45, 45), (48, 48)])
def test_what_was_committed_behind_the_newest_row_was_read(committed: int | None, unread_from: int) -> None:
    """Of what expired: records that became dead letters make no row."""
    found = resume_at(_ROW, beginning=48, end=50, found=None, committed=committed)
    assert found == Resume(48, "records_expired", 48, unread_from)


@pytest.mark.parametrize(
    ("end", "asked_at", "now_at", "expected"),
    [
        (100, 100, 100, False),  # all of it was read
        (100, 90, 100, False),  # it was read meanwhile
        (100, 100, 140, False),  # it grew and was read after the broker had answered
        (99, 100, 140, True),  # what was read before the question is gone
        (0, 100, 100, True),
        (40, 100, None, False),  # another comparison of table and topic is under way
        (40, 100, 10, False),  # it has begun again since
    ],
)
def test_a_topic_went_back_only_when_it_ends_before_what_was_read_when_asked(
    end: int, asked_at: int, now_at: int | None, *, expected: bool
) -> None:
    """An answer that was on its way while the partition was read on says nothing about what was read meanwhile."""
    assert topic_went_back(end, asked_at=asked_at, now_at=now_at) is expected

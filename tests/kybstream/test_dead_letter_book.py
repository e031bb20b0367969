from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import permutations

import msgspec
import pytest

from kybstream.operations.dead_letter_book import DeadLetterBook, Letter, Wanted, next_mark
from kybstream.operations.dead_letters import unreplayable
from kybstream.operations.topic_reader import ReadRecord
from kybstream.settings import Settings
from schemas.records import DeadLetter, Replay
from schemas.replays import ReplayMark, marked
from sinks.dead_letters import TOO_LARGE

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def letter(name: str = "d1", *, mark: ReplayMark | None = None, **fields: object) -> DeadLetter:
    """A dead letter of a record that may be a copy."""
    made = DeadLetter(
        dead_letter_id=name,
        received_at=NOON,
        tenant="acme",
        source="kyb",
        stage="intake",
        reason="not_json",
        origin_topic="kyb.webhooks.raw.v1",
        origin_key=b"acme/x",
        origin_headers=dict(marked([("ce_id", b"1")], mark)) if mark else {"ce_id": b"1"},
        origin_value=b"{",
        body_size=1,
    )
    return msgspec.structs.replace(made, **fields)


def read(minute: int, partition: int = 0) -> ReadRecord:
    """Where a dead letter lies that was written so many minutes past noon."""
    timestamp = int((NOON + timedelta(minutes=minute)).timestamp() * 1000)
    return ReadRecord(partition, minute, timestamp, b"acme/x", b"")


def replay_of(one: Letter, replay_id: str, minute: int, by: str = "ada") -> tuple[Replay, ReplayMark]:
    """What replaying a letter records, and the mark of its copy."""
    mark = next_mark(one, replay_id=replay_id, by=by, at=NOON + timedelta(minutes=minute))
    replay = Replay(
        replay_id=replay_id,
        replayed_at=mark.replayed_at,
        replayed_by=by,
        kind="dead_letter",
        origin_topic="kyb.webhooks.raw.v1",
        dead_letter_id=one.dead_letter_id,
        first_dead_letter_id=mark.first_dead_letter_id,
        attempt=mark.attempt,
    )
    return replay, mark


def only(book: DeadLetterBook, name: str = "d1") -> Letter:
    """The letter of that id."""
    found = book.letter(name)
    assert found is not None
    return found


def test_a_letter_is_open_until_it_is_replayed_and_again_when_it_comes_back() -> None:
    """Open, replayed, open, replayed: by the replays' ids, not by clocks, which differ between machines."""
    book = DeadLetterBook()
    book.add_failure(read(1), letter())
    assert (only(book).open, only(book).replays) == (True, 0)
    replay, mark = replay_of(only(book), "r1", minute=90)  # this operator's clock is fast
    book.add_replay(replay)
    assert (only(book).open, only(book).replays) == (False, 1)
    book.add_failure(read(3), letter(mark=mark))
    assert (only(book).open, only(book).replays) == (True, 1)
    second, mark = replay_of(only(book), "r2", minute=4, by="grace")
    assert mark.attempt == 2
    book.add_replay(second)
    assert (only(book).open, only(book).replays) == (False, 2)
    assert [(step.what, step.attempt, step.replayed_by) for step in book.history("d1")] == [
        ("failed", 0, None),
        ("failed", 1, None),
        ("replayed", 2, "grace"),
        ("replayed", 1, "ada"),
    ]


def test_the_order_of_reading_makes_no_difference() -> None:
    """Topics and partitions are read in any order."""
    alone = DeadLetterBook()
    alone.add_failure(read(1), letter())
    replay, mark = replay_of(only(alone), "r1", minute=2)
    seen = set()
    for order in permutations(range(3)):
        book = DeadLetterBook()
        for step in order:
            if step == 0:
                book.add_failure(read(1), letter())
            elif step == 1:
                book.add_replay(replay)
            else:
                book.add_failure(read(3, partition=1), letter(mark=mark))
        one = only(book)
        seen.add((one.open, one.replays, one.newest.partition, msgspec.json.encode(book.history("d1"))))
    assert len(seen) == 1
    assert seen.pop()[:3] == (True, 1, 1)


def test_a_record_that_fails_for_another_reason_names_its_first_letter() -> None:
    """Another letter, with the whole history of the record; the first one is done with."""
    book = DeadLetterBook()
    book.add_failure(read(1), letter())
    first, mark = replay_of(only(book), "r1", minute=2)
    book.add_replay(first)
    book.add_failure(read(3), letter("d2", mark=mark, reason="entity_mismatch"))
    assert (only(book).open, only(book, "d2").open, only(book, "d2").replays) == (False, True, 1)
    _, mark = replay_of(only(book, "d2"), "r2", minute=4)
    assert (mark.dead_letter_id, mark.first_dead_letter_id, mark.attempt) == ("d2", "d1", 2)
    expected = [("failed", "not_json"), ("replayed", None), ("failed", "entity_mismatch")]
    for name in ("d1", "d2"):
        assert [(step.what, step.reason) for step in book.history(name)] == expected


def test_a_failure_told_twice_by_a_crash_is_one_step() -> None:
    """The worker tells it again under the same id; nothing has been tried in between."""
    book = DeadLetterBook()
    for minute in (1, 2):
        book.add_failure(read(minute), letter())
    assert len(book.history("d1")) == 1
    assert (len(book.letters()), only(book).replays, only(book).newest.offset) == (1, 0, 2)


def test_a_copy_of_a_range_that_fails_opens_its_letter_again() -> None:
    """Even when the letter had been replayed before the range was."""
    book = DeadLetterBook()
    book.add_failure(read(1), letter())
    replay, _ = replay_of(only(book), "r1", minute=2)
    book.add_replay(replay)
    of_a_range = ReplayMark(replay_id="r2", replayed_at=NOON, replayed_by="ada")
    book.add_failure(read(3), letter(mark=of_a_range))
    assert (only(book).open, only(book).replays) == (True, 1)


def test_a_letter_that_the_topic_has_forgotten_is_none() -> None:
    """Records of replays are kept longer than dead letters."""
    book = DeadLetterBook()
    book.add_failure(read(1), letter())
    replay, _ = replay_of(only(book), "r1", minute=2)
    later = DeadLetterBook()
    later.add_replay(replay)
    assert (later.letter("d1"), later.letters(), later.history("d1")) == (None, [], [])


@pytest.mark.parametrize(
    ("wanted", "names"),
    [
        (Wanted(), ["d3", "d2", "d1"]),
        (Wanted(reason="not_json"), ["d3", "d1"]),
        (Wanted(stage="links"), ["d2"]),
        (Wanted(tenant="globex"), ["d3"]),
        (Wanted(source="kyb", tenant="acme"), ["d1"]),
        (Wanted(since=NOON + timedelta(minutes=2)), ["d3", "d2"]),
        (Wanted(until=NOON + timedelta(minutes=2)), ["d1"]),
        (Wanted(only_open=True), ["d3", "d2"]),
    ],
    ids=repr,
)
def test_filters_leave_what_is_meant(wanted: Wanted, names: list[str]) -> None:
    """All given ones must hold; a time belongs to what follows it; the newest failure comes first."""
    book = DeadLetterBook()
    book.add_failure(read(1), letter())
    book.add_failure(read(2), letter("d2", stage="links", reason="undecodable", tenant=None, source=None))
    book.add_failure(read(3), letter("d3", tenant="globex"))
    book.add_replay(replay_of(only(book), "r1", minute=2)[0])
    assert [one.dead_letter_id for one in book.letters(wanted)] == names


def test_nothing_of_the_record_stays_in_the_book() -> None:
    """A command that lists a million dead letters holds their ids, not their bodies."""
    book = DeadLetterBook()
    book.add_failure(read(1), letter(origin_value=b"Erika Mustermann", origin_headers={"x": b"Erika"}))
    assert (only(book).letter.origin_value, only(book).letter.origin_headers) == (None, {})


@pytest.mark.parametrize(
    ("origin", "why"),
    [
        ("kyb.webhooks.raw.v1", None),
        ("kyb.links.v1", None),
        ("kyb.case-events.v1", None),
        ("kyb.deliveries.v1", None),
        ("kyb.cases.v1", "an older snapshot would become the newest"),
        ("other.webhooks.raw.v1", "is none of our topics"),
        ("webhooks.raw.v1", "is none of our topics"),
        ("kyb.secrets.v1", "is none of our topics"),
    ],
)
def test_records_go_to_topics_of_ours_only(origin: str, why: str | None) -> None:
    """A dead letter cannot make an operator write anywhere else, nor put an old snapshot on top of a compacted topic."""
    book = DeadLetterBook()
    book.add_failure(read(1), letter(origin_topic=origin))
    found = unreplayable(Settings(), only(book))
    assert found == why if why is None else why in (found or "")


def test_a_dead_letter_that_was_too_large_for_its_record_is_not_replayed() -> None:
    """It says where the record is; replaying it would write a record without value."""
    book = DeadLetterBook()
    book.add_failure(read(1), letter(origin_topic="kyb.deliveries.v1", detail=f"no Avro; {TOO_LARGE} at partition 1 offset 7"))
    assert "too large" in (unreplayable(Settings(), only(book)) or "")

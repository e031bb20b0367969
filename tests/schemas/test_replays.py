from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.replays import HOME_KEY, PREFIX, ReplayMark, mark_of, marked
from tests.schemas.samples import TEXTS, TIMES

AT = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
MARK = ReplayMark(replay_id="r1", replayed_at=AT, replayed_by="ada", dead_letter_id="d2", first_dead_letter_id="d1", attempt=2)
MARKS = st.builds(
    ReplayMark,
    replay_id=TEXTS,
    replayed_at=TIMES,
    replayed_by=TEXTS,
    dead_letter_id=st.none() | TEXTS,
    first_dead_letter_id=st.none() | TEXTS,
    attempt=st.integers(0, 10_000),
    home_key=st.none() | st.binary(max_size=20),
)


@given(MARKS, st.lists(st.tuples(st.sampled_from(["ce_id", "traceparent"]), st.binary(max_size=5)), max_size=3))
def test_a_copy_keeps_its_headers_and_tells_how_it_came_about(mark: ReplayMark, headers: list[tuple[str, bytes]]) -> None:
    """What is marked is read back, and the original's own headers come through in order, repeated ones too."""
    copied = marked(headers, mark)
    assert mark_of(copied) == mark
    assert copied[: len(headers)] == headers


def test_a_copy_of_a_copy_has_one_mark() -> None:
    """The newest; nothing of the older one is left."""
    newer = ReplayMark(replay_id="r2", replayed_at=AT, replayed_by="grace")
    copied = marked(marked([("ce_id", b"1")], MARK), newer)
    assert mark_of(copied) == newer
    assert [name for name, _ in copied] == ["ce_id", f"{PREFIX}id", f"{PREFIX}at", f"{PREFIX}by"]


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("ce_id", b"1")],
        [(HOME_KEY, b"k")],
        [(f"{PREFIX}id", b"r"), (f"{PREFIX}by", b"x")],
        [(f"{PREFIX}id", b"r"), (f"{PREFIX}by", b"x"), (f"{PREFIX}at", b"yesterday")],
        [(f"{PREFIX}id", b"r"), (f"{PREFIX}by", b"x"), (f"{PREFIX}at", b"2026-03-02T09:30:00")],
        [*marked([], MARK)[:3], (f"{PREFIX}attempt", b"many")],
    ],
)
def test_an_original_has_no_mark(headers: list[tuple[str, bytes]]) -> None:
    """Nor has a record whose headers only look like one: they never make an operator's command fail."""
    assert mark_of(headers) is None

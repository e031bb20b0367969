"""A commit is the end of the finished prefix, and never covers an open batch."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streams.batching.ranges import OffsetRanges


def test_a_commit_stops_before_the_first_open_batch() -> None:
    """Batches that finish out of order wait for the ones before them."""
    ranges: OffsetRanges[str] = OffsetRanges()
    first, second, third = (ranges.open("p", end, 10) for end in (10, 20, 30))
    ranges.finish(second)
    assert ranges.committable("p") is None
    assert list(ranges.pending()) == []
    ranges.finish(first)
    assert ranges.committable("p") == 20
    assert list(ranges.pending()) == ["p"]
    ranges.finish(third)
    assert ranges.committable("p") == 30


def test_an_offset_stays_committable_until_it_is_committed() -> None:
    """A commit that fails is tried again; one that succeeds is forgotten."""
    ranges: OffsetRanges[str] = OffsetRanges()
    ranges.finish(ranges.open("p", 10, 10))
    assert ranges.committable("p") == 10
    assert ranges.committable("p") == 10
    ranges.committed("p", 10)
    assert ranges.committable("p") is None


def test_a_batch_from_before_a_rebalance_counts_no_more() -> None:
    """It was forgotten and will be delivered again, so finishing it commits nothing and frees no room."""
    ranges: OffsetRanges[str] = OffsetRanges()
    stale = ranges.open("p", 10, 10)
    ranges.reset()
    again = ranges.open("p", 10, 10)
    ranges.finish(stale)
    assert ranges.committable("p") is None
    assert ranges.inflight == 10
    ranges.finish(again)
    assert (ranges.committable("p"), ranges.inflight) == (10, 0)


def test_what_is_not_committed_waits() -> None:
    """Liveness sees what was delivered and is not committed, finished or not."""
    ranges: OffsetRanges[str] = OffsetRanges()
    assert not ranges.waiting("p")
    opened = ranges.open("p", 10, 10)
    assert ranges.waiting("p")
    ranges.finish(opened)
    assert ranges.waiting("p")
    ranges.committed("p", 10)
    assert not ranges.waiting("p")


@given(
    st.lists(st.integers(1, 5), min_size=1, max_size=12).flatmap(
        lambda sizes: st.tuples(st.just(sizes), st.permutations(range(len(sizes))))
    )
)
def test_in_any_order_the_commit_is_the_finished_prefix(case: tuple[list[int], list[int]]) -> None:
    """Against the plain definition, after each step of any order of finishing."""
    sizes, order = case
    ends = [sum(sizes[: i + 1]) for i in range(len(sizes))]
    ranges: OffsetRanges[str] = OffsetRanges()
    opened = [ranges.open("p", end, size) for end, size in zip(ends, sizes, strict=True)]
    done: set[int] = set()
    for index in order:
        ranges.finish(opened[index])
        ranges.finish(opened[index])  # twice is harmless
        done.add(index)
        prefix = next((i for i in range(len(sizes)) if i not in done), len(sizes))
        assert ranges.committable("p") == (ends[prefix - 1] if prefix else None)
        assert ranges.inflight == sum(size for i, size in enumerate(sizes) if i not in done)

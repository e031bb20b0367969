"""How a range of offsets that comes in lies to what a partition already has."""

from __future__ import annotations

from enum import Enum


class Interval(Enum):
    """The cases; `next_offset` is the first offset not yet taken."""

    NEW = "new"
    """Begins exactly at next_offset: take it."""
    GAP = "gap"
    """Begins after next_offset: take it. Compaction and transaction markers leave gaps, expired records too."""
    OVERLAPPING = "overlapping"
    """Begins before and ends after: take what is at and after next_offset."""
    SAME = "same"
    """The very range taken last: drop it."""
    CONTAINED = "contained"
    """Inside the range taken last: drop it."""
    PREVIOUS = "previous"
    """Ends before next_offset and reaches back behind the range taken last: drop it."""

    @property
    def is_taken(self) -> bool:
        """Whether anything of it is new."""
        return self in {Interval.NEW, Interval.GAP, Interval.OVERLAPPING}


def classify(first: int, last: int, *, next_offset: int, taken: tuple[int, int] | None = None) -> Interval:
    """Which case `first..last` (both inclusive) is.

    Args:
        first: Lowest offset that came in.
        last: Highest offset that came in.
        next_offset: The first offset not yet taken.
        taken: First and last of the range taken last, if there was one.
    """
    if first == next_offset:
        return Interval.NEW
    if first > next_offset:
        return Interval.GAP
    if last >= next_offset:
        return Interval.OVERLAPPING
    if taken == (first, last):
        return Interval.SAME
    if taken is not None and taken[0] <= first:
        return Interval.CONTAINED
    return Interval.PREVIOUS

"""How a range of offsets that comes in lies to what a partition already has."""

from __future__ import annotations

from enum import Enum


class Interval(Enum):
    """The cases; `next_offset` is the first offset not yet taken. All but the first two go back."""

    NEW = "new"
    """Begins exactly at next_offset: take it."""
    GAP = "gap"
    """Begins after next_offset: take it. Compaction and transaction markers leave gaps, expired records too."""
    OVERLAPPING = "overlapping"
    """Begins before and ends after."""
    SAME = "same"
    """The very range taken last."""
    CONTAINED = "contained"
    """Inside the range taken last."""
    PREVIOUS = "previous"
    """Ends before next_offset and reaches back behind the range taken last."""

    @property
    def is_taken(self) -> bool:
        """Whether it may be taken as it is.

        Of a range that goes back nothing is. The consumer was told where to go on; that it goes back means that the topic may
        have been made anew, so that its offsets name other records. Table and topic are then compared as at a start
        (`sinks.resume`): what is there already is not read again, what is not is.
        """
        return self in {Interval.NEW, Interval.GAP}


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

"""Offsets that expired before they were read. Pure."""

from __future__ import annotations

from typing import NamedTuple

Place = tuple[str, int]
"""A topic and the number of a partition."""


class Expired(NamedTuple):
    """Offsets of a partition that nobody of this consumer group has read, and nobody ever will.

    Attributes:
        topic: The topic.
        partition: The partition's number.
        first: The first offset that is gone.
        last: The last one.
    """

    topic: str
    partition: int
    first: int
    last: int

    @property
    def records(self) -> int:
        """How many offsets these are: of so many records at most, since markers of transactions take offsets, too."""
        return self.last - self.first + 1


class ExpiredUnread:
    """Finds what has expired unread, and remembers what of it was told.

    It is pure: `find` is told where a reader goes on and where the topic begins.
    """

    def __init__(self) -> None:
        self._told_to: dict[Place, int] = {}

    def find(self, place: Place, next_offset: int | None, beginning: int) -> Expired | None:
        """Return what is gone and was not told before.

        Args:
            place: The partition.
            next_offset: The first offset that was not read; None for a group that has read nothing of the partition yet.
            beginning: The first offset that the partition still has.
        """
        first = max(next_offset or 0, self._told_to.get(place, 0))
        return Expired(*place, first, beginning - 1) if first < beginning else None

    def told(self, expired: Expired) -> None:
        """Note that it is known where it stays known."""
        self._told_to[expired.topic, expired.partition] = expired.last + 1

    def forget(self, place: Place) -> None:
        """Begin again with a partition whose topic was made anew."""
        self._told_to.pop(place, None)

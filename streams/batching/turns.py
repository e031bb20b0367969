"""Who is next: chunks wait for their partition number's turn, and what waits together is taken together.

A batch costs two or three round trips to the broker however small it is. Chunks that come while one is under way are
therefore joined into the next batch, as a database joins commits: batches grow with the load, and a lone chunk waits for
nobody. Without it a partition that had fallen behind went on in chunks as small as they had been fetched: at 500 deliveries
a second on two busy cores batches had 2.7 records while 230 waited in each partition (docs/performance.md).
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Hashable
from typing import Any, NamedTuple


class Chunk(NamedTuple):
    """What was fetched of one partition at once.

    Attributes:
        kind: Chunks are joined only with those of an equal one: of one topic, and of one assignment of partitions.
        size: Its number of records.
        event: What carries it.
    """

    kind: Hashable
    size: int
    event: Any


class Turns:
    """Chunks that wait, by partition number, in the order they came.

    Args:
        most: Records of one turn; a single chunk may have more.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._waiting: defaultdict[int, deque[Chunk]] = defaultdict(deque)
        self._served: set[int] = set()

    def add(self, number: int, chunk: Chunk) -> bool:
        """Queue a chunk; returns whether somebody must begin to serve this number, by `take` until it gives nothing."""
        self._waiting[number].append(chunk)
        if number in self._served:
            return False
        self._served.add(number)
        return True

    def take(self, number: int) -> list[Chunk]:
        """Return the chunks of the next turn, all of one kind, in the order they came; nothing ends the serving."""
        waiting = self._waiting[number]
        taken: list[Chunk] = []
        size = 0
        while waiting and (not taken or (waiting[0].kind == taken[0].kind and size + waiting[0].size <= self._most)):
            taken.append(waiting.popleft())
            size += taken[-1].size
        if not taken:
            self._served.discard(number)
        return taken

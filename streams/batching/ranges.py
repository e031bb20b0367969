"""Which offsets may be committed: the end of the finished prefix of what was delivered, never past an open batch."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

P = TypeVar("P", bound=Hashable)


@dataclass(slots=True)
class OffsetRange:
    """One delivered batch. `end` is the offset after its last record; `epoch` tells a rebalance's leftovers apart."""

    end: int
    count: int
    epoch: int
    finished: bool = False


class OffsetRanges(Generic[P]):
    """Open and finished batches of each partition `P`, in the order they were delivered.

    After `reset` everything delivered before is forgotten: it will be read again from the committed offset, and finishing
    one of its ranges has no effect.
    """

    def __init__(self) -> None:
        self._open: dict[P, deque[OffsetRange]] = {}
        self._epoch = 0
        self.inflight = 0
        """Records delivered and not yet finished."""

    def open(self, partition: P, end: int, count: int) -> OffsetRange:
        """Note that `count` records up to, not including, offset `end` were delivered."""
        opened = OffsetRange(end=end, count=count, epoch=self._epoch)
        self._open.setdefault(partition, deque()).append(opened)
        self.inflight += count
        return opened

    def finish(self, finished: OffsetRange) -> None:
        """Note that everything a batch asked for is durable. Doing so twice is harmless."""
        if finished.finished or finished.epoch != self._epoch:
            return
        finished.finished = True
        self.inflight -= finished.count

    def committable(self, partition: P) -> int | None:
        """Return the offset to commit, or None while the oldest uncommitted batch is open."""
        end = None
        for candidate in self._open.get(partition, ()):
            if not candidate.finished:
                break
            end = candidate.end
        return end

    def committed(self, partition: P, offset: int) -> None:
        """Forget what a commit of `offset` covers."""
        waiting = self._open.get(partition)
        while waiting and waiting[0].finished and waiting[0].end <= offset:
            waiting.popleft()

    def drop(self, partition: P) -> None:
        """Forget a partition's batches: its topic is another one now. Finishing them has no effect."""
        for dropped in self._open.pop(partition, ()):
            self.finish(dropped)

    def pending(self) -> Iterator[P]:
        """Yield the partitions that have something to commit."""
        for partition, waiting in list(self._open.items()):
            if waiting and waiting[0].finished:
                yield partition

    def waiting(self, partition: P) -> bool:
        """Tell whether anything was delivered and is not committed."""
        return bool(self._open.get(partition))

    def reset(self) -> None:
        """Forget all: the positions go back to the committed offsets."""
        self._open.clear()
        self._epoch += 1
        self.inflight = 0

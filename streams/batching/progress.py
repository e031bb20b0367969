"""How far the commits are: per partition, what waits, for how long nothing was committed, and when something was last."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable
from typing import Generic, NamedTuple, TypeVar

P = TypeVar("P", bound=Hashable)


class PartitionProgress(NamedTuple):
    """How one source partition does.

    Attributes:
        lag: Records that are not committed; 0 when there is nothing to do; None while the end of the log is not known yet.
        stalled_seconds: For how long the committed offset has stood still with records waiting.
        commit_age_seconds: Since the last commit of this process, or since it got the partition; grows while nothing comes.
    """

    lag: int | None
    stalled_seconds: float
    commit_age_seconds: float


class CommitProgress(Generic[P]):
    """Looks at each partition again and again, about once a second, and tells how it does.

    Attributes:
        commits: How many commits there have been.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._moved_at: dict[P, float] = {}
        self._committed_at: dict[P, float] = {}
        self.commits = 0

    def committed(self, partition: P) -> None:
        """Note a commit."""
        self.commits += 1
        self._moved_at[partition] = self._committed_at[partition] = self._clock()

    def look(self, partition: P, *, end: int | None, committed: int | None, idle: bool) -> PartitionProgress:
        """Return how a partition does.

        Args:
            partition: Which one.
            end: The offset after the last record of its log, if known.
            committed: The committed offset, if there is one.
            idle: Whether all up to `end` was read, and all that was delivered is committed. The committed offset may stay below
                `end` for good then: where retention has emptied the log, and after markers of transactions.
        """
        now = self._clock()
        lag = None if end is None else 0 if idle else max(0, end - (committed or 0))
        if not lag:
            self._moved_at[partition] = now
        return PartitionProgress(
            lag=lag,
            stalled_seconds=now - self._moved_at.setdefault(partition, now),
            commit_age_seconds=now - self._committed_at.setdefault(partition, now),
        )

    def reset(self) -> None:
        """Forget the partitions: others may have been assigned."""
        self._moved_at.clear()
        self._committed_at.clear()

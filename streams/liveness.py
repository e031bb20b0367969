"""Whether the worker gets on: commits while records wait, recovers while it must, and turns its event loop.

Pure but for the clock. The loop reports each second by `turn`; any thread may ask for `stall`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

from kybstream.watchdog import Stall
from streams.batching import PartitionProgress, Phase

Partitions = Mapping[tuple[str, int], PartitionProgress]


class _Seen(NamedTuple):
    """What the last turn of the loop saw: replaced as a whole, so that other threads see one turn, never a mixture.

    Attributes:
        at: When that was.
        phase: What the worker did.
        moved_at: When anything was committed last, or read back, or there was nothing to do.
        worst: The partition that stands still longest with records waiting, if any does.
    """

    at: float
    phase: Phase
    moved_at: float
    worst: tuple[str, int, PartitionProgress] | None = None


class Liveness:
    """Tells a worker that is stuck from one that has nothing to do.

    Stuck is, for longer than `stalled_after`:

    - an event loop that does not turn;
    - a partition with records waiting of which nothing is committed;
    - a rebalance or a recovery in which nothing is read back. A rebalance may wait `rebalance_seconds` for other members, so
      these are added. Rebalances that follow each other without a commit in between count as one.

    Args:
        stalled_after: Seconds.
        rebalance_seconds: How long a rebalance may take.
        clock: Seconds of a monotonic clock.
    """

    def __init__(self, *, stalled_after: float, rebalance_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._stalled_after = stalled_after
        self._rebalance_seconds = rebalance_seconds
        self._clock = clock
        now = clock()
        self._seen = _Seen(now, "starting", now)
        self._done = 0

    def turn(self, phase: Phase, partitions: Partitions, done: int) -> None:
        """Reports a turn of the event loop.

        Args:
            phase: What the worker does.
            partitions: How the partitions do that it owns.
            done: A count that grows with each commit and each record read back.
        """
        now = self._clock()
        nothing_to_do = phase == "running" and all(each.lag == 0 for each in partitions.values())
        moved = done != self._done or nothing_to_do
        self._done = done
        waiting = [(topic, number, each) for (topic, number), each in partitions.items() if each.lag]
        worst = max(waiting, key=lambda each: each[2].stalled_seconds, default=None)
        self._seen = _Seen(now, phase, now if moved else self._seen.moved_at, worst)

    def stall(self) -> Stall | None:
        """What stalls for too long, if anything does."""
        seen, now = self._seen, self._clock()
        unseen = now - seen.at
        if unseen > self._stalled_after:
            return Stall(unseen, f"the event loop has not turned for {unseen:.0f} s")
        still = now - seen.moved_at
        match seen.phase:
            case "stopping":
                return None
            case "running" if seen.worst is not None:
                topic, number, progress = seen.worst
                stalled = progress.stalled_seconds + unseen
                reason = f"topic {topic} partition {number}: {progress.lag} records wait"
                if stalled > self._stalled_after:
                    return Stall(stalled, f"{reason} and nothing was committed for {stalled:.0f} s")
                if still > self._stalled_after + self._rebalance_seconds:
                    return Stall(still, f"{reason} and nothing was committed for {still:.0f} s, through rebalances")
            case "starting" | "rebalancing" | "recovering" if still > self._stalled_after + self._rebalance_seconds:
                return Stall(still, f"{seen.phase}, and nothing moves for {still:.0f} s")
        return None

"""Whether the sink gets on: rows land, or there is nothing to do. Pure but for the clock."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

from kybstream.watchdog import Stall
from sinks.metrics import Standing

Partition = tuple[str, int]


class _Still(NamedTuple):
    """A partition as it was when it moved last."""

    since: float
    settled: int


class _Seen(NamedTuple):
    """What the last turn saw: replaced as a whole, so that other threads see one turn, never a mixture."""

    at: float
    phase: str
    still: Mapping[Partition, _Still]
    lags: Mapping[Partition, int | None]


class Liveness:
    """Tells a sink that is stuck, or waits for ClickHouse or Kafka, from one that has nothing to do.

    Stuck is, for longer than `stalled_after`: an event loop that does not turn; a partition with a lag of which nothing lands;
    one of which it is not known where to go on; a start that does not end. The loop reports by `turn`; any thread may ask.

    Args:
        stalled_after: Seconds.
        clock: Seconds of a monotonic clock.
    """

    def __init__(self, *, stalled_after: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._stalled_after = stalled_after
        self._clock = clock
        now = clock()
        self._began = now
        self._seen = _Seen(now, "starting", {}, {})

    def turn(self, phase: str, partitions: Mapping[Partition, Standing]) -> None:
        """Reports a turn of the event loop.

        Args:
            phase: As of `sinks.metrics.Reading`.
            partitions: How those do that this process has.
        """
        now, before = self._clock(), self._seen.still
        still = {}
        for place, standing in partitions.items():
            last = before.get(place)
            moved = last is None or standing.lag == 0 or last.settled != standing.settled
            still[place] = _Still(now if moved or last is None else last.since, standing.settled)
        self._seen = _Seen(now, phase, still, {place: standing.lag for place, standing in partitions.items()})

    def stall(self) -> Stall | None:
        """What stalls for too long, if anything does."""
        seen, now = self._seen, self._clock()
        if seen.phase == "stopping":
            return None
        if now - seen.at > self._stalled_after:
            return Stall(now - seen.at, f"the event loop has not turned for {now - seen.at:.0f} s")
        waiting = [place for place, lag in seen.lags.items() if lag != 0]
        worst = min(waiting, key=lambda place: seen.still[place].since, default=None)
        if worst is not None:
            seconds, lag = now - seen.still[worst].since, seen.lags[worst]
            what = "it is not known where to go on" if lag is None else f"{lag} records wait and nothing landed"
            if seconds > self._stalled_after:
                return Stall(seconds, f"topic {worst[0]} partition {worst[1]}: {what} for {seconds:.0f} s")
        elif seen.phase == "starting" and not seen.lags and now - self._began > self._stalled_after:
            seconds = now - self._began
            return Stall(seconds, f"starting for {seconds:.0f} s: Kafka, its group or ClickHouse does not answer")
        return None

"""Computing a batch in slices, between which the event loop turns: heartbeats, health pages and commits go on.

A process is one synchronous call, and a worker was silent for minutes in one call for thousands of costly records. So it is
called with a few records at a time, as many as take about `SLICE_SECONDS`. Each slice sees what the earlier ones wrote, so
what they come to together is what one call for all records comes to. One slice of a worker runs at a time, whatever its
partitions.

A batch also ends when it has computed for `BATCH_SECONDS`, so that something is committed however costly its records are.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence

from streams.batching.records import BatchResult, DeadRecord, Output, Process, Record, StateReader

SLICE_SECONDS = 0.02
BATCH_SECONDS = 1.0

MAX_PIECE = 2_000
"""Records that a batch takes whole or not at all. Small ones cost throughput: of 250, a fifth of the records of an intake."""

_PIECE_SLICES = 10

_FIRST = 50
"""Records of an agent's first slice, whose cost nobody knows yet."""

_GROWTH = 4
"""By how much a slice may be larger than the one before it."""


class Overlay:
    """The state as the slices so far leave it."""

    def __init__(self, state: StateReader) -> None:
        self._state = state
        self.writes: dict[bytes, bytes | None] = {}

    def get_many(self, keys: Collection[bytes]) -> dict[bytes, bytes]:
        """Return the values of those of `keys` that exist."""
        if not self.writes:
            return self._state.get_many(keys)
        found = self._state.get_many([key for key in keys if key not in self.writes])
        for key in keys:
            written = self.writes.get(key)
            if written is not None:
                found[key] = written
        return found


class Slices:
    """Runs a process over batches in slices; one object for each agent, which learns what its records cost.

    Args:
        process: What it runs.
        turn: Held while a slice is computed; one for the whole worker.
        clock: Seconds.
    """

    def __init__(self, process: Process, turn: asyncio.Lock, clock: Callable[[], float] = time.perf_counter) -> None:
        self._process = process
        self._turn = turn
        self._clock = clock
        self._size = _FIRST
        self._learnt = False

    def piece(self) -> int:
        """Return how many records may be put into a batch as one, so that it ends between two such: about 0.2 s of work."""
        return min(self._size * _PIECE_SLICES, MAX_PIECE) if self._learnt else _FIRST

    async def compute(
        self, partition: int, records: Sequence[Record], state: StateReader, *, ends: Sequence[int], current: Callable[[], bool]
    ) -> tuple[BatchResult, int]:
        """Compute a batch, or its beginning if the whole would take too long.

        Args:
            partition: As for the process.
            records: As for the process.
            state: As for the process.
            ends: Numbers of records after which the batch may end, ascending; the last is all of them.
            current: Whether the partition is still ours; looked at between slices.

        Returns:
            What the records come to, and how many they are: one of `ends`. None of them if the partition is lost.
        """
        overlay = Overlay(state)
        outputs: list[Output] = []
        dead: list[DeadRecord] = []
        counts: Counter[str] = Counter()
        done, spent = 0, 0.0
        while done < len(records):
            async with self._turn:
                if not current():
                    return BatchResult(), 0
                end = next(end for end in ends if end > done)
                # A batch that has taken its time ends at the next place where it may.
                last = min(done + self._size, end if spent >= BATCH_SECONDS else len(records))
                began = self._clock()
                result = self._process(partition, records[done:last], overlay)
                took = self._clock() - began
                # Before anybody else's slice, the loop turns.
                await asyncio.sleep(0)
            self._learn(last - done, took)
            outputs += result.outputs
            dead += result.dead
            counts.update(result.counts)
            overlay.writes.update(result.writes)
            done, spent = last, spent + took
            if spent >= BATCH_SECONDS and done in ends:
                break
        return BatchResult(outputs, overlay.writes, dead, counts), done

    def _learn(self, records: int, took: float) -> None:
        self._learnt = True
        fitting = max(1, round(records * SLICE_SECONDS / max(took, 1e-6)))
        # A small slice says little about a large one.
        self._size = min(fitting, max(self._size, records) * _GROWTH) if fitting > self._size else fitting

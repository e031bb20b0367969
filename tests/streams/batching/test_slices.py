"""A batch in slices comes to what it comes to in one call, and the event loop turns in between."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from streams.batching import BatchResult, DeadRecord, Output, Record, StateReader
from streams.batching.slices import BATCH_SECONDS, MAX_PIECE, SLICE_SECONDS, Slices
from tests.streams.pipeline import DictState


class Clock:
    """Seconds that pass only as somebody says."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        """The time."""
        return self.now


def records(keys: Sequence[int]) -> list[Record]:
    """A batch of records with these keys."""
    return [Record("t", 0, at, 0, b"k%d" % key, b"%d" % at, ()) for at, key in enumerate(keys)]


def always() -> bool:
    """The partition is ours."""
    return True


class Costly:
    """Appends each record to its key's history, deletes it at each fifth, and takes its time."""

    def __init__(self, clock: Clock, seconds: Sequence[float]) -> None:
        self._clock = clock
        self._seconds = seconds
        self.calls: list[int] = []

    def __call__(self, _partition: int, batch: Sequence[Record], state: StateReader) -> BatchResult:
        """One slice."""
        self.calls.append(len(batch))
        found = state.get_many({record.key or b"" for record in batch})
        writes: dict[bytes, bytes | None] = {}
        outputs, dead = [], []
        for record in batch:
            self._clock.now += self._seconds[record.offset]
            key = record.key or b""
            before = writes[key] if key in writes else found.get(key)
            after = (before or b"") + b" " + (record.value or b"")
            outputs.append(Output("out", key, after))
            writes[key] = None if after.count(b" ") % 5 == 0 else after
            if record.offset % 3 == 0:
                dead.append(DeadRecord(record.offset, "third", may_be_ours=False))
        return BatchResult(outputs, writes, dead, {"records": len(batch)})


@given(
    st.lists(st.integers(0, 4), min_size=1, max_size=200),
    st.lists(st.floats(0, 0.1), min_size=200, max_size=200),
)
def test_slices_make_no_difference(keys: list[int], seconds: list[float]) -> None:
    """Whatever the records cost; slices of a batch that ended early go on in the next one."""
    batch = records(keys)
    whole = Costly(Clock(), seconds)(0, batch, DictState())
    clock, state = Clock(), DictState()
    process = Costly(clock, seconds)

    async def run() -> tuple[list[Output], list[DeadRecord], dict[bytes, bytes | None]]:
        slices = Slices(process, asyncio.Lock(), clock)
        outputs: list[Output] = []
        dead: list[DeadRecord] = []
        writes: dict[bytes, bytes | None] = {}
        left = batch
        while left:
            ends = sorted({*range(20, len(left), 20), len(left)})
            result, done = await slices.compute(0, left, state, ends=ends, current=always)
            assert done in ends
            assert result.counts["records"] == done
            outputs += result.outputs
            dead += result.dead
            writes |= result.writes
            state.write(result.writes)
            left = left[done:]
        return outputs, dead, writes

    assert asyncio.run(run()) == (whole.outputs, whole.dead, whole.writes)
    assert sum(process.calls) == len(batch)


async def test_no_slice_takes_long_once_the_cost_is_known_and_no_batch_goes_on_for_ever() -> None:
    """Records of 5 ms: four a slice, and the batch ends at the first place after a second."""
    clock = Clock()
    process = Costly(clock, [0.005] * 1_000)
    slices = Slices(process, asyncio.Lock(), clock)
    _, done = await slices.compute(0, records([0] * 1_000), DictState(), ends=range(250, 1_001, 250), current=always)
    assert set(process.calls[1:-1]) == {round(SLICE_SECONDS / 0.005)}
    assert done == 250
    assert clock.now >= BATCH_SECONDS


async def test_cheap_records_are_few_slices() -> None:
    """Each is up to four times the one before."""
    clock = Clock()
    process = Costly(clock, [0.000_005] * 4_000)
    slices = Slices(process, asyncio.Lock(), clock)
    _, done = await slices.compute(0, records([0] * 4_000), DictState(), ends=[4_000], current=always)
    assert (done, len(process.calls)) == (4_000, 4)


async def test_the_loop_turns_between_slices_and_slices_take_turns() -> None:
    """Two partitions at a time: neither waits for the other's batch, and others of the loop wait for one slice only."""
    clock = Clock()
    process = Costly(clock, [0.01] * 300)
    turn = asyncio.Lock()
    ticks: list[int] = []

    async def tick() -> None:
        while True:
            ticks.append(len(process.calls))
            await asyncio.sleep(0)

    ticking = asyncio.create_task(tick())
    both = [
        Slices(process, turn, clock).compute(0, records([0] * 99), DictState(), ends=[99], current=always) for _ in range(2)
    ]
    await asyncio.gather(*both)
    ticking.cancel()
    assert len(process.calls) > 40
    assert max(after - before for before, after in pairwise(ticks)) == 1


async def test_a_lost_partition_is_computed_no_further() -> None:
    """Nothing of it counts."""
    clock = Clock()
    process = Costly(clock, [0.01] * 300)

    def first() -> bool:
        return not process.calls

    result, done = await Slices(process, asyncio.Lock(), clock).compute(
        0, records([0] * 300), DictState(), ends=[300], current=first
    )
    assert (result, done, len(process.calls)) == (BatchResult(), 0, 1)


async def test_what_costs_much_is_put_into_batches_in_small_pieces() -> None:
    """A batch can end between two pieces, and small ones cost throughput."""
    clock = Clock()
    slices = Slices(Costly(clock, [SLICE_SECONDS / 4] * 1_000), asyncio.Lock(), clock)
    first = slices.piece()
    await slices.compute(0, records([0] * 100), DictState(), ends=[100], current=always)
    assert 10 < slices.piece() <= 40 < first
    cheap = Slices(Costly(clock, [0.0] * 9_000), asyncio.Lock(), clock)
    for _ in range(5):
        await cheap.compute(0, records([0] * 1_000), DictState(), ends=[1_000], current=always)
    assert cheap.piece() == MAX_PIECE

"""What waits together is taken together: order, kinds and the bound."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.batching import BatchResult, Output, Record, StateReader
from streams.batching.agent import KafkaEffects
from streams.batching.turns import Chunk, Turns
from tests.streams.batching.harness import Lab
from tests.streams.batching.in_process import build, running
from tests.support.waiting import wait_until

CHUNKS = st.lists(st.tuples(st.sampled_from("ab"), st.integers(1, 6)), max_size=30)


@given(CHUNKS, st.integers(1, 8))
def test_turns_take_every_chunk_once_in_order_and_join_only_alike(chunks: list[tuple[str, int]], most: int) -> None:
    """All chunks come out as they went in; a turn is of one kind, and over the bound only when it is a single chunk."""
    turns = Turns(most)
    given_ = [Chunk(kind, size, number) for number, (kind, size) in enumerate(chunks)]
    begun = [turns.add(3, chunk) for chunk in given_]
    assert begun == [True, *[False] * (len(given_) - 1)][: len(given_)]
    taken = []
    while turn := turns.take(3):
        assert len({chunk.kind for chunk in turn}) == 1
        assert len(turn) == 1 or sum(chunk.size for chunk in turn) <= most
        taken.append(turn)
    assert [chunk for turn in taken for chunk in turn] == given_
    for turn, after in pairwise(taken):  # none was left behind that would have fitted
        assert turn[0].kind != after[0].kind or sum(chunk.size for chunk in turn) + after[0].size > most
    assert turns.add(3, Chunk("a", 1, "later"))  # who served has gone: somebody must begin again


def test_partition_numbers_do_not_wait_for_each_other() -> None:
    """Each is served by itself."""
    turns = Turns(10)
    assert turns.add(0, Chunk("a", 1, "first"))
    assert turns.add(1, Chunk("a", 1, "second"))
    assert [chunk.event for chunk in turns.take(1)] == ["second"]
    assert [chunk.event for chunk in turns.take(0)] == ["first"]


async def test_chunks_that_come_during_a_batch_are_one_batch(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Records that are sent one by one while a batch is under way are processed together after it, in order, and committed."""
    batches: list[list[bytes]] = []

    def note(_partition: int, records: Sequence[Record], _state: StateReader) -> BatchResult:
        batches.append([record.value or b"" for record in records])
        return BatchResult(outputs=[Output(lab.topic("out"), b"k", record.value) for record in records])

    app, _ = build(lab, note, store="memory://")
    gate, held = asyncio.Event(), asyncio.Event()
    send = KafkaEffects.send_outputs

    async def send_when_open(effects: KafkaEffects, outputs: Sequence[Output]) -> None:
        held.set()
        await gate.wait()
        await send(effects, outputs)

    def fetched() -> int:
        return int(app.consumer._ranges.inflight)

    monkeypatch.setattr(KafkaEffects, "send_outputs", send_when_open)
    async with running(app):
        values = [b"%d" % number for number in range(6)]
        for number, value in enumerate(values, start=1):
            await lab.send("in", b"k", value)
            await asyncio.wait_for(held.wait(), 10)
            # Each is fetched by itself, and waits in the agent.
            await wait_until(partial(_reached, fetched, number), 10, "it is fetched")
        gate.set()
        await wait_until(lambda: sum(map(len, batches)) == len(values), 10, "all are processed")
        assert batches == [values[:1], values[1:]]

        async def committed() -> bool:
            return await lab.committed(str(app.conf.id)) == await lab.end(lab.topic("in"))

        await wait_until(committed, 10, "all committed")
    assert [record.value for record in await lab.read(lab.topic("out"))] == values


def _reached(count: Callable[[], int], goal: int) -> bool:
    return count() == goal

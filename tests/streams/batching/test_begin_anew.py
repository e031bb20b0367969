"""A partition that begins anew while its records are on their way: all are read again, and no commit says so before."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
from faust.types import TP

from streams.batching import BatchResult, Record, StateReader
from streams.batching.agent import KafkaEffects
from streams.batching.consumer import BatchConsumer
from streams.batching.records import Output
from tests.streams.batching.harness import Lab
from tests.streams.batching.in_process import build, running
from tests.support.waiting import wait_until

AT = (2, 3, 7)
"""Which of the moments."""


def at_the_moment(moment: str, consumer: BatchConsumer, act: Callable[[], None]) -> None:
    """Have the consumer act when records are fetched, when there is room for the next, or when a commit is under way."""
    changed: Any = consumer
    fetch, wait, commit = consumer._wait_next_records, consumer._room.wait, consumer._commit

    async def fetch_and_act(seconds: float) -> Any:
        fetched = await fetch(seconds)
        act()
        return fetched

    async def wait_and_act() -> bool:
        await wait()
        act()
        return True

    async def commit_and_act(offsets: Mapping[TP, int]) -> bool:
        act()
        done: bool = await commit(offsets)
        return done

    match moment:
        case "fetched":
            changed._wait_next_records = fetch_and_act
        case "room":
            changed._room.wait = wait_and_act
        case "commit":
            changed._commit = commit_and_act


@pytest.mark.parametrize("moment", ["fetched", "room", "commit"])
async def test_a_partition_that_begins_anew_is_read_whole(lab: Lab, moment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is on its way then: it may be processed once more, but it commits nothing."""
    send = KafkaEffects.send_outputs

    async def send_slowly(effects: KafkaEffects, outputs: Sequence[Output]) -> None:
        await asyncio.sleep(0.005)
        await send(effects, outputs)

    monkeypatch.setattr(KafkaEffects, "send_outputs", send_slowly)
    seen: list[tuple[int, int]] = []

    def note(partition: int, records: Sequence[Record], _state: StateReader) -> BatchResult:
        seen.extend((partition, record.offset) for record in records)
        return BatchResult([Output(lab.topic("out"), record.key, record.value) for record in records])

    app, _ = build(lab, note, commit_interval=0.05, batch_records=20, inflight_records=60)
    ends = {TP(lab.topic("in"), number): await lab.end_of(lab.topic("in"), number) for number in range(4)}
    acted: list[int] = []
    moments = 0

    def begin_anew() -> None:
        nonlocal moments
        moments += 1
        if moments in AT:
            for tp in ends:
                app.consumer.begin_anew(tp, 0)
            acted.append(len(seen))

    too_far: list[tuple[TP, int]] = []

    async def checked_commit_offsets(offsets: Mapping[TP, int], *args: Any, **kwargs: Any) -> bool:
        again, turn = set(seen[acted[-1] if acted else 0 :]), len(acted)
        too_far.extend(
            (tp, end) for tp, end in offsets.items() if not again >= {(tp.partition, offset) for offset in range(end)}
        )
        done: bool = await commit_offsets(offsets, *args, **kwargs)
        if len(acted) > turn:
            too_far.extend((tp, app.consumer.committed_offset(tp)) for tp in offsets if app.consumer.committed_offset(tp))
        return done

    async with running(app):
        commit_offsets = app.consumer._commit_offsets
        app.consumer._commit_offsets = checked_commit_offsets
        at_the_moment(moment, app.consumer, begin_anew)
        await lab.produce("in", [b"%d" % number for number in range(1_000)])
        ends = {TP(lab.topic("in"), number): await lab.end_of(lab.topic("in"), number) for number in range(4)}

        def all_committed() -> bool:
            return len(acted) == len(AT) and all(app.consumer.committed_offset(tp) == end for tp, end in ends.items())

        await wait_until(all_committed, 30, "all is committed")
        assert too_far == []
        assert set(seen[acted[-1] :]) == {(tp.partition, offset) for tp, end in ends.items() for offset in range(end)}
        assert await lab.committed(str(app.conf.id)) == sum(ends.values())

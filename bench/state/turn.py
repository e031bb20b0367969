"""What one turn of the expiry timer takes over many cases, half of them open, of which a few are due."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path

import msgspec

from bench.state.filling import PARTITIONS, START, Cases, typical_case
from kybstream.ids import to_micros
from kybstream.partitions import partition_of
from kybstream.settings import KafkaSettings
from streams.batching import Output
from streams.batching.state import PartitionedState, open_state
from streams.expiring import CaseDue, told_again_within
from streams.processing import read_case_state
from streams.timer import turn
from streams.worker import CASES_TABLE

DUE = 100
"""How many of the cases are due."""

_ROWS = 500


class LocalCases:
    """The local store of the cases' table, without Kafka behind it."""

    def __init__(self, local: PartitionedState) -> None:
        self.local = local

    def owned_partitions(self) -> frozenset[int]:
        """All of them."""
        return frozenset(range(PARTITIONS))

    def due(self, partition: int, kind: int, until: int) -> Iterator[tuple[bytes, bytes]]:
        """What of a partition is due."""
        return self.local.due(partition, kind, until)


class Nowhere:
    """Takes what the timer sends."""

    def __init__(self) -> None:
        self.sent = 0

    async def publish(self, outputs: Sequence[Output]) -> None:
        """Counts it."""
        self.sent += len(outputs)


def milliseconds_of_turn(cases: int, folder: Path) -> float:
    """Writes so many cases to a local store and takes a turn over them: the best of three."""
    local = open_state("rocksdb://", folder, CaseDue(told_again_within(KafkaSettings())))
    try:
        _write(local, cases)
        took = []
        for _ in range(3):
            app, began = Nowhere(), time.perf_counter()
            asyncio.run(turn(app, LocalCases(local), "kyb.case-events", START + timedelta(days=1)))
            took.append(time.perf_counter() - began)
            if app.sent != min(DUE, cases // 2):
                raise AssertionError(f"{app.sent} cases were due")
    finally:
        local.close()
    return min(took) * 1000


def _write(local: PartitionedState, cases: int) -> None:
    kinds = [Cases(typical_case(open_=open_), [CASES_TABLE]) for open_ in (False, True)]
    offsets = dict.fromkeys(range(PARTITIONS), -1)
    rows: dict[int, list[tuple[bytes, bytes]]] = {number: [] for number in range(PARTITIONS)}
    for number in range(PARTITIONS):
        while not local.index_more(number, 1):
            pass
    for count in range(cases):
        for _, key, made in kinds[count % 2].rows():
            value = _due(made) if count % 2 and count < 2 * DUE else made
            partition = partition_of(key, PARTITIONS)
            rows[partition].append((key, value))
            if len(rows[partition]) == _ROWS:
                offsets[partition] += _ROWS
                local.write(partition, rows.pop(partition), offsets[partition])
                rows[partition] = []
    for partition, left in rows.items():
        local.write(partition, left, offsets[partition] + len(left))


def _due(value: bytes) -> bytes:
    state = read_case_state(value)
    return msgspec.msgpack.encode(msgspec.structs.replace(state, expires_at=to_micros(START)))

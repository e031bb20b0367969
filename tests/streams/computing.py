"""A process as `run_batch` takes it, in one call: what slices come to, without an event loop."""

from __future__ import annotations

from collections.abc import Sequence

from streams.batching import BatchResult, Process, Record, StateReader
from streams.batching.steps import Compute


def computing(process: Process, partition: int, records: Sequence[Record]) -> Compute:
    """The computation of a batch."""

    async def compute(state: StateReader) -> BatchResult:
        return process(partition, records, state)

    return compute

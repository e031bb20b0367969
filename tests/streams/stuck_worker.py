"""`kyb-stream worker` with a bug in it, as a process of its own: `python -m tests.streams.stuck_worker BUG ARGUMENTS…`.

Bugs: `blocks` never returns from the first batch of the intake, and so blocks the event loop; `waits` never finishes the
outputs of any batch.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Sequence

import streams.batching.agent
import streams.monitoring
from kybstream.cli.main import run
from streams.batching import BatchResult, Output, Record, StateReader
from streams.batching.agent import KafkaEffects
from streams.processing import IntakeProcess


def block_for_ever(_self: IntakeProcess, _partition: int, _records: Sequence[Record], _state: StateReader) -> BatchResult:
    """In place of the intake."""
    threading.Event().wait()
    raise AssertionError


class WaitingEffects(KafkaEffects):
    """Effects whose outputs are never acknowledged."""

    async def send_outputs(self, outputs: Sequence[Output]) -> None:
        """Waits for ever, and swallows cancellation as Faust does."""
        del outputs
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                continue


if __name__ == "__main__":
    if sys.argv[1] == "blocks":
        IntakeProcess.__call__ = block_for_ever  # type: ignore[method-assign, assignment] # the bug
    else:
        streams.batching.agent.KafkaEffects = WaitingEffects  # type: ignore[misc] # the bug
    streams.monitoring._ORDERLY_SECONDS = 1.0
    sys.exit(run(["worker", *sys.argv[2:]]))

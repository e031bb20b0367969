"""A worker that forwards each id once, as a process of its own so that tests can kill it.

Its state holds, per id, the offset it was first seen at. An id seen at another offset is a duplicate; the same offset again is
reprocessing after a kill, and is forwarded again, as the product's intake does.
"""

from __future__ import annotations

import asyncio
import logging
import random
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

import streams.batching.agent
from streams.batching import BatchApp, BatchResult, Output, Record, StateReader, run
from streams.batching.agent import KafkaEffects


class WorkerConfig(msgspec.Struct, frozen=True):
    """How to run one worker; passed as JSON in the first argument."""

    app_id: str
    broker: str
    sources: list[str]
    target: str
    datadir: str
    store: str = "rocksdb://"
    partitions: int = 4
    instance_id: str | None = None
    poison: str = ""
    """A record with this value makes `process` raise."""
    commit_interval: float = 0.3
    batch_records: int = 500
    pause_ms: float = 0.0
    """Up to this long a pause around each durable step, so that kills hit between them."""
    outputs_last: bool = False
    """Sabotage, to show that the kill test can fail: send a batch's outputs after acknowledging it."""


class ChaosEffects(KafkaEffects):
    """The real effects, with pauses and on request in the wrong order."""

    pause_seconds = 0.0
    outputs_last = False
    late: set[asyncio.Task[None]] = set()  # noqa: RUF012 - one worker, one process
    _held: Sequence[Output] = ()

    async def send_outputs(self, outputs: Sequence[Output]) -> None:
        """Send, or hold back until after the acknowledgement."""
        if self.outputs_last:
            self._held = outputs
            return
        await self._pause()
        await super().send_outputs(outputs)
        await self._pause()

    async def append_changelog(self, writes: dict[bytes, bytes | None]) -> int:
        """Append, then pause: the changelog is ahead of the store."""
        offset = await super().append_changelog(writes)
        await self._pause()
        return offset

    def acknowledge(self) -> None:
        """Acknowledge; then send what was held back."""
        super().acknowledge()
        if self._held:
            task = asyncio.create_task(self._send_late())
            self.late.add(task)
            task.add_done_callback(self.late.discard)

    async def _send_late(self) -> None:
        await self._pause()
        await super().send_outputs(self._held)

    async def _pause(self) -> None:
        if self.pause_seconds:
            await asyncio.sleep(random.random() * self.pause_seconds)  # noqa: S311 - not a secret


def dedupe(config: WorkerConfig, records: Sequence[Record], state: StateReader) -> BatchResult:
    """Forward ids not seen at another offset; the last source topic only marks its ids as seen."""
    poison = config.poison.encode()
    known = state.get_many({record.value for record in records if record.value})
    writes: dict[bytes, bytes | None] = {}
    outputs: list[Output] = []
    marks_only = config.sources[-1] if len(config.sources) > 1 else ""
    for record in records:
        value = record.value or b""
        if poison and value == poison:
            message = "poison"
            raise ValueError(message)
        place = f"{record.topic}:{record.offset}".encode()
        first = writes.get(value) or known.get(value)
        if first is None:
            writes[value] = first = place
        if first == place and record.topic != marks_only:
            outputs.append(Output(config.target, record.key, value, [("first", place), *record.headers]))
    return BatchResult(outputs, writes)


def build(config: WorkerConfig) -> BatchApp:
    """Return the app of a worker."""
    ChaosEffects.pause_seconds = config.pause_ms / 1000
    ChaosEffects.outputs_last = config.outputs_last
    streams.batching.agent.KafkaEffects = ChaosEffects  # type: ignore[misc] # the test's hook
    app = BatchApp(
        config.app_id,
        broker=config.broker,
        datadir=Path(config.datadir),
        store=config.store,
        partitions=config.partitions,
        instance_id=config.instance_id,
        commit_interval=config.commit_interval,
        session_timeout=10,
        batch_records=config.batch_records,
    )
    table = app.batch_table("seen")
    app.batch_agent(app.batch_topic(*config.sources), table, lambda _, records, state: dedupe(config, records, state))
    return app


async def main(config: WorkerConfig) -> None:
    """Run until SIGTERM."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await run(build(config), stop)


if __name__ == "__main__":
    asyncio.run(main(msgspec.json.decode(sys.argv[1], type=WorkerConfig)))

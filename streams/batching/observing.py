"""What a batch took and came to, told to whoever counts it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Literal, Protocol

from kybstream.expired import Expired
from streams.batching.records import BatchResult, Output, StateReader
from streams.batching.steps import Compute, Effects

Step = Literal["compute", "outputs", "changelog", "store"]
"""Steps 1 to 4 of `steps`; the fifth is a note in memory."""


class Observer(Protocol):
    """Is told what happens to batches, in the event loop; must be quick and must not raise."""

    def step_took(self, agent: str, step: Step, seconds: float) -> None:
        """A step of a batch is done."""

    def batch_done(self, agent: str, records: int, result: BatchResult) -> None:
        """A batch has been acknowledged."""

    def records_expired(self, expired: Expired) -> None:
        """Records expired before they were read."""

    def batch_retried(self, agent: str) -> None:
        """A batch met trouble of Kafka's or of the disk's, and is tried again."""


class Unobserved:
    """Counts nothing."""

    def records_expired(self, expired: Expired) -> None:
        """Do nothing."""

    def step_took(self, agent: str, step: Step, seconds: float) -> None:
        """Do nothing."""

    def batch_done(self, agent: str, records: int, result: BatchResult) -> None:
        """Do nothing."""

    def batch_retried(self, agent: str) -> None:
        """Do nothing."""


class Measured:
    """The computation and the effects of one batch, both measured: stands for either in `run_batch`.

    Attributes:
        result: What the batch came to, once it has been computed.
    """

    def __init__(self, agent: str, compute: Compute, effects: Effects, observer: Observer) -> None:
        self._agent = agent
        self._compute = compute
        self._effects = effects
        self._observer = observer
        self.result = BatchResult()

    async def __call__(self, state: StateReader) -> BatchResult:
        """Step 1."""
        began = time.perf_counter()
        self.result = await self._compute(state)
        self._took("compute", began)
        return self.result

    def current(self) -> bool:
        """Tell whether this process still owns the partition."""
        return self._effects.current()

    def reader(self) -> StateReader:
        """Return the state as the last batch left it."""
        return self._effects.reader()

    async def send_outputs(self, outputs: Sequence[Output]) -> None:
        """Step 2."""
        began = time.perf_counter()
        await self._effects.send_outputs(outputs)
        self._took("outputs", began)

    async def append_changelog(self, writes: dict[bytes, bytes | None]) -> int:
        """Step 3."""
        began = time.perf_counter()
        offset = await self._effects.append_changelog(writes)
        self._took("changelog", began)
        return offset

    def write_store(self, writes: dict[bytes, bytes | None], offset: int) -> None:
        """Step 4."""
        began = time.perf_counter()
        self._effects.write_store(writes, offset)
        self._took("store", began)

    def acknowledge(self) -> None:
        """Step 5."""
        self._effects.acknowledge()

    def _took(self, step: Step, began: float) -> None:
        self._observer.step_took(self._agent, step, time.perf_counter() - began)

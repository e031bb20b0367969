"""The sink under observation: its standing looked at each second, its health pages served, its watchdog awake."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Protocol

from kybstream.health import HealthPages, serve_health
from kybstream.settings import SinkSettings
from kybstream.side_tasks import side_tasks
from kybstream.watchdog import LOOK_SECONDS, Watchdog
from sinks.liveness import Liveness
from sinks.metrics import Reading, SinkMetrics, Standing

_LOOKS_A_STALL = 4


class Observed(Protocol):
    """What is looked at; `SinkLoop` is one."""

    def phase(self) -> str:
        """As of `Reading`."""

    def standings(self) -> Mapping[tuple[str, int], Standing]:
        """By topic and partition."""

    def buffered_bytes(self) -> int:
        """Values that were read and have not landed."""

    def last_insert(self) -> float | None:
        """When rows landed last, in seconds of the monotonic clock."""

    def inserts_delayed(self) -> bool:
        """Whether an insert has failed and is to be sent again."""


class Monitor:
    """Holds what is known about a sink, before and while it has a loop."""

    def __init__(self, settings: SinkSettings, metrics: SinkMetrics) -> None:
        self.metrics = metrics
        self.liveness = Liveness(stalled_after=settings.stalled_after_seconds)
        self._observed: Observed | None = None
        metrics.watch(self.reading)

    def observe(self, observed: Observed) -> None:
        """Looks at this one from now on."""
        self._observed = observed

    def reading(self) -> Reading:
        """How the sink does now."""
        observed, stall = self._observed, self.liveness.stall()
        stalled = stall.seconds if stall else 0.0
        if observed is None:
            return Reading(stalled_seconds=stalled)
        last = observed.last_insert()
        return Reading(
            phase=observed.phase(),
            stalled_seconds=stalled,
            last_insert_seconds=None if last is None else time.monotonic() - last,
            buffered_bytes=observed.buffered_bytes(),
            partitions=observed.standings(),
        )

    def inserts_delayed(self) -> bool:
        """Whether an insert has failed and is to be sent again."""
        return self._observed is not None and self._observed.inserts_delayed()

    def turn(self) -> None:
        """One look."""
        observed = self._observed
        if observed is None:
            self.liveness.turn("starting", {})
        else:
            self.liveness.turn(observed.phase(), observed.standings())

    def stalled(self) -> str | None:
        """Why `/healthz` fails."""
        stall = self.liveness.stall()
        return None if stall is None else stall.reason

    def unready(self) -> str | None:
        """Why `/readyz` fails."""
        phase = "starting" if self._observed is None else self._observed.phase()
        return None if phase == "running" else phase


@asynccontextmanager
async def monitored(settings: SinkSettings, listening: Callable[[int | None], None] | None = None) -> AsyncIterator[Monitor]:
    """Watches a sink while the block runs.

    A stall is told, with all stacks in the log, and ends nothing: a ClickHouse that is away comes back without a restart.

    Args:
        settings: When to worry, and where to say so.
        listening: Is told the port of the health pages, if there are any.

    Raises:
        RunError: The port is in use, or the looking failed.
    """
    monitor = Monitor(settings, SinkMetrics())
    look_seconds = min(LOOK_SECONDS, settings.stalled_after_seconds / _LOOKS_A_STALL)

    async def look() -> None:
        while True:
            monitor.turn()
            await asyncio.sleep(look_seconds)

    pages = HealthPages(monitor.stalled, monitor.unready, monitor.metrics.render)
    async with serve_health(pages, "sink", settings.health_host, settings.health_port) as port:
        if listening is not None:
            listening(port)
        watchdog = Watchdog(monitor.liveness.stall, give_up_after=math.inf, give_up=lambda _: None, look_seconds=look_seconds)
        watchdog.start()
        try:
            async with side_tasks("sink", liveness=look):
                yield monitor
        finally:
            watchdog.stop()

"""What brings spooled deliveries to Kafka, as tasks of a server."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path

from ingress.metrics import IngressMetrics
from ingress.publish import Publisher
from ingress.spool import Lanes, Spool, SpoolLimits, drain, drain_left_behind, spool_folder
from kybstream.settings import IngressSettings
from kybstream.side_tasks import SideTask, kept_up


async def open_spool(ingress: IngressSettings, index: int, count: int, metrics: IngressMetrics) -> Spool | None:
    """The spool of the process of this number, of so many; None where none is set.

    Raises:
        RunError: Another process uses the folder, or it cannot be made.
    """
    if ingress.spool_dir is None:
        return None
    spool = await Spool.open(spool_folder(Path(ingress.spool_dir), index, count), _limits(ingress))
    metrics.watch_spool(spool)
    return spool


class Draining:
    """A task for its own spool, and, in the first process, one for the spools that no process has any more."""

    def __init__(
        self,
        ingress: IngressSettings,
        spool: Spool | None,
        publisher: Publisher,
        metrics: IngressMetrics,
        *,
        index: int,
        count: int,
        partitions: int,
    ) -> None:
        lanes = Lanes(publisher.partition_of, partitions)
        self._stop = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        send, on_progress = publisher.send_spooled, metrics.drained.inc
        if spool is not None:
            self._keep_up("drain", partial(drain, spool, send, self._stop, lanes=lanes, on_progress=on_progress))
        if ingress.spool_dir is not None and index == 0:
            left_behind = partial(
                drain_left_behind,
                Path(ingress.spool_dir),
                count,
                send,
                self._stop,
                limits=_limits(ingress),
                on_progress=on_progress,
                lanes=lanes,
                watch=metrics.watch_spool,
            )
            self._keep_up("drain-left-behind", left_behind)

    def _keep_up(self, name: str, task: SideTask) -> None:
        self._tasks.add(asyncio.create_task(kept_up("ingress", name, task), name=name))

    async def stop(self, seconds: float) -> None:
        """Ends them, and waits for what is being sent; what is not acknowledged stays in the spool."""
        self._stop.set()
        if not self._tasks:
            return
        await asyncio.wait(self._tasks, timeout=seconds)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def _limits(ingress: IngressSettings) -> SpoolLimits:
    return SpoolLimits(max_bytes=ingress.spool_max_bytes)

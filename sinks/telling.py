"""Partitions of which something expired before it was read: nothing behind it is read before Kafka has a dead letter of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection

from kybstream.expired import Expired
from sinks.partition import Partition


class Telling:
    """Waits for the dead letters of all such partitions at once; the others are read meanwhile.

    Args:
        tell: Returns when Kafka has the dead letter.
    """

    def __init__(self, tell: Callable[[Expired], Awaitable[None]]) -> None:
        self._tell = tell
        self._under_way: dict[Partition, tuple[asyncio.Future[None], int]] = {}

    def __contains__(self, partition: Partition) -> bool:
        return partition in self._under_way

    def begin(self, partition: Partition, expired: Expired, offset: int) -> None:
        """Tells of it; the partition goes on at the offset then."""
        self._under_way[partition] = asyncio.ensure_future(self._tell(expired)), offset

    def told(self) -> list[tuple[Partition, int]]:
        """Partitions that may go on, and where; each once.

        Raises:
            RunError: Kafka will never take a dead letter.
        """
        done = [(partition, offset) for partition, (task, offset) in self._under_way.items() if task.done()]
        for partition, _ in done:
            self._under_way.pop(partition)[0].result()
        return done

    def drop(self, partitions: Collection[Partition]) -> None:
        """They are another process's now, or nobody's: who comes next tells it."""
        for partition in partitions:
            task, _ = self._under_way.pop(partition, (None, 0))
            if task is not None:
                task.cancel()

    def drop_all(self) -> None:
        """At the end."""
        self.drop(list(self._under_way))

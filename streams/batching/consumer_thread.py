"""The thread in which the aiokafka consumer of a worker runs."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from itertools import starmap
from typing import Any

from aiokafka import TopicPartition
from aiokafka.client import ConnectionGroup
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from mode.threads import WorkerThread

from kybstream.kafka import pace_fetches
from kybstream.topic_ids import topic_ids
from streams.batching.made_anew import commit_notes

THREAD_SECONDS = 0.5
"""How long a stop may block the event loop for the consumer's thread to end."""


class DaemonThread(WorkerThread):  # type: ignore[misc] # mode publishes no types we follow
    """A consumer thread that neither keeps a finished process alive nor blocks the event loop for ever."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.daemon = True

    def stop(self) -> None:
        """Wait briefly for the thread's end; mode would block the event loop, for which the thread may be waiting."""
        self.is_stopped.wait(THREAD_SECONDS)


class ConsumerThread(driver.AIOKafkaConsumerThread):  # type: ignore[misc] # Faust publishes no types
    """Faust's thread around the aiokafka consumer, whose fetches are paced.

    It never fetches a changelog: a recovery reads them with a consumer of its own, and what a worker has written itself would
    only lie here.
    """

    def _create_consumer(self, loop: asyncio.AbstractEventLoop) -> Any:
        return commit_notes(pace_fetches(super()._create_consumer(loop)))

    async def committed_notes(self, partitions: Collection[TP]) -> dict[TP, str]:
        """Return the metadata that is committed beside the offsets of partitions."""
        coordinator = self._ensure_consumer()._coordinator  # noqa: SLF001 - `committed` tells the offset alone
        committed = await self.call_thread(coordinator.fetch_committed_offsets, [TopicPartition(*tp) for tp in partitions])
        return {TP(*place): found.metadata for place, found in committed.items()}

    async def topic_ids(self, partitions: Collection[TP]) -> dict[TP, str]:
        """Return the topic ids of partitions whose leaders this client is connected with, as fetching and comparing keep it.

        A connection that is made for this while the consumer stops would stay open. Not by `call_thread`, which runs two calls
        at a time: while a broker does not answer, commits and fetches go on.
        """
        client = self._ensure_consumer()._client  # noqa: SLF001 - aiokafka's consumer does not ask for ids
        asking = topic_ids(client, [place for place in starmap(TopicPartition, partitions) if _is_connected(client, place)])
        ids = await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(asking, self.thread_loop))
        return {TP(*place): topic_id for place, topic_id in ids.items()}

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        """Pause all partitions, which each assignment takes up anew; `read_sources` ends it for those that are read here.

        A broker answers the requests of a connection in turn, and holds a fetch that finds nothing for 1.5 s (Faust's setting):
        whoever asks it for offsets meanwhile waits as long.
        """
        consumer = self._ensure_consumer()
        consumer.pause(*consumer.assignment())
        await super().on_partitions_assigned(assigned, generation_id)

    async def read_sources(self) -> None:
        """Fetch from the assigned partitions of all topics but changelogs."""
        await self.call_thread(self._read_sources)

    async def _read_sources(self) -> None:
        consumer = self._ensure_consumer()
        changelogs = self.app.tables.changelog_topics
        consumer.resume(*(tp for tp in consumer.assignment() if tp.topic not in changelogs))


def _is_connected(client: Any, place: TopicPartition) -> bool:
    connection = client._conns.get((client.cluster.leader_for_partition(place), ConnectionGroup.DEFAULT))  # noqa: SLF001 - no public way
    return connection is not None and bool(connection.connected())

"""The delivery ids of a large topic by two processes, half of the partitions each.

What bounds a scan is receiving the bytes of the topic in one Python process, so a second one reads half of the partitions
(docs/performance.md). It puts its ids into files and says by a pipe how it went. Where it does not go well, whatever the
reason, the first process reads that half itself: it meets the same trouble there, and tells it in the usual way.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import sys
from collections.abc import Collection
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Self

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from kybstream.kafka import partitions_of, reading, unreachable
from kybstream.operations.delivery_ids import TopicScan, scan_ids
from kybstream.operations.id_buckets import IdBuckets
from kybstream.settings import KafkaSettings
from schemas.records import WebhookDelivery

WORTH_A_PROCESS = 500_000
"""Records of a topic; fewer are read before a second process has started."""


async def collect_ids(kafka: KafkaSettings, topic: str, folder: Path) -> tuple[IdBuckets, TopicScan]:
    """The ids of the raw deliveries of a topic, and what `scan_ids` found beside them.

    Args:
        kafka: Where.
        topic: Its full name.
        folder: Empty, and left to the buckets for as long as they are used.

    Raises:
        UnavailableError: Kafka cannot be reached.
        RunError: There is no such topic.
    """
    here, beside = folder / "here", folder / "beside"
    here.mkdir()
    buckets = IdBuckets(here)
    partitions = await partitions_of(kafka, topic)
    if len(partitions) == 1 or await _records(kafka, topic, partitions) < WORTH_A_PROCESS:
        return buckets, await scan_ids(kafka, topic, WebhookDelivery, buckets.add)
    ours, theirs = partitions[::2], partitions[1::2]
    beside.mkdir()
    with _Beside(kafka, topic, theirs, beside) as second:
        scan = await scan_ids(kafka, topic, WebhookDelivery, buckets.add, only=ours)
        other = await second.scan()
    if other is None:
        other = await scan_ids(kafka, topic, WebhookDelivery, buckets.add, only=theirs)
    else:
        buckets.join(beside)
    return buckets, scan.and_of(other)


class _Beside:
    """The second process; ended when the block ends."""

    def __init__(self, kafka: KafkaSettings, topic: str, partitions: Collection[int], folder: Path) -> None:
        spawning = multiprocessing.get_context("spawn")  # a fork would share our connections
        self._receiver, self._sender = spawning.Pipe(duplex=False)
        self._process = spawning.Process(
            target=_scan, args=(kafka, topic, partitions, folder, self._sender), daemon=True, name="reconcile-beside"
        )

    def __enter__(self) -> Self:
        self._process.start()
        self._sender.close()  # the other end is the process's alone, so its death ends the waiting
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._process.terminate()
        self._process.join()
        self._receiver.close()

    async def scan(self) -> TopicScan | None:
        """What it found, once all is in files; None where it ended without a word."""
        try:
            found: TopicScan = await asyncio.to_thread(self._receiver.recv)
        except (EOFError, OSError):  # nothing, or the beginning of something
            return None
        return found


def _scan(kafka: KafkaSettings, topic: str, partitions: Collection[int], folder: Path, answer: Connection) -> None:
    """All that the second process does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches it, too: the first process ends it
    # What there is to say the first process says, and its standard output may be read by a program.
    sys.stdout = sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 (until the process ends)
    buckets = IdBuckets(folder)
    scan = asyncio.run(scan_ids(kafka, topic, WebhookDelivery, buckets.add, only=partitions))
    buckets.write_out()
    answer.send(scan)


async def _records(kafka: KafkaSettings, topic: str, partitions: Collection[int]) -> int:
    """How many offsets there are, which is about how many records."""
    places = [TopicPartition(topic, partition) for partition in partitions]
    async with reading(kafka) as consumer:
        try:
            begin, end = await consumer.beginning_offsets(places), await consumer.end_offsets(places)
        except (KafkaError, OSError) as error:
            raise unreachable(kafka, error) from None
    return sum(end[each] - begin[each] for each in places)

"""Recovery: what of the changelogs a worker's local state lacks, read in bulk before any batch is processed.

Faust hands each chunk from its consumer's thread through a queue to a table, and applies one after the other: 15,000 records a
second. Here a consumer of its own reads all partitions of all tables at once and writes what it got to their stores. It reads
from where a store ends to where the changelog ended when the recovery began, in positions, not in records: what compaction and
markers of transactions leave out counts as read.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import IllegalStateError, KafkaError, KafkaTimeoutError
from faust.tables.manager import TableManager
from faust.tables.recovery import RebalanceAgain, Recovery, ServiceStopped
from faust.transport.drivers.aiokafka import credentials_to_aiokafka_auth, server_list
from mode import Service

from kybstream.kafka import pace_fetches
from streams.batching.store import BatchStore

if TYPE_CHECKING:
    from streams.batching.app import BatchApp

log = structlog.get_logger(__name__)

CHUNK_RECORDS = 2_000
"""Read and written between two turns of the event loop: some 40 ms."""

PARTITION_FETCH_BYTES = 2 << 20
FETCH_BYTES = 32 << 20
FETCH_MS = 500
PAUSE_SECONDS = 1.0
"""Between attempts to read from a broker that does not answer."""

TOLD_SECONDS = 5.0
"""Between two lines of the log that tell how far it is."""


class BatchRecovery(Recovery):  # type: ignore[misc] # Faust publishes no types
    """Faust's recovery after each rebalance, with its reading replaced."""

    @Service.task  # type: ignore[untyped-decorator]
    async def _restart_recovery(self) -> None:
        while not self.should_stop:
            if await self.wait_for_stopped(self.signal_recovery_start):
                return
            self.signal_recovery_start.clear()
            generation = self._generation_id
            try:
                self._set_recovery_started()
                # What this process has written itself must be in the changelogs when their ends are read.
                await self._wait(self.app.producer.flush(), timeout=self.app.conf.broker_request_timeout)
                # A rebalance or a stop cancels what is under way; what was written is kept.
                await self._wait(self._recover_all())
                await self._wait(self.on_recovery_completed(generation))
            except (RebalanceAgain, IllegalStateError):
                continue
            except ServiceStopped:
                return
            except Exception as error:
                log.exception("changelog_recovery_failed")
                await self.app.crash(error)
                return

    async def _recover_all(self) -> None:
        stores = {TopicPartition(tp.topic, tp.partition): self.tp_to_table[tp].data for tp in self.active_tps}
        while True:
            try:
                return await recover(self.app, stores)
            except KafkaError as error:
                if not error.retriable and not isinstance(error, KafkaTimeoutError):
                    raise
                log.warning("recovery_waits_for_broker", error=type(error).__name__, outage="kafka")
                await asyncio.sleep(PAUSE_SECONDS)

    @Service.task  # type: ignore[untyped-decorator]
    async def _slurp_changelogs(self) -> None:
        """Do nothing: Faust's consumer never reads a changelog."""

    @Service.task  # type: ignore[untyped-decorator]
    async def _publish_stats(self) -> None:
        """Do nothing: `recover` tells how far it is."""


class BatchTables(TableManager):  # type: ignore[misc] # Faust publishes no types
    """Faust's tables, with our recovery."""

    _recovery: BatchRecovery | None = None

    @property
    def recovery(self) -> BatchRecovery:
        """The one recovery of the app."""
        if self._recovery is None:
            self._recovery = BatchRecovery(self.app, self, beacon=self.beacon, loop=self.loop)
        return self._recovery


async def recover(app: BatchApp, stores: Mapping[TopicPartition, BatchStore]) -> None:
    """Bring stores up to where the changelogs of their partitions end now.

    Raises:
        KafkaError: if the broker does not answer; what was read is kept.
    """
    consumer = pace_fetches(_consumer(app))
    try:
        await consumer.start()
        ends = await consumer.end_offsets(list(stores))
        left = {tp: end for tp, end in ends.items() if stores[tp].local.offset(tp.partition) < end - 1}
        if left:
            consumer.assign(list(left))
            for tp in left:
                consumer.seek(tp, stores[tp].local.offset(tp.partition) + 1)
            await _read(consumer, stores, left)
    finally:
        await consumer.stop()


async def _read(
    consumer: AIOKafkaConsumer, stores: Mapping[TopicPartition, BatchStore], left: dict[TopicPartition, int]
) -> None:
    loop = asyncio.get_running_loop()
    began = told = loop.time()
    records = 0
    while left:
        for tp, chunk in (await consumer.getmany(timeout_ms=FETCH_MS, max_records=CHUNK_RECORDS)).items():
            stores[tp].recover(
                tp.partition, [(each.key, each.value) for each in chunk if each.key is not None], chunk[-1].offset
            )
            records += len(chunk)
        for tp, end in list(left.items()):
            # The position passes what has no record, too; what came after the beginning is read and kept as well.
            if (position := await consumer.position(tp)) >= end:
                stores[tp].settle(tp.partition, position - 1)
                consumer.pause(tp)
                del left[tp]
        if loop.time() - told > TOLD_SECONDS:
            told = loop.time()
            log.info("recovering", records=records, partitions_left=len(left))
        await asyncio.sleep(0)
    log.info("recovered", records=records, seconds=round(loop.time() - began, 1))


def _consumer(app: Any) -> AIOKafkaConsumer:
    conf, transport = app.conf, app.transport
    return AIOKafkaConsumer(
        bootstrap_servers=server_list(transport.url, transport.default_port),
        client_id=conf.broker_client_id,
        request_timeout_ms=int(conf.broker_request_timeout * 1000),
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        max_partition_fetch_bytes=PARTITION_FETCH_BYTES,
        fetch_max_bytes=FETCH_BYTES,
        **credentials_to_aiokafka_auth(conf.broker_credentials, conf.ssl_context),
    )

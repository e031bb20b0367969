"""The Faust app whose topics, tables and agents work in batches."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import faust
import structlog
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from kybstream.expired import Expired
from streams.batching.agent import BatchAgent
from streams.batching.consumer import BatchConsumer
from streams.batching.due import DueAt, never
from streams.batching.observing import Observer, Unobserved
from streams.batching.producer import BatchProducer
from streams.batching.progress import PartitionProgress
from streams.batching.records import Output, Process
from streams.batching.recovery import BatchTables
from streams.batching.sizes import TopicSizes
from streams.batching.table import BatchTable

log = structlog.get_logger(__name__)

Phase = Literal["starting", "rebalancing", "recovering", "running", "stopping"]
"""What an app does; batches are processed while it is `running` only."""

_METADATA_MS = 5_000

_QUEUED_CHUNKS = 64
"""Chunks between consumer and agent. Agents take them at once."""


def nothing_of(_expired: Expired) -> Sequence[Output]:
    """Send nothing."""
    return ()


class BatchSchema(faust.Schema):  # type: ignore[misc] # Faust publishes no types
    """Hands the raw records through: decoding is the pure function's, which can dead-letter what it cannot read."""

    def compile(self, app: Any, **_kwargs: Any) -> Any:
        """Return Faust's decoder: an event whose value is the message's list of records."""

        async def decode(message: Any, *, propagate: bool = False) -> Any:  # noqa: ARG001 - Faust's signature
            return app.create_event(None, message.value, None, message)

        return decode


class BatchTransport(driver.Transport):  # type: ignore[misc] # Faust publishes no types
    """Kafka by aiokafka, with our consumer and producer."""

    Consumer = BatchConsumer
    Producer = BatchProducer


class BatchApp(faust.App):  # type: ignore[misc] # Faust publishes no types
    """A worker: one Kafka consumer and one producer in one process. Start it with `runner.run`.

    Args:
        id: The consumer group, and the prefix of the changelogs' names. Never change it: the state hangs on it.
        broker: Bootstrap addresses, `host:port`, separated by commas.
        datadir: Folder for local state; one for each process.
        store: `rocksdb://` (kept in `datadir`) or `memory://` (read from the changelog at each start).
        partitions: Number of partitions of all source topics and changelogs.
        instance_id: Makes this a static member of the group: after a kill it gets its partitions back at once, without a
            rebalance. Must be unique among the processes and the same at each start. Needed on noida-db, where a killed
            dynamic member blocks its partitions for 35 to 50 seconds.
        commit_interval: Seconds between commits; what was finished since the last one is done again after a kill.
        session_timeout: Seconds after which a silent member's partitions go to others.
        request_timeout: Seconds one request to the broker may take.
        batch_records: Most records in one fetch, and in one batch.
        inflight_records: Most records delivered and not yet finished; bounds memory.
        batch_bytes: Size of a record batch; larger records travel alone. Keep it under the topics' `max.message.bytes`.
        compression: None, `gzip`, `snappy`, `lz4` or `zstd`.
        replication_factor: Of changelogs, where Faust creates them because `migrate` has not.
        changelog_config: Their Kafka configuration then, beside being compacted.
        settings: Further settings of Faust, as `broker_credentials`.
        observer: Is told what happens to batches.
        tell_expired: Is told of records that expired before they were read, and says what to send before the app goes on behind
            them; an error of ours that it raises ends the app.
    """

    def __init__(
        self,
        id: str,  # noqa: A002 - Faust's name
        *,
        broker: str,
        datadir: Path,
        store: str = "rocksdb://",
        partitions: int = 8,
        instance_id: str | None = None,
        commit_interval: float = 1.0,
        session_timeout: float = 10.0,
        request_timeout: float = 30.0,
        batch_records: int = 4_000,
        inflight_records: int = 40_000,
        batch_bytes: int = 1_000_000,
        compression: str | None = None,
        replication_factor: int = 1,
        changelog_config: Mapping[str, str] | None = None,
        settings: Mapping[str, object] | None = None,
        observer: Observer | None = None,
        tell_expired: Callable[[Expired], Sequence[Output]] = nothing_of,
    ) -> None:
        self.source_topics: set[str] = set()
        self.batched_topics: set[str] = set()
        self.output_topics: set[str] = set()
        self.sizes = TopicSizes()
        self.computing = asyncio.Lock()
        self.tell_expired = tell_expired
        self.inflight_records = inflight_records
        self.batch_records = batch_records
        self.observer: Observer = observer or Unobserved()
        self.services_started = asyncio.Event()
        self.at_rest = asyncio.Event()
        self._partitions = partitions
        self._changelog_config = dict(changelog_config or {})
        self._batch_agents: dict[str, BatchAgent] = {}
        super().__init__(
            id,
            broker=[f"kafka://{address.strip()}" for address in broker.split(",")],
            datadir=datadir,
            store=store,
            # State is reachable through our own API only: Faust's web pages would serve it.
            web_enabled=False,
            # No leader election topic, no warm copies: recovery takes seconds, and a copy costs a second consumer.
            topic_disable_leader=True,
            table_standby_replicas=0,
            topic_partitions=partitions,
            topic_replication_factor=replication_factor,
            consumer_group_instance_id=instance_id,
            consumer_auto_offset_reset="earliest",
            broker_commit_interval=commit_interval,
            broker_commit_every=1_000_000_000,
            # A topic that is deleted, made anew or given partitions is noticed so soon; the default is five minutes.
            consumer_metadata_max_age_ms=_METADATA_MS,
            broker_session_timeout=session_timeout,
            broker_heartbeat_interval=min(3.0, session_timeout / 3),
            broker_request_timeout=max(request_timeout, session_timeout),
            broker_max_poll_records=batch_records,
            # A rebalance and a stop wait for the batches that have begun.
            stream_wait_empty=True,
            stream_recovery_delay=0.0,
            TableManager=BatchTables,
            stream_buffer_maxsize=_QUEUED_CHUNKS,
            producer_request_timeout=request_timeout,  # Faust's default is 20 minutes
            producer_max_batch_size=batch_bytes,
            producer_compression_type=compression,
            producer_linger=0.005,  # batches leave at once anyway; 0 would starve ordinary sends
            **(settings or {}),
        )

    # -- declaring

    def batch_topic(self, *names: str) -> Any:
        """Return the source of an agent: one topic, or several with the same number of partitions and the same keys."""
        self.source_topics.update(names)
        self.batched_topics.update(names)
        return self.topic(*names, schema=BatchSchema())

    def batch_table(self, name: str, due_at: DueAt = never) -> BatchTable:
        """Add a table of bytes with a changelog, and an index of when its entries are due; see `BatchTable`."""
        table = BatchTable(
            self,
            name=name,
            partitions=self._partitions,
            schema=BatchSchema(),
            extra_topic_configs=self._changelog_config,
            beacon=self.tables.beacon,
            due_at=due_at,
        )
        self.tables.add(table)
        self.batched_topics.add(table.changelog_topic_name)
        return table

    def batch_agent(
        self, source: Any, table: BatchTable, process: Process, *, name: str | None = None, retells: bool = False
    ) -> None:
        """Run `process` over the batches of `source` with the state of `table`; a table belongs to one agent.

        Args:
            source: What `batch_topic` returned.
            table: The agent's state.
            process: The pure part; see `records.Process`.
            name: The agent's name in Faust's logs; the table's, by default.
            retells: Whether `process` says the same again for what its state knows; see `steps`.
        """
        table.source_topics |= set(source.topics)
        agent = BatchAgent(self, table, process, retells=retells)
        self._batch_agents |= dict.fromkeys(source.topics, agent)
        self.agent(source, name=name or f"{table.name}-agent", concurrency=1)(agent.consume)

    def piece(self, topic: str) -> int:
        """Return the most records of a source topic that one message may hold: a batch ends between two messages."""
        return self._batch_agents[topic].piece()

    # -- running

    async def publish(self, outputs: Sequence[Output]) -> None:
        """Send outputs that no batch made, as a timer's; returns when all in-sync replicas have them."""
        await self.producer.send_outputs(outputs)

    def ready(self) -> bool:
        """Tell whether the state is complete and batches are being processed."""
        completed: bool = self.tables.recovery.completed.is_set()
        return self.started and completed and not self.rebalancing and not self.should_stop

    def phase(self) -> Phase:
        """Tell what the app is doing."""
        if self.should_stop:
            return "stopping"
        if not self.started:
            return "starting"
        if not self.ready():
            return "recovering" if self.in_recovery else "rebalancing"
        return "running"

    def missing_topics(self) -> frozenset[str]:
        """Return the source topics that do not exist."""
        return frozenset() if self._consumer is None else self.consumer.starting.missing

    def progress(self) -> dict[tuple[str, int], PartitionProgress]:
        """Return, per owned (topic, partition), how it does; empty unless the app is `running`.

        Look about once a second: for how long a partition stands still is counted from one look to the next.
        """
        progress: dict[tuple[str, int], PartitionProgress] = self.consumer.progress() if self.ready() else {}
        return progress

    def unread(self) -> dict[tuple[str, int], int]:
        """Return the committed offset of each owned (topic, partition) that has records which are not committed."""
        behind = [place for place, progress in self.progress().items() if progress.lag]
        return {place: self.consumer.committed_offset(TP(*place)) for place in behind}

    def commits(self) -> int:
        """Return how many commits of a partition there have been."""
        return 0 if self._consumer is None else int(self._consumer.commits)

    def recovered(self) -> int:
        """Return how many records of changelogs have been read back into the state."""
        return sum(table.recovered() for table in self.tables.values())

    @property
    def rebalance_seconds(self) -> float:
        """How long a rebalance may take before the broker goes on without a member that does not answer."""
        return float(self.conf.broker_rebalance_timeout)

    def crash_soon(self, error: BaseException) -> None:
        """End the app from synchronous code."""
        self.add_future(self.crash(error))

    def abandon(self) -> None:
        """Cancel the batches still running and free what never started; `runner.run` does so after the app has stopped."""
        for agent in set(self._batch_agents.values()):
            agent.cancel()
        if self._consumer is not None:
            self._consumer.close_unused_loop()

    def expected_partitions(self) -> dict[str, int]:
        """Return the number of partitions each source topic and changelog must have."""
        return dict.fromkeys(sorted(self.batched_topics), self._partitions)

    # -- hooks of Faust

    async def on_started(self) -> None:
        """Say when all services run, and when the state is complete: Faust waits for recovery in between."""
        self.services_started.set()
        await super().on_started()
        self.add_future(self.consumer.starting.watch())
        self.add_future(self.consumer.made_anew.watch())
        owned = sorted(tp for tp in self._assignment or () if isinstance(tp, TP))
        log.info("worker_ready", app=self.conf.id, partitions=len(owned))

    async def on_stop(self) -> None:
        """Say when the batches that had begun are done and committed; only connections are left to close then."""
        await super().on_stop()
        self.at_rest.set()

    async def _stop_consumer(self) -> None:
        """Finish and commit; but not after a crash, which ends the consumer's thread: the commit would wait for it in vain."""
        if not self.crashed:
            await super()._stop_consumer()

    def _on_rebalance_when_stopped(self) -> None:
        """Do nothing: Faust would close the connections, over which the stop has yet to commit."""

    def _new_transport(self) -> BatchTransport:
        return BatchTransport(self.conf.broker_consumer, self)

    def _new_producer_transport(self) -> BatchTransport:
        return BatchTransport(self.conf.broker_producer, self)

"""Every metric of the worker, declared once. Label values are bounded: agents, steps, reason codes, topics, partitions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector

from kybstream.expired import Expired
from streams.aside import FLOODED
from streams.batching import BatchApp, BatchResult, StateUnavailableError, Step
from streams.liveness import Liveness
from streams.retention import RetentionLooks
from streams.sweeping import EXPIRED

_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
_RECORDS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 4_000)


class WorkerMetrics:
    """The metrics of one worker, in a registry of its own; counts batches as their `Observer`."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()

        # Of acknowledged batches; `outcome` is `processed` or `dead_letter`. Worry when it stands still while the lag grows.
        # After a kill what was not committed is counted again, by the next process.
        self.records = Counter(
            "kyb_worker_records",
            "Records of acknowledged batches, by agent and outcome.",
            ["agent", "outcome"],
            registry=self.registry,
        )
        # `reason` as in docs/reference/topics.md. Worry about any but `not_json`, `not_an_object` and `no_entity`, which are
        # the sender's: the others are a bug or the configuration, and at worker.dead_letter_share the worker stops.
        self.dead_letters = Counter(
            "kyb_worker_dead_letters", "Dead letters, by agent and reason.", ["agent", "reason"], registry=self.registry
        )
        # Worry when they are always at the top: the worker is behind and works in the largest batches.
        self.batch_records = Histogram(
            "kyb_worker_batch_records", "Records in a batch.", ["agent"], buckets=_RECORDS, registry=self.registry
        )
        # `step` is `compute`, `outputs`, `changelog` or `store`. Worry when p99 of `outputs` or `changelog` is above 1 s: Kafka
        # acknowledges slowly; of `store`: the disk; of `compute`: a case with very many events.
        self.step_seconds = Histogram(
            "kyb_worker_step_seconds",
            "Seconds of each step of a batch.",
            ["agent", "step"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        # Worry about any steady rate: Kafka refuses, or the disk of worker.data_dir is full or failing. Nothing is lost by it.
        self.batches_retried = Counter(
            "kyb_worker_batches_retried",
            "Attempts at a batch that met trouble of Kafka's or of the disk's.",
            ["agent"],
            registry=self.registry,
        )

        # Entries of keys for which nothing came any more. Worry when it stands still for days while `state_entries` grows.
        self.expired = Counter(
            "kyb_worker_state_expired", "Entries of the state that were deleted.", ["agent"], registry=self.registry
        )
        # Worry about any: somebody sends very many events for one case or person; the anomaly `event_flood` says for which.
        self.flooded = Counter(
            "kyb_worker_flooded",
            "Records of cases and persons with more events than one entry of the state keeps.",
            ["agent"],
            registry=self.registry,
        )

        # Page somebody about any: these deliveries, links or events are gone, and the log has their offsets. Before that,
        # `unread_expires_seconds` falls.
        self.expired_unread = Counter(
            "kyb_worker_records_expired_unread",
            "Records that their topic forgot before they were read.",
            ["topic", "partition"],
            registry=self.registry,
        )
        self.retention = RetentionLooks()

    def watch(self, app: BatchApp, liveness: Liveness) -> None:
        """Shows at each reading how the app does."""
        self.registry.register(_AppCollector(app, liveness, self.retention))

    def render(self) -> bytes:
        """All of them in Prometheus' text format."""
        return generate_latest(self.registry)

    # -- Observer

    def step_took(self, agent: str, step: Step, seconds: float) -> None:
        """A step of a batch is done."""
        self.step_seconds.labels(agent, step).observe(seconds)

    def batch_done(self, agent: str, records: int, result: BatchResult) -> None:
        """A batch has been acknowledged."""
        self.batch_records.labels(agent).observe(records)
        self.records.labels(agent, "processed").inc(records - len(result.dead))
        if result.dead:
            self.records.labels(agent, "dead_letter").inc(len(result.dead))
        for dead in result.dead:
            self.dead_letters.labels(agent, dead.reason).inc()
        self.expired.labels(agent).inc(result.counts.get(EXPIRED, 0))
        self.flooded.labels(agent).inc(result.counts.get(FLOODED, 0))

    def records_expired(self, expired: Expired) -> None:
        """Records expired before they were read."""
        self.expired_unread.labels(expired.topic, str(expired.partition)).inc(expired.records)

    def batch_retried(self, agent: str) -> None:
        """A batch is tried again."""
        self.batches_retried.labels(agent).inc()


class _AppCollector(Collector):
    """What is looked up when it is asked for, because partitions come and go."""

    def __init__(self, app: BatchApp, liveness: Liveness, retention: RetentionLooks) -> None:
        self._app = app
        self._retention = retention
        self._liveness = liveness

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """The metrics without values: the registry checks their names with it."""
        return iter(self._families().values())

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """The metrics with the values of now."""
        families = self._families()
        phase, stall = self._app.phase(), self._liveness.stall()
        families["ready"].add_metric([], phase == "running")
        families["recovering"].add_metric([], phase == "recovering")
        families["recovered"].add_metric([], self._app.recovered())
        families["stalled"].add_metric([], stall.seconds if stall else 0.0)
        for (topic, number), progress in sorted(self._app.progress().items()):
            if progress.lag is not None:
                families["lag"].add_metric([topic, str(number)], progress.lag)
            families["commit_age"].add_metric([topic, str(number)], progress.commit_age_seconds)
        for (topic, number), seconds in sorted(self._retention.left(self._app.unread()).items()):
            families["unread_expires"].add_metric([topic, str(number)], seconds)
        with suppress(StateUnavailableError):  # which is counted where it matters
            for table in self._app.tables.values():
                for number, size in sorted(table.sizes().items()):
                    families["entries"].add_metric([table.name, str(number)], size.entries)
                    families["bytes"].add_metric([table.name, str(number)], size.bytes)
        return iter(families.values())

    @staticmethod
    def _families() -> Mapping[str, GaugeMetricFamily]:
        gauge: Callable[..., GaugeMetricFamily] = GaugeMetricFamily
        by_partition = ["topic", "partition"]
        by_state = ["table", "partition"]
        return {
            # 1 when batches are processed. Worry when it stays 0 for minutes.
            "ready": gauge("kyb_worker_ready", "Whether batches are processed."),
            # 1 while the state is read back from its changelogs. Worry when it is 1 and the next one does not grow.
            "recovering": gauge("kyb_worker_recovering", "Whether the state is being read back from Kafka."),
            "recovered": gauge("kyb_worker_recovered_records", "Records read back from changelogs since the start."),
            # 0 while all is well. Worry about anything else: the log has all stacks, and at worker.give_up_after_seconds the
            # process ends.
            "stalled": gauge("kyb_worker_stalled_seconds", "For how long nothing has gone on, beyond what is normal."),
            # Worry when it grows for minutes. Add workers, if the batches are large and `stalled` is 0.
            "lag": gauge("kyb_worker_lag", "Records that are not committed.", labels=by_partition),
            # Grows while nothing comes. Worry when it is above a minute and there is a lag.
            "commit_age": gauge("kyb_worker_commit_age_seconds", "Age of the last commit.", labels=by_partition),
            # There while records wait, of topics that forget. Worry when it is below a day: then the oldest of them is lost.
            "unread_expires": gauge(
                "kyb_worker_unread_expires_seconds", "Until the oldest unread record may expire.", labels=by_partition
            ),
            # Estimates of RocksDB. Worry when they outgrow the disk: a state lives as long as its window.
            "entries": gauge("kyb_worker_state_entries", "Keys in the local state, about.", labels=by_state),
            "bytes": gauge("kyb_worker_state_bytes", "Bytes of the local state, about; 0 in memory.", labels=by_state),
        }

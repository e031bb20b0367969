"""Every metric of the sink, declared once. Label values are bounded: tables, reasons, ClickHouse's error names, partitions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector

_SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)


@dataclass(frozen=True)
class Standing:
    """How one partition does.

    Attributes:
        lag: Records in Kafka that have not landed; None before it is known where the partition goes on.
        settled: A number that grows whenever records of it land or go to the dead letters.
        paused: Whether reading it waits for ClickHouse.
        unread_expires_seconds: Until the oldest record that has not landed may expire; None when nothing waits or expires.
    """

    lag: int | None
    settled: int
    paused: bool = False
    unread_expires_seconds: float | None = None


@dataclass(frozen=True)
class Reading:
    """How the sink does at one moment.

    Attributes:
        phase: `starting` until it is known where the partitions go on, then `running`; `stopping` at the end.
        stalled_seconds: 0 while all is well.
        last_insert_seconds: Since rows landed last; None before the first.
        buffered_bytes: Values read and not landed.
        partitions: By topic and number.
    """

    phase: str = "starting"
    stalled_seconds: float = 0.0
    last_insert_seconds: float | None = None
    buffered_bytes: int = 0
    partitions: Mapping[tuple[str, int], Standing] = field(default_factory=dict)


class SinkMetrics:
    """The metrics of one sink, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()

        # Worry when it stands still while the lag grows.
        self.rows = Counter("kyb_sink_rows", "Rows that landed, by table.", ["table"], registry=self.registry)
        # Its `_count` is how many inserts landed. Worry when p99 is above 5 s, or when inserts are many and small.
        self.insert_seconds = Histogram(
            "kyb_sink_insert_seconds",
            "Seconds that an insert which landed took, without the attempts before it.",
            ["table"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        # `reason` as in docs/reference/topics.md. Worry about any: nobody but us writes to these topics.
        self.rejected = Counter(
            "kyb_sink_rejected", "Records sent to the dead letters.", ["table", "reason"], registry=self.registry
        )
        # `cause` is ClickHouse's name of the error, NETWORK, HTTP_<status>, or KAFKA (dead letters). Worry about a steady rate.
        self.retries = Counter(
            "kyb_sink_retries", "Attempts that did not succeed, by cause.", ["cause"], registry=self.registry
        )

        # Worry about any: these are in no table, and are gone from Kafka. The log has their offsets.
        self.expired_unread = Counter(
            "kyb_sink_expired_unread",
            "Records that expired in Kafka before they were read.",
            ["topic"],
            registry=self.registry,
        )

    def watch(self, read: Callable[[], Reading]) -> None:
        """Shows at each reading how the sink does."""
        self.registry.register(_SinkCollector(read))

    def render(self) -> bytes:
        """All of them in Prometheus' text format."""
        return generate_latest(self.registry)

    def inserted(self, table: str, rows: int, seconds: float) -> None:
        """An insert has landed."""
        self.rows.labels(table).inc(rows)
        self.insert_seconds.labels(table).observe(seconds)


class _SinkCollector(Collector):
    """What is looked up when it is asked for, because partitions come and go."""

    def __init__(self, read: Callable[[], Reading]) -> None:
        self._read = read

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """The metrics without values: the registry checks their names with it."""
        return iter(self._families().values())

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """The metrics with the values of now."""
        families, now = self._families(), self._read()
        families["ready"].add_metric([], now.phase == "running")
        families["stalled"].add_metric([], now.stalled_seconds)
        families["buffered"].add_metric([], now.buffered_bytes)
        if now.last_insert_seconds is not None:
            families["age"].add_metric([], now.last_insert_seconds)
        for (topic, number), standing in sorted(now.partitions.items()):
            if standing.lag is not None:
                families["lag"].add_metric([topic, str(number)], standing.lag)
            families["paused"].add_metric([topic, str(number)], standing.paused)
            if standing.unread_expires_seconds is not None:
                families["expires"].add_metric([topic, str(number)], standing.unread_expires_seconds)
        return iter(families.values())

    @staticmethod
    def _families() -> Mapping[str, GaugeMetricFamily]:
        gauge: Callable[..., GaugeMetricFamily] = GaugeMetricFamily
        by_partition = ["topic", "partition"]
        return {
            # Worry when it stays 0 for minutes.
            "ready": gauge("kyb_sink_ready", "Whether it is known where each partition goes on."),
            # Worry about anything but 0.
            "stalled": gauge("kyb_sink_stalled_seconds", "For how long nothing has landed although records wait."),
            # Worry when it grows for minutes.
            "lag": gauge("kyb_sink_lag", "Records in Kafka that have not landed.", labels=by_partition),
            # Worry when it stays 1: ClickHouse takes less than comes.
            "paused": gauge("kyb_sink_paused", "Whether reading waits for ClickHouse.", labels=by_partition),
            # Absent while nothing waits. Worry when it is below a day: soon records are gone that are in no table.
            "expires": gauge(
                "kyb_sink_unread_expires_seconds",
                "Seconds until the oldest record that has not landed may expire in Kafka.",
                labels=by_partition,
            ),
            # Grows while nothing comes. Worry when it is above a minute and there is a lag.
            "age": gauge("kyb_sink_last_insert_age_seconds", "Seconds since rows landed last."),
            # Bounded. Worry when it stays near 128 MiB: ClickHouse takes less than comes.
            "buffered": gauge("kyb_sink_buffered_bytes", "Values that were read and have not landed."),
        }

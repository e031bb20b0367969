"""Settings of the components and of what they connect to."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from kybstream.settings.secret import Secret
from kybstream.settings.values import (
    KEEPER_PATH,
    MAX_BODY_BYTES,
    MAX_RETENTION_DAYS,
    MAX_RETENTION_HOURS,
    NAME,
    PREFIX,
    SQL_NAME,
    HttpUrl,
    Port,
    Section,
    cidr,
)

_ACK_SECONDS = 5.0
_ACK_SECONDS_WITH_SPOOL = 0.2


class RetentionSettings(Section):
    """How long each topic keeps its records, in hours. `cases` and `links` are compacted and have no limit."""

    raw: int = Field(default=168, ge=1, le=MAX_RETENTION_HOURS, description="kyb.webhooks.raw.v1")
    deliveries: int = Field(default=168, ge=1, le=MAX_RETENTION_HOURS, description="kyb.deliveries.v1")
    events: int = Field(default=720, ge=1, le=MAX_RETENTION_HOURS, description="kyb.events.v1")
    case_events: int = Field(default=168, ge=1, le=MAX_RETENTION_HOURS, description="kyb.case-events.v1")
    dead_letters: int = Field(default=720, ge=1, le=MAX_RETENTION_HOURS, description="kyb.dead-letters.v1")
    rejections: int = Field(default=720, ge=1, le=MAX_RETENTION_HOURS, description="kyb.rejections.v1")
    replays: int = Field(default=8760, ge=1, le=MAX_RETENTION_HOURS, description="kyb.replays.v1: who replayed what")


class KafkaSettings(Section):
    """Where Kafka is and how our topics are made."""

    bootstrap_servers: str = Field(default="localhost:9092", min_length=3, description="`host:port`, comma separated")
    topic_prefix: str = Field(default="kyb.", pattern=PREFIX, description="every topic's name begins with it")
    partitions: int = Field(default=8, ge=1, le=1024, description="of every topic; the join needs them alike")
    replication_factor: int = Field(default=1, ge=1, le=9, description="of every topic; 3 on a cluster")
    min_insync_replicas: int = Field(default=1, ge=1, le=9, description="of every topic; 2 on a cluster")
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "PLAIN"
    sasl_username: str | None = None
    sasl_password: Secret | None = None
    ssl_ca_file: str | None = Field(default=None, description="PEM file; the system's authorities when not set")
    retention_hours: RetentionSettings = Field(default_factory=RetentionSettings)
    expired_unread: Literal["continue", "stop"] = Field(
        default="continue",
        description="what worker and sink do when records expired before they read them: log an error and continue with "
        "what is left, or stop",
    )


class TableRetentionSettings(Section):
    """How long each table keeps its rows, in days after the time that a row is about; for ever when not set."""

    deliveries: int | None = Field(default=None, ge=1, le=MAX_RETENTION_DAYS, description="after `received_at`")
    events: int | None = Field(default=None, ge=1, le=MAX_RETENTION_DAYS, description="after `received_at`")
    cases: int | None = Field(
        default=None, ge=1, le=MAX_RETENTION_DAYS, description="after `updated_at`, each version of a case for itself"
    )
    dead_letters: int | None = Field(default=None, ge=1, le=MAX_RETENTION_DAYS, description="after `received_at`")
    rejections: int | None = Field(default=None, ge=1, le=MAX_RETENTION_DAYS, description="after `minute`")
    replays: int | None = Field(default=None, ge=1, le=MAX_RETENTION_DAYS, description="after `replayed_at`")


class ClickHouseSettings(Section):
    """Where ClickHouse answers HTTP."""

    url: HttpUrl = Field(default="http://localhost:8123", description="its HTTP interface; `https://` for TLS")
    database: str = Field(default="kyb", pattern=SQL_NAME, description="made by `migrate`")
    username: str = "default"
    password: Secret = Field(default_factory=lambda: Secret(b""))
    ca_file: str | None = Field(default=None, description="PEM file, for `https://`; the system's authorities when not set")
    cluster: str | None = Field(
        default=None,
        pattern=NAME,
        description="ClickHouse's name of a cluster of one shard: `migrate` then makes replicated tables on all its replicas",
    )
    replica_path: str = Field(
        default="/clickhouse/tables/{shard}/{database}/{table}/{uuid}",
        pattern=KEEPER_PATH,
        description="of replicated tables in Keeper, with ClickHouse's macros",
    )
    replica_name: str = Field(default="{replica}", pattern=KEEPER_PATH, description="of each replica, with ClickHouse's macros")
    retention_days: TableRetentionSettings = Field(default_factory=TableRetentionSettings)


class IngressSettings(Section):
    """The HTTP door."""

    host: str = Field(default="127.0.0.1", description="address to listen on")
    port: Port = Field(default=8080, description="0 picks a free one")
    reuse_port: bool = Field(
        default=False,
        description="whether the port may be shared with other ingress processes that set this, too: for a restart of one "
        "after the other; Linux only. The workers of one `kyb-stream ingress --workers` share it in any case",
    )
    metrics_port: int | None = Field(
        default=None,
        ge=1,
        le=65535,
        description="a port that answers `/metrics`, `/healthz` and `/readyz` only, besides `port`; worker *i* of several has "
        "the *i*-th after it, since on a shared port a scrape meets any of them",
    )
    public_url: HttpUrl | None = Field(
        default=None, description="how the providers reach the ingress; `http://<host>:<port>` when not set"
    )
    ack_timeout_seconds: float | None = Field(
        default=None,
        gt=0,
        le=60,
        description="how long a delivery waits for Kafka's acknowledgement before it is spooled, or, without a spool, "
        "refused with 503; 0.2 with a spool and 5 without one when not set",
    )
    spool_dir: str | None = Field(
        default=None,
        description="a folder of this ingress' own, on a disk that lasts: deliveries that Kafka does not acknowledge in time "
        "wait there; without it they get 503. Each of several workers has a folder in it",
    )
    spool_max_bytes: int = Field(
        default=1024**3, ge=1024**2, le=1024**4, description="what the spool may hold, of each process; then 503"
    )
    body_timeout_seconds: float = Field(default=10.0, gt=0, le=300, description="how long a body may take; then 408")
    shutdown_seconds: float = Field(default=5.0, gt=0, le=60, description="how long requests may finish after SIGTERM")
    max_bytes_in_flight: int = Field(
        default=256 * 1024 * 1024,
        ge=MAX_BODY_BYTES,
        le=64 * 1024**3,
        description="bytes of bodies that each process holds at one time, over all requests; beyond it 503 with `Retry-After`. "
        "Of several tenants, one may hold as much as it leaves free",
    )
    max_connections: int = Field(
        default=2048,
        ge=16,
        le=100_000,
        description="open connections of each process; fewer where the limit of descriptors is lower. Beyond it those without "
        "a request are closed, the longest idle first; then 503",
    )
    trusted_proxies: tuple[Annotated[str, AfterValidator(cidr)], ...] = Field(
        default=(),
        description="CIDRs of proxies whose `X-Forwarded-For` or `Forwarded` tells the address that `allow` looks at; list "
        "only proxies that set one of them on every request",
    )

    traces: bool = Field(
        default=False,
        description="a span of OpenTelemetry for each webhook, sent where the `OTEL_` variables say; needs the extra `otel`",
    )

    @property
    def ack_timeout(self) -> float:
        """Seconds to wait for Kafka's acknowledgement."""
        if self.ack_timeout_seconds is not None:
            return self.ack_timeout_seconds
        return _ACK_SECONDS_WITH_SPOOL if self.spool_dir else _ACK_SECONDS

    @property
    def base_url(self) -> str:
        """The URL that providers are given, without a trailing slash."""
        return self.public_url or f"http://{self.host}:{self.port}"


class WorkerSettings(Section):
    """The Faust worker."""

    group: str = Field(default="kyb-stream-worker", pattern=PREFIX, min_length=1, description="consumer group")
    instance: str | None = Field(
        default=None, pattern=NAME, description="static group member id: a restart within 10 s keeps its partitions"
    )
    data_dir: str = Field(default="./worker-data", description="local state; rebuilt from Kafka when it is lost")
    store: Literal["rocksdb", "memory"] = "rocksdb"
    commit_interval_seconds: float = Field(default=1.0, ge=0.01, le=60)
    timer_seconds: float = Field(default=30.0, ge=0.01, le=3600, description="how often expired cases are looked for")
    dead_letter_share: float = Field(
        default=0.5,
        gt=0,
        le=1,
        description="when more than this share of an agent's last records cannot be processed and no sender is to blame, the "
        "worker stops instead of dead-lettering them; 1 lets all pass",
    )
    dead_letter_window: int = Field(
        default=100, ge=1, le=1_000_000, description="how many records that share is of, at least; fewer never stop the worker"
    )
    health_host: str = Field(default="127.0.0.1", description="address of `/healthz`, `/readyz` and `/metrics`")
    health_port: Port | None = Field(default=None, description="their port; 0 picks a free one; without it there are none")
    stalled_after_seconds: float = Field(
        default=60.0,
        gt=0,
        le=3600,
        description="when nothing is committed for so long though records wait, `/healthz` fails and all stacks are logged",
    )
    give_up_after_seconds: float = Field(
        default=300.0, gt=0, le=86_400, description="when it lasts so long the process ends, for whoever starts it again"
    )

    @model_validator(mode="after")
    def _stalls_outlast_commits(self) -> Self:
        if self.stalled_after_seconds < 2 * self.commit_interval_seconds:
            raise ValueError("stalled_after_seconds must be at least twice commit_interval_seconds")
        if self.give_up_after_seconds < self.stalled_after_seconds:
            raise ValueError("give_up_after_seconds must not be less than stalled_after_seconds")
        return self


class SinkSettings(Section):
    """The writer into ClickHouse."""

    group: str = Field(default="kyb-stream-sink", pattern=PREFIX, min_length=1, description="consumer group")
    instance: str | None = Field(
        default=None, pattern=NAME, description="static group member id: a restart within 10 s keeps its partitions"
    )
    flush_seconds: float = Field(
        default=0.25,
        ge=0.001,
        le=60,
        description="least time between two inserts of a partition; a record waits at most this long",
    )
    flush_rows: int = Field(default=20_000, ge=1, le=1_000_000)
    flush_bytes: int = Field(default=8 * 1024 * 1024, ge=1024, le=256 * 1024 * 1024)
    dead_letter_share: float = Field(
        default=0.5,
        gt=0,
        le=1,
        description="when more than this share of neighbouring records of a table cannot become rows, the sink stops instead "
        "of dead-lettering them; 1 lets all pass",
    )
    dead_letter_window: int = Field(
        default=100, ge=1, le=1_000_000, description="of how many neighbouring records that share is"
    )
    health_host: str = Field(default="127.0.0.1", description="address of `/healthz`, `/readyz` and `/metrics`")
    health_port: Port | None = Field(default=None, description="their port; 0 picks a free one; without it there are none")
    stalled_after_seconds: float = Field(
        default=60.0,
        gt=0,
        le=3600,
        description="when nothing lands for so long though records wait, `/healthz` fails and all stacks are logged; the sink "
        "goes on by itself when ClickHouse does",
    )

    @model_validator(mode="after")
    def _stalls_outlast_flushes(self) -> Self:
        if self.stalled_after_seconds < 2 * self.flush_seconds:
            raise ValueError("stalled_after_seconds must be at least twice flush_seconds")
        return self

"""What can be set, with defaults and meaning. `docs/reference/settings.md` is checked against this module."""

from __future__ import annotations

import base64
import ipaddress
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from kybstream.settings.secret import Secret

SourceKind = Literal["kyb-service", "kyc-registration"]
"""Which provider's document a source speaks."""

_NAME = r"^[a-z0-9][a-z0-9_-]{0,62}$"
_TOKEN = r"^[A-Za-z0-9_-]{22,256}$"  # noqa: S105 (a pattern, not a token)
_PREFIX = r"^[A-Za-z0-9._-]{0,64}$"
_SQL_NAME = r"^[A-Za-z_][A-Za-z0-9_]{0,62}$"
MAX_BODY_BYTES = 8 * 1024 * 1024
"""Half of the largest record that our topics take (schemas.topics)."""

UNKNOWN_SOURCE = "unknown"
"""The name under which requests to sources that do not exist are counted."""

_MIN_SECRET_BYTES = 16
_ACK_SECONDS = 5.0
_ACK_SECONDS_WITH_SPOOL = 0.2
KEY_BYTES = 32
"""Of a key-encryption key: AES-256."""


def _long_enough(secret: Secret) -> Secret:
    if len(secret.reveal()) < _MIN_SECRET_BYTES:
        raise ValueError(f"must have at least {_MIN_SECRET_BYTES} bytes")
    return secret


def _indirect(given: object) -> object:
    """The text behind `env:NAME` or `file:PATH`; anything else as it is."""
    return Secret.resolve(given).reveal_text() if isinstance(given, str) and given.startswith(("env:", "file:")) else given


def _http_url(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError("must be an http:// or https:// URL with a host")
    return url.rstrip("/")


def _cidr(network: str) -> str:
    ipaddress.ip_network(network, strict=False)
    return network


LongSecret = Annotated[Secret, AfterValidator(_long_enough)]
HttpUrl = Annotated[str, AfterValidator(_http_url)]
Port = Annotated[int, Field(ge=0, le=65535)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class RetentionSettings(_Section):
    """How long each topic keeps its records, in hours. `cases` and `links` are compacted and have no limit."""

    raw: int = Field(default=168, ge=1, description="kyb.webhooks.raw.v1")
    deliveries: int = Field(default=168, ge=1, description="kyb.deliveries.v1")
    events: int = Field(default=720, ge=1, description="kyb.events.v1")
    case_events: int = Field(default=168, ge=1, description="kyb.case-events.v1")
    dead_letters: int = Field(default=720, ge=1, description="kyb.dead-letters.v1")
    rejections: int = Field(default=720, ge=1, description="kyb.rejections.v1")


class KafkaSettings(_Section):
    """Where Kafka is and how our topics are made."""

    bootstrap_servers: str = Field(default="localhost:9092", min_length=3, description="`host:port`, comma separated")
    topic_prefix: str = Field(default="kyb.", pattern=_PREFIX, description="every topic's name begins with it")
    partitions: int = Field(default=8, ge=1, le=1024, description="of every topic; the join needs them alike")
    replication_factor: int = Field(default=1, ge=1, le=9, description="of every topic; 3 on a cluster")
    min_insync_replicas: int = Field(default=1, ge=1, le=9, description="of every topic; 2 on a cluster")
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "PLAIN"
    sasl_username: str | None = None
    sasl_password: Secret | None = None
    ssl_ca_file: str | None = Field(default=None, description="PEM file; the system's authorities when not set")
    retention_hours: RetentionSettings = Field(default_factory=RetentionSettings)


class ClickHouseSettings(_Section):
    """Where ClickHouse answers HTTP."""

    url: HttpUrl = Field(default="http://localhost:8123", description="its HTTP interface")
    database: str = Field(default="kyb", pattern=_SQL_NAME, description="made by `migrate`")
    username: str = "default"
    password: Secret = Field(default_factory=lambda: Secret(b""))


class IngressSettings(_Section):
    """The HTTP door."""

    host: str = Field(default="127.0.0.1", description="address to listen on")
    port: Port = Field(default=8080, description="0 picks a free one")
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
        description="a folder of this process's own, on a disk that lasts: deliveries that Kafka does not acknowledge in time "
        "wait there; without it they get 503",
    )
    spool_max_bytes: int = Field(default=1024**3, ge=1024**2, description="what the spool may hold; then 503")
    body_timeout_seconds: float = Field(default=10.0, gt=0, le=300, description="how long a body may take; then 408")
    shutdown_seconds: float = Field(default=5.0, gt=0, le=60, description="how long requests may finish after SIGTERM")
    max_bytes_in_flight: int = Field(
        default=256 * 1024 * 1024,
        ge=MAX_BODY_BYTES,
        description="bytes of bodies held at one time, over all requests; beyond it 503 with `Retry-After`",
    )
    trusted_proxies: tuple[Annotated[str, AfterValidator(_cidr)], ...] = Field(
        default=(),
        description="CIDRs of proxies whose `X-Forwarded-For` or `Forwarded` tells the address that `allow` looks at; list "
        "only proxies that set one of them on every request",
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


class WorkerSettings(_Section):
    """The Faust worker."""

    group: str = Field(default="kyb-stream-worker", pattern=_PREFIX, min_length=1, description="consumer group")
    instance: str | None = Field(
        default=None, pattern=_NAME, description="static group member id: a restart within 30 s keeps its partitions"
    )
    data_dir: str = Field(default="./worker-data", description="local state; rebuilt from Kafka when it is lost")
    store: Literal["rocksdb", "memory"] = "rocksdb"
    commit_interval_seconds: float = Field(default=1.0, gt=0, le=60)
    timer_seconds: float = Field(default=30.0, gt=0, le=3600, description="how often expired cases are looked for")


class SinkSettings(_Section):
    """The writer into ClickHouse."""

    group: str = Field(default="kyb-stream-sink", pattern=_PREFIX, min_length=1, description="consumer group")
    instance: str | None = Field(
        default=None, pattern=_NAME, description="static group member id: a restart within 10 s keeps its partitions"
    )
    flush_seconds: float = Field(default=0.25, gt=0, le=60, description="a record waits at most this long")
    flush_rows: int = Field(default=20_000, ge=1, le=1_000_000)
    flush_bytes: int = Field(default=8 * 1024 * 1024, ge=1024, le=256 * 1024 * 1024)


class TenantSettings(_Section):
    """A customer of ours: owns sources, keys and the rules of its cases."""

    name: str = Field(pattern=_NAME)
    pseudonym_key: LongSecret = Field(description="keyed HMAC of personal values; changing it breaks deduplication")
    pseudonym_key_version: int = Field(default=1, ge=1, le=999)
    case_token_keys: tuple[LongSecret, ...] = Field(
        min_length=1, description="the first makes new case tokens, all are accepted"
    )
    links_token: LongSecret | None = Field(
        default=None, description="bearer token of `POST /api/v1/links`; without it the tenant has no such API"
    )
    kyc: Literal["when-linked", "always"] = Field(
        default="when-linked", description="whether every case waits for KYC, or only those that a link or token names"
    )
    case_deadline_days: float = Field(default=90, gt=0, description="an open case expires this long after its opening")
    dedup_window_hours: float = Field(
        default=72, gt=48, description="a repeat within it is a duplicate; KYC retries last 48 hours"
    )
    ongoing_aml_window_minutes: float = Field(
        default=10, gt=0, description="the same for ongoing_aml_webhook, which recurs with identical bytes"
    )
    rate_limit_per_second: float | None = Field(
        default=None,
        gt=0,
        le=1_000_000,
        description="authentic deliveries a second that each ingress process takes, all sources of the tenant together; beyond "
        "it 429 with `Retry-After`. The KYB provider does not say whether it sends again: what it does not is lost",
    )
    rate_limit_burst: int | None = Field(
        default=None,
        ge=1,
        le=1_000_000,
        description="deliveries that may come at once; when not set, as many as come in a second",
    )

    @model_validator(mode="after")
    def _burst_has_a_rate(self) -> Self:
        if self.rate_limit_burst is not None and self.rate_limit_per_second is None:
            raise ValueError("rate_limit_burst needs rate_limit_per_second")
        return self


def _aes_key(secret: Secret) -> Secret:
    """The 32 bytes that the setting's text stands for."""
    try:
        # Both alphabets of Base64.
        key = base64.b64decode(secret.reveal().strip().translate(bytes.maketrans(b"-_", b"+/")), validate=True)
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES:
        raise ValueError(f"must be the Base64 text of {KEY_BYTES} bytes, as of `openssl rand -base64 {KEY_BYTES}`")
    return Secret(key)


class EncryptionKey(_Section):
    """A key-encryption key: it wraps the data keys that bodies are encrypted with."""

    id: str = Field(pattern=_NAME, description="becomes part of every body_key_id")
    key: Annotated[Secret, AfterValidator(_aes_key)] = Field(description="Base64 text of 32 bytes")


class EncryptionSettings(_Section):
    """Encryption of webhook bodies in Kafka."""

    keys: tuple[EncryptionKey, ...] = Field(default=(), description="the first encrypts, all decrypt")
    required: bool = Field(default=False, description="whether the ingress refuses to start without a key")


class SignatureSettings(BaseModel):
    """A signature scheme and its settings; the schemes' own modules check what belongs to them."""

    model_config = ConfigDict(extra="allow", frozen=True, hide_input_in_errors=True)

    scheme: Literal[
        "none",
        "hmac",
        "timestamped-hmac",
        "standard-webhooks",
        "sha256-concat",
        "alchemy-raw",
        "alchemy-sorted",
        "alchemy-sha1",
    ] = "none"
    secrets: tuple[Secret, ...] = ()

    def __repr__(self) -> str:
        # Further settings may hold secrets of a scheme, or a misspelt `secret`.
        return f"SignatureSettings(scheme={self.scheme!r})"

    @model_validator(mode="after")
    def _has_secret(self) -> Self:
        if self.scheme != "none" and not self.secrets:
            raise ValueError(f"scheme {self.scheme!r} needs `secrets`, a list with at least one")
        return self


class SourceSettings(_Section):
    """One webhook address: `POST /webhooks/<name>/<token>`."""

    name: str = Field(pattern=_NAME)
    kind: SourceKind
    tenant: str = Field(pattern=_NAME)
    token: Annotated[str, Field(pattern=_TOKEN, repr=False), BeforeValidator(_indirect)] = Field(
        repr=False, description="at least 22 URL-safe characters; a secret, so it may be `env:NAME` or `file:PATH`"
    )
    signature: SignatureSettings = Field(default_factory=SignatureSettings)
    allow: tuple[Annotated[str, AfterValidator(_cidr)], ...] = Field(
        default=(), description="CIDRs of who may send, a wrong one is answered like a wrong token; empty: any address"
    )
    max_body_bytes: int = Field(default=1_048_576, ge=1, le=MAX_BODY_BYTES, description="inflated; larger gets 413")

    @model_validator(mode="after")
    def _name_is_free(self) -> Self:
        if self.name == UNKNOWN_SOURCE:
            raise ValueError(f"the name {UNKNOWN_SOURCE!r} stands for sources that are not configured")
        return self


class Settings(_Section):
    """The whole configuration, checked."""

    kafka: KafkaSettings = Field(default_factory=KafkaSettings)
    clickhouse: ClickHouseSettings = Field(default_factory=ClickHouseSettings)
    ingress: IngressSettings = Field(default_factory=IngressSettings)
    worker: WorkerSettings = Field(default_factory=WorkerSettings)
    sink: SinkSettings = Field(default_factory=SinkSettings)
    encryption: EncryptionSettings = Field(default_factory=EncryptionSettings)
    tenants: tuple[TenantSettings, ...] = ()
    sources: tuple[SourceSettings, ...] = ()

    @model_validator(mode="after")
    def _names_agree(self) -> Self:
        for what, names in (
            ("tenants", [tenant.name for tenant in self.tenants]),
            ("sources", [source.name for source in self.sources]),
            ("encryption.keys", [key.id for key in self.encryption.keys]),
        ):
            double = {name for name in names if names.count(name) > 1}
            if double:
                raise ValueError(f"{what}: the name {min(double)!r} is used twice")
        known = {tenant.name for tenant in self.tenants}
        for source in self.sources:
            if source.tenant not in known:
                raise ValueError(f"sources: {source.name!r} names the tenant {source.tenant!r}, which is not in [[tenants]]")
        return self

    def tenant(self, name: str) -> TenantSettings | None:
        """The tenant of that name, if it is configured."""
        return next((tenant for tenant in self.tenants if tenant.name == name), None)

    def topic(self, suffix: str) -> str:
        """The full name of one of our topics, given what follows the prefix (`webhooks.raw.v1`)."""
        return self.kafka.topic_prefix + suffix

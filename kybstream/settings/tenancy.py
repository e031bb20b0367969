"""Settings of tenants and their sources, and of the keys that bodies are encrypted with."""

from __future__ import annotations

import base64
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from kybstream.settings.secret import Secret
from kybstream.settings.values import (
    BODY_FORMAT,
    JSON,
    KEY_BYTES,
    MAX_BODY_BYTES,
    MAX_DEADLINE_DAYS,
    MAX_DEDUP_HOURS,
    MAX_ONGOING_AML_MINUTES,
    NAME,
    TOKEN,
    UNKNOWN_SOURCE,
    VOLATILE_FIELDS,
    LongSecret,
    Section,
    SourceKind,
    cidr,
    indirect,
)


class TenantSettings(Section):
    """A customer of ours: owns sources, keys and the rules of its cases."""

    name: str = Field(pattern=NAME)
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
    case_deadline_days: float = Field(
        default=90, gt=0, le=MAX_DEADLINE_DAYS, description="an open case expires this long after its opening"
    )
    dedup_window_hours: float = Field(
        default=72, gt=48, le=MAX_DEDUP_HOURS, description="a repeat within it is a duplicate; KYC retries last 48 hours"
    )
    ongoing_aml_window_minutes: float = Field(
        default=10,
        gt=0,
        le=MAX_ONGOING_AML_MINUTES,
        description="the same for ongoing_aml_webhook, which recurs with identical bytes",
    )
    rate_limit_per_second: float | None = Field(
        default=None,
        ge=0.001,
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


class EncryptionKey(Section):
    """A key-encryption key: it wraps the data keys that bodies are encrypted with."""

    id: str = Field(pattern=NAME, description="becomes part of every body_key_id")
    key: Annotated[Secret, AfterValidator(_aes_key)] = Field(description="Base64 text of 32 bytes")


class EncryptionSettings(Section):
    """Encryption of webhook bodies in Kafka."""

    keys: tuple[EncryptionKey, ...] = Field(default=(), description="the first encrypts, all decrypt")
    required: bool = Field(
        default=True,
        description="whether the ingress refuses to start without a key; false lets bodies lie in Kafka in clear, for trying "
        "only",
    )

    @property
    def is_unsaid(self) -> bool:
        """Neither a key nor a word on whether there must be one: a configuration from before keys were made by `dev`."""
        return not self.keys and "required" not in self.model_fields_set


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


class SourceSettings(Section):
    """One webhook address: `POST /webhooks/<name>/<token>`."""

    name: str = Field(pattern=NAME)
    kind: SourceKind
    tenant: str = Field(pattern=NAME)
    token: Annotated[str, Field(pattern=TOKEN, repr=False), BeforeValidator(indirect)] = Field(
        repr=False, description="at least 22 URL-safe characters; a secret, so it may be `env:NAME` or `file:PATH`"
    )
    signature: SignatureSettings = Field(default_factory=SignatureSettings)
    allow: tuple[Annotated[str, AfterValidator(cidr)], ...] = Field(
        default=(), description="CIDRs of who may send, a wrong one is answered like a wrong token; empty: any address"
    )
    max_body_bytes: int = Field(default=1_048_576, ge=1, le=MAX_BODY_BYTES, description="inflated; larger gets 413")

    body_format: str = Field(
        default=JSON,
        pattern=BODY_FORMAT,
        description="where the body has its JSON: `json` is JSON, `json-text` is JSON in a JSON text, `form:payload` is the "
        "field `payload` of a form (`application/x-www-form-urlencoded`)",
    )
    volatile_fields: tuple[Annotated[str, Field(min_length=1, max_length=100)], ...] | None = Field(
        default=None,
        max_length=64,
        description="top-level fields of the body that repeats of one event may differ in; when not set, for KYC "
        "`documentPhoto`, `documentBackPhoto`, `facePhoto`, `amlReport` and `idvReport`, for KYB none. Read by `worker`: "
        "[what a change means](../explanation/providers.md#when-is-something-a-repeat)",
    )

    @property
    def volatile(self) -> frozenset[str]:
        """The fields that repeats of one event may differ in."""
        if self.volatile_fields is None:
            return VOLATILE_FIELDS.get(self.kind, frozenset())
        return frozenset(self.volatile_fields)

    @model_validator(mode="after")
    def _name_is_free(self) -> Self:
        if self.name == UNKNOWN_SOURCE:
            raise ValueError(f"the name {UNKNOWN_SOURCE!r} stands for sources that are not configured")
        return self

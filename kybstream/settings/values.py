"""What several sections of the settings have in common: the base, patterns, and values that are checked."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from kybstream.settings.secret import Secret

SourceKind = Literal["kyb-service", "kyc-registration"]
"""Which provider's document a source speaks."""

VOLATILE_FIELDS: Mapping[str, frozenset[str]] = {
    "kyc-registration": frozenset({"documentPhoto", "documentBackPhoto", "facePhoto", "amlReport", "idvReport"})
}
"""Fields that are not part of what makes a repeat, by kind of source: links that are signed anew with each delivery."""

JSON, JSON_TEXT, FORM = "json", "json-text", "form:"
"""Where a body has its JSON: it is JSON, it is a JSON text with JSON in it, or a form of which one field is JSON."""
BODY_FORMAT = r"^(json|json-text|form:[A-Za-z0-9_.\[\]-]{1,64})$"

NAME = r"^[a-z0-9][a-z0-9_-]{0,62}$"
TOKEN = r"^[A-Za-z0-9_-]{22,256}$"  # noqa: S105 (a pattern, not a token)
PREFIX = r"^[A-Za-z0-9._-]{0,64}$"
SQL_NAME = r"^[A-Za-z_][A-Za-z0-9_]{0,62}$"
KEEPER_PATH = r"^[A-Za-z0-9_{}/.-]{1,200}$"
MAX_BODY_BYTES = 8 * 1024 * 1024
"""Largest body of a webhook that a source may take, inflated."""
ENVELOPE_BYTES = 1024 * 1024
"""More than what a record has around a body: the overhead of encryption, fields and headers from the sender's request head,
and all that again where a dead letter holds the record whole."""
MAX_RECORD_BYTES = MAX_BODY_BYTES + ENVELOPE_BYTES
"""Largest record that is produced, and that topics take."""

MAX_DEADLINE_DAYS = 36_500
"""A hundred years: dates of cases stay within what ClickHouse's DateTime64 holds, up to 2299."""
MAX_RETENTION_HOURS = 876_000
"""A hundred years, of topics."""
MAX_RETENTION_DAYS = 18_250
"""Fifty years, of tables: ClickHouse counts a TTL in its DateTime, which ends in 2106 and begins again in 1970."""
MAX_DEDUP_HOURS = 8_760
"""A year: so long the worker keeps every fingerprint."""
MAX_ONGOING_AML_MINUTES = 43_200
"""Thirty days."""

UNKNOWN_SOURCE = "unknown"
"""The name under which requests to sources that do not exist are counted."""

_MIN_SECRET_BYTES = 16
KEY_BYTES = 32
"""Of a key-encryption key: AES-256."""


def _long_enough(secret: Secret) -> Secret:
    if len(secret.reveal()) < _MIN_SECRET_BYTES:
        raise ValueError(f"must have at least {_MIN_SECRET_BYTES} bytes")
    return secret


def indirect(given: object) -> object:
    """The text behind `env:NAME` or `file:PATH`; anything else as it is."""
    return Secret.resolve(given).reveal_text() if isinstance(given, str) and given.startswith(("env:", "file:")) else given


def _http_url(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError("must be an http:// or https:// URL with a host")
    return url.rstrip("/")


def cidr(network: str) -> str:
    """The text, if it is a network.

    Raises:
        ValueError: It is not.
    """
    ipaddress.ip_network(network, strict=False)
    return network


LongSecret = Annotated[Secret, AfterValidator(_long_enough)]
HttpUrl = Annotated[str, AfterValidator(_http_url)]
Port = Annotated[int, Field(ge=0, le=65535)]


class Section(BaseModel):
    """A table of the file: unknown keys are errors, and no error shows a value."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

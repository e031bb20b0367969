"""What a request asks, read from its URL and headers. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import parse_qsl

# URL parameters that mean something to the HTTP interface itself; every other one is a setting.
_OWN_PARAMETERS: Final = frozenset(
    {
        "buffer_size",
        "client_protocol_version",
        "compress",
        "database",
        "decompress",
        "default_format",
        "password",
        "query",
        "query_id",
        "quota_key",
        "readonly",
        "role",
        "session_check",
        "session_id",
        "session_timeout",
        "stacktrace",
        "user",
        "wait_end_of_query",
    }
)
_PARAMETER_PREFIX: Final = "param_"
_SESSION_TIMEOUT_SECONDS: Final = 60.0
_LONGEST_SESSION_TIMEOUT_SECONDS: Final = 3600.0
_EXTERNAL_SUFFIXES: Final = ("_format", "_types", "_structure")


@dataclass(frozen=True, slots=True)
class Question:
    """One request.

    Attributes:
        query: The text in the URL or the form, possibly empty: then it is in the body, or goes on there.
        parameters: Values for `{name:Type}` in the text, escaped as in TabSeparated.
        settings: For this query only.
        default_format: Of the answer, or of an INSERT's data, when the text names none.
        read_only: Sent by GET or with `readonly`: nothing may be changed.
        whole_answer: The status must wait for the end of the query (`wait_end_of_query`).
        block_compression: The answer is wanted in ClickHouse's own compressed blocks (`compress=1`).
        block_decompression: The body comes in such blocks (`decompress=1`).
        other: Parameters with a suffix that describes an external table, by full name.
    """

    query: bytes
    parameters: Mapping[str, str]
    settings: Mapping[str, str]
    database: str | None
    default_format: str | None
    session_id: str | None
    session_timeout_seconds: float
    session_must_exist: bool
    query_id: str | None
    read_only: bool
    whole_answer: bool
    block_compression: bool
    block_decompression: bool
    other: Mapping[str, str] = field(default_factory=dict)


def parse_question(
    method: str, target: str, headers: Mapping[str, str], form: Mapping[str, str], tables: frozenset[str] = frozenset()
) -> Question:
    """Read a request line's target, the headers and the text fields of a multipart form (they add to the URL's parameters).

    Args:
        method: GET and HEAD make the question read-only.
        target: The request target as sent: `/?query=…`.
        headers: Case-insensitive.
        form: Text fields.
        tables: Names of external tables that come with the request: their `_format`, `_types` and `_structure`
            parameters are not settings.
    """
    pairs = parse_qsl(target.partition("?")[2], keep_blank_values=True, errors="surrogateescape")
    given = {**dict(pairs), **form}
    described = {f"{table}{suffix}" for table in tables for suffix in _EXTERNAL_SUFFIXES}
    parameters: dict[str, str] = {}
    settings: dict[str, str] = {}
    for name, value in given.items():
        if name.startswith(_PARAMETER_PREFIX):
            parameters[name.removeprefix(_PARAMETER_PREFIX)] = value
        elif name not in _OWN_PARAMETERS and name not in described:
            settings[name] = value
    return Question(
        query=given.get("query", "").encode("utf-8", "surrogateescape"),
        parameters=parameters,
        settings=settings,
        database=given.get("database") or headers.get("X-ClickHouse-Database") or None,
        default_format=given.get("default_format") or headers.get("X-ClickHouse-Format") or None,
        session_id=given.get("session_id") or None,
        session_timeout_seconds=_timeout(given.get("session_timeout")),
        session_must_exist=_flag(given.get("session_check")),
        query_id=given.get("query_id") or None,
        read_only=method in ("GET", "HEAD") or _flag(given.get("readonly")),
        whole_answer=_flag(given.get("wait_end_of_query")),
        block_compression=_flag(given.get("compress")),
        block_decompression=_flag(given.get("decompress")),
        other={name: given[name] for name in described if name in given},
    )


def _flag(value: str | None) -> bool:
    return value is not None and value.lower() not in ("", "0", "false")


def _timeout(value: str | None) -> float:
    if value is None or not value.isdecimal():
        return _SESSION_TIMEOUT_SECONDS
    return min(float(value), _LONGEST_SESSION_TIMEOUT_SECONDS)

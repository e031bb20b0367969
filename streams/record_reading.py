"""Reading of a Kafka record what is not its delivery or event: what its headers carry on, and statements about links. Pure."""

from __future__ import annotations

from datetime import datetime

from kybstream.errors import BadRecordError
from schemas.codec import decode_any
from schemas.records import Link, LinkWithdrawal
from schemas.replays import HOME_KEY
from streams.batching.records import Record as KafkaRecord


def carried(record: KafkaRecord) -> tuple[bytes | None, str | None]:
    """What of a record's headers goes on: the key under which its verdicts and dead letters are told, and the trace context.

    The key is its own, but for a copy that was rekeyed: what was told of the original lies under the original's key, and only
    within one partition does the newest verdict come last.
    """
    home, trace = record.key, None
    for name, content in record.headers:
        if name == HOME_KEY:
            home = content
        elif name == "traceparent" and content and trace is None:
            trace = content.decode("ascii", "ignore")
    return home, trace


def link_or_withdrawal(value: bytes) -> Link | LinkWithdrawal:
    """What a record of the topic of links says.

    Raises:
        BadRecordError: It is neither, or cannot be decoded.
    """
    statement = decode_any(value)
    if isinstance(statement, Link | LinkWithdrawal):
        return statement
    raise BadRecordError(f"expected a Link or a LinkWithdrawal, found a {type(statement).__name__}")


def stated_at(statement: Link | LinkWithdrawal) -> datetime:
    """When a link was registered, or a withdrawal stated."""
    return statement.registered_at if isinstance(statement, Link) else statement.withdrawn_at

"""The Kafka headers of our records: CloudEvents 1.0, Kafka protocol binding, binary mode."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from functools import lru_cache
from typing import Any

from schemas.records import (
    Case,
    CaseEvent,
    DeadLetter,
    Delivery,
    Event,
    Link,
    LinkWithdrawal,
    Record,
    Rejection,
    Replay,
    WebhookDelivery,
)

CONTENT_TYPE = b"application/avro"
Header = tuple[str, bytes]
Headers = list[Header]

_VERSION = ("ce_specversion", b"1.0")
_CONTENT = ("content-type", CONTENT_TYPE)


def cloud_event_headers(record: Record, *, traceparent: str | None = None) -> Headers:
    """Headers of a record; derived from it alone, so that a record produced twice carries the same ones.

    Args:
        record: What the headers describe.
        traceparent: W3C trace context of the request it came in by, passed on as it is.
    """
    ce_id, ce_type, source, time = _attributes(record)
    headers: Headers = [
        _VERSION,
        ("ce_id", ce_id.encode()),
        _source_header(source),
        _type_header(ce_type),
        ("ce_time", _utc_text(time)),
        _CONTENT,
    ]
    if traceparent:
        headers.append(("traceparent", traceparent.encode("ascii", "ignore")))
    return headers


@lru_cache(maxsize=4096)
def _source_header(source: str) -> Header:
    return "ce_source", f"/kyb-stream/{source}".encode()


@lru_cache(maxsize=64)
def _type_header(ce_type: str) -> Header:
    return "ce_type", f"kyb-stream.{ce_type}.v1".encode()


@lru_cache(maxsize=64)
def _utc_text(time: datetime) -> bytes:
    # One delivery's records have one time.
    return time.isoformat(timespec="microseconds").replace("+00:00", "Z").encode()


Attributes = tuple[str, str, str, datetime]
"""Id, type, source and time of a CloudEvent."""


def _attributes(record: Record) -> Attributes:
    attributes = _TABLE.get(type(record))
    if attributes is None:
        raise TypeError(f"{type(record).__name__} does not travel")
    return attributes(record)


def _webhook_delivery(record: WebhookDelivery) -> Attributes:
    return record.delivery_id, "webhook.received", f"ingress/{record.source}", record.received_at


def _link(record: Link) -> Attributes:
    return record.link_id, "link.registered", "links", record.registered_at


def _link_withdrawal(record: LinkWithdrawal) -> Attributes:
    return record.withdrawal_id, "link.withdrawn", "links", record.withdrawn_at


def _delivery(record: Delivery) -> Attributes:
    return record.delivery_id, "delivery.judged", f"intake/{record.source}", record.received_at


def _event(record: Event) -> Attributes:
    return record.event_id, "event.accepted", f"intake/{record.source}", record.received_at


def _case_event(record: CaseEvent) -> Attributes:
    return record.event_id, "case.changed", "intake", record.received_at


def _case(record: Case) -> Attributes:
    return f"{record.tenant}/{record.case_id}/{record.version}", "case.snapshot", "cases", record.updated_at


def _dead_letter(record: DeadLetter) -> Attributes:
    return record.dead_letter_id, "dead-letter", record.stage, record.received_at


def _rejection(record: Rejection) -> Attributes:
    return record.rejection_id, "rejections.counted", f"ingress/{record.source}", record.minute


def _replay(record: Replay) -> Attributes:
    return record.replay_id, "replay.done", "operations", record.replayed_at


_TABLE: dict[type[Record], Callable[[Any], Attributes]] = {
    WebhookDelivery: _webhook_delivery,
    Link: _link,
    LinkWithdrawal: _link_withdrawal,
    Delivery: _delivery,
    Event: _event,
    CaseEvent: _case_event,
    Case: _case,
    DeadLetter: _dead_letter,
    Rejection: _rejection,
    Replay: _replay,
}

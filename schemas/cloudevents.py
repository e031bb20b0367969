"""The Kafka headers of our records: CloudEvents 1.0, Kafka protocol binding, binary mode."""

from __future__ import annotations

from datetime import datetime

from schemas.records import Case, CaseEvent, DeadLetter, Delivery, Event, Link, Record, Rejection, WebhookDelivery

CONTENT_TYPE = b"application/avro"
Headers = list[tuple[str, bytes]]


def cloud_event_headers(record: Record, *, traceparent: str | None = None) -> Headers:
    """Headers of a record; derived from it alone, so that a record produced twice carries the same ones.

    Args:
        record: What the headers describe.
        traceparent: W3C trace context of the request it came in by, passed on as it is.
    """
    ce_id, ce_type, source, time = _attributes(record)
    headers: Headers = [
        ("ce_specversion", b"1.0"),
        ("ce_id", ce_id.encode()),
        ("ce_source", f"/kyb-stream/{source}".encode()),
        ("ce_type", f"kyb-stream.{ce_type}.v1".encode()),
        ("ce_time", time.isoformat(timespec="microseconds").replace("+00:00", "Z").encode()),
        ("content-type", CONTENT_TYPE),
    ]
    if traceparent:
        headers.append(("traceparent", traceparent.encode("ascii", "ignore")))
    return headers


def _attributes(record: Record) -> tuple[str, str, str, datetime]:
    match record:
        case WebhookDelivery():
            return record.delivery_id, "webhook.received", f"ingress/{record.source}", record.received_at
        case Link():
            return record.link_id, "link.registered", "links", record.registered_at
        case Delivery():
            return record.delivery_id, "delivery.judged", f"intake/{record.source}", record.received_at
        case Event():
            return record.event_id, "event.accepted", f"intake/{record.source}", record.received_at
        case CaseEvent():
            return record.event_id, "case.changed", "intake", record.received_at
        case Case():
            return f"{record.tenant}/{record.case_id}/{record.version}", "case.snapshot", "cases", record.updated_at
        case DeadLetter():
            return record.dead_letter_id, "dead-letter", record.stage, record.received_at
        case Rejection():
            return record.rejection_id, "rejections.counted", f"ingress/{record.source}", record.minute
        case _:
            raise TypeError(f"{type(record).__name__} does not travel")

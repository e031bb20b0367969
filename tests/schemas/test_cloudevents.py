from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given, settings

from schemas.cloudevents import cloud_event_headers
from schemas.records import Record, Service, WebhookDelivery
from tests.schemas.samples import ANY_RECORD

RECEIVED = datetime(2026, 3, 1, 9, 0, 0, 5, tzinfo=UTC)
DELIVERY = WebhookDelivery(
    delivery_id="0195-id", received_at=RECEIVED, tenant="acme", source="kyc", source_kind="kyc-registration", body=b"{}"
)


def test_headers_follow_the_kafka_binding_in_binary_mode() -> None:
    """The five attributes with `ce_` in front, UTF-8 values, and the content type of the value."""
    assert cloud_event_headers(DELIVERY) == [
        ("ce_specversion", b"1.0"),
        ("ce_id", b"0195-id"),
        ("ce_source", b"/kyb-stream/ingress/kyc"),
        ("ce_type", b"kyb-stream.webhook.received.v1"),
        ("ce_time", b"2026-03-01T09:00:00.000005Z"),
        ("content-type", b"application/avro"),
    ]


def test_the_trace_context_of_the_request_is_passed_on() -> None:
    """As it came, and only when it came."""
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    assert cloud_event_headers(DELIVERY, traceparent=trace)[-1] == ("traceparent", trace.encode())


@given(record=ANY_RECORD)
@settings(max_examples=80, deadline=None)
def test_every_record_has_headers_that_follow_from_it_alone(record: Record) -> None:
    """Produced twice, the same headers: no clock, no chance."""
    headers = cloud_event_headers(record)
    assert headers == cloud_event_headers(record)
    assert [name for name, _ in headers] == ["ce_specversion", "ce_id", "ce_source", "ce_type", "ce_time", "content-type"]


def test_what_does_not_travel_alone_has_none() -> None:
    """A service is part of a case."""
    with pytest.raises(TypeError, match="Service does not travel"):
        cloud_event_headers(Service(name="kyc"))

"""Spans of webhooks, received by a collector of the test's own that speaks OpenTelemetry's protocol."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from ingress.server import serve
from kybstream.errors import ConfigurationError
from schemas.topics import RAW
from tests.ingress.harness import KYB_TOKEN, deliveries_of, make_topics, records_of, running, settings_for
from tests.support.waiting import wait_until

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"
SECRET_BODY = b'{"service_id": "canary-of-the-body"}'


@asynccontextmanager
async def collector(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[list[bytes]]:
    """What is exported, as it comes."""
    received: list[bytes] = []

    async def take(request: web.BaseRequest) -> web.StreamResponse:
        received.append(await request.read())
        return web.Response()

    runner = web.ServerRunner(web.Server(take))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{runner.addresses[0][1]}")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "none")
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
    try:
        yield received
    finally:
        await runner.cleanup()


def spans_in(received: list[bytes]) -> list[Any]:
    """Every span that the collector has got."""
    requests = [ExportTraceServiceRequest.FromString(each) for each in received]
    return [
        span for request in requests for group in request.resource_spans for part in group.scope_spans for span in part.spans
    ]


def attributes_of(span: Any) -> dict[str, str | int]:
    """As a dictionary."""
    return {each.key: each.value.string_value or each.value.int_value for each in span.attributes}


async def test_each_webhook_is_a_span_that_goes_on_into_kafka(
    noida_broker: str, topic_prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under the sender's trace; the record carries this span as its parent; source, outcome and id are told, nothing else."""
    settings = settings_for(noida_broker, topic_prefix, traces=True)
    await make_topics(settings.kafka)
    async with collector(monkeypatch) as received, running(settings) as ingress:
        headers = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
        stored = await ingress.post(f"/webhooks/kyb/{KYB_TOKEN}", SECRET_BODY, headers)
        refused = await ingress.post("/webhooks/kyb/wrong-token-of-some-length", SECRET_BODY, {"traceparent": "garbage"})
        assert (stored.status, refused.status) == (200, 404)
        await ingress.end()  # what is left is sent
        first, second = spans_in(received)
        assert (first.trace_id.hex(), first.parent_span_id.hex(), first.name) == (
            TRACE,
            PARENT,
            "POST /webhooks/{source}/{token}",
        )
        assert attributes_of(first) == {
            "http.request.method": "POST",
            "http.route": "/webhooks/{source}/{token}",
            "http.response.status_code": 200,
            "kyb.source": "kyb",
            "kyb.outcome": "accepted",
            "kyb.delivery_id": stored.headers["X-Delivery-Id"],
        }
        assert second.trace_id.hex() != TRACE
        assert second.parent_span_id == b""
        assert attributes_of(second)["kyb.outcome"] == "wrong_token"
        (record,) = await records_of(settings.kafka, settings.topic(RAW))
        assert dict(record.headers)["traceparent"].decode() == f"00-{TRACE}-{first.span_id.hex()}-01"
        assert b"canary" not in b"".join(received)
        assert KYB_TOKEN.encode() not in b"".join(received)
        assert b"kyb-stream-ingress" in b"".join(received)


async def test_a_collector_that_is_away_costs_no_delivery(
    noida_broker: str, topic_prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Spans are lost then; webhooks are stored, and the ingress stops in time."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    settings = settings_for(noida_broker, topic_prefix, traces=True)
    await make_topics(settings.kafka)
    async with running(settings) as ingress:
        answers = [await ingress.post(f"/webhooks/kyb/{KYB_TOKEN}", SECRET_BODY) for _ in range(5)]
        await ingress.end()
        assert {answer.headers["X-Delivery-Id"] for answer in answers} == set(await deliveries_of(settings))


async def test_without_opentelemetry_it_says_what_to_install(topic_prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """And does not start: somebody asked for spans."""
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    settings = settings_for("127.0.0.1:1", topic_prefix, traces=True)
    with pytest.raises(ConfigurationError, match="not installed") as caught:
        await serve(settings, stop=asyncio.Event())
    assert "kyb-stream[otel]" in (caught.value.hint or "")


async def test_spans_are_off_by_default(noida_broker: str, topic_prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A collector's address in the environment alone sends nothing; the sender's trace context goes on unchanged."""
    settings = settings_for(noida_broker, topic_prefix)
    await make_topics(settings.kafka)
    sent = f"00-{TRACE}-{PARENT}-01"
    async with collector(monkeypatch) as received, running(settings) as ingress:
        await ingress.post(f"/webhooks/kyb/{KYB_TOKEN}", SECRET_BODY, {"traceparent": sent})
        (record,) = await records_of(settings.kafka, settings.topic(RAW))
        assert dict(record.headers)["traceparent"].decode() == sent
        await ingress.end()
        await wait_until(lambda: received == [], 1, "nothing was sent")

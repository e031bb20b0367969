"""A span for each webhook, by OpenTelemetry: optional, off unless `ingress.traces` is set.

Where spans go, how many are sampled and what the service is called is said by OpenTelemetry's own variables
(`OTEL_EXPORTER_OTLP_ENDPOINT`, `OTEL_TRACES_SAMPLER`, `OTEL_SERVICE_NAME`, …). A span tells source, outcome, status and
delivery id; no path, because ours hold tokens, and nothing of headers and body.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from kybstream.errors import ConfigurationError

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

_STOP_SECONDS = 2.0
_ROUTE = "/webhooks/{source}/{token}"


class Span(Protocol):
    """One webhook's way through the door."""

    @property
    def traceparent(self) -> str | None:
        """The W3C trace context to pass on: this span as the parent."""

    def end(self, source: str, outcome: str, status: int, delivery_id: str | None) -> None:
        """Ends it, with what became of the webhook."""


class Tracing(Protocol):
    """Makes spans."""

    def start(self, traceparent: str | None) -> Span:
        """Begins the span of a request, under the sender's trace context if it has one."""

    async def close(self) -> None:
        """Sends what is left; gives up after two seconds."""


def open_tracing() -> Tracing:
    """Tracing as OpenTelemetry's variables say.

    Raises:
        ConfigurationError: OpenTelemetry is not installed.
    """
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415 - optional
        from opentelemetry.sdk.resources import SERVICE_NAME, OTELResourceDetector, Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
    except ImportError:
        raise ConfigurationError(
            "ingress.traces is set, but OpenTelemetry is not installed",
            hint="Install kyb-stream with its extra: `pip install 'kyb-stream[otel]'`.",
        ) from None
    # What the variables say goes before our name for it.
    resource = Resource({SERVICE_NAME: "kyb-stream-ingress"}).merge(OTELResourceDetector().detect())
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return _OpenTelemetry(provider)


class _OpenTelemetry:
    def __init__(self, provider: TracerProvider) -> None:
        from opentelemetry import trace  # noqa: PLC0415
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator  # noqa: PLC0415

        self._provider = provider
        self._tracer = provider.get_tracer("kyb-stream")
        self._kind = trace.SpanKind.SERVER
        self._with_span = trace.set_span_in_context
        self._error = trace.StatusCode.ERROR
        self._propagator = TraceContextTextMapPropagator()

    def start(self, traceparent: str | None) -> Span:
        parent = self._propagator.extract({"traceparent": traceparent}) if traceparent else None
        span = self._tracer.start_span(
            f"POST {_ROUTE}",
            context=parent,
            kind=self._kind,
            attributes={"http.request.method": "POST", "http.route": _ROUTE},
        )
        carrier: dict[str, str] = {}
        self._propagator.inject(carrier, context=self._with_span(span))
        return _OpenSpan(span, carrier.get("traceparent"), self._error)

    async def close(self) -> None:
        closing = asyncio.create_task(asyncio.to_thread(self._provider.shutdown))
        await asyncio.wait({closing}, timeout=_STOP_SECONDS)


@dataclass(frozen=True, slots=True)
class _OpenSpan:
    span: Any
    traceparent: str | None
    error: Any

    def end(self, source: str, outcome: str, status: int, delivery_id: str | None) -> None:
        self.span.set_attributes({"kyb.source": source, "kyb.outcome": outcome, "http.response.status_code": status})
        if delivery_id is not None:
            self.span.set_attribute("kyb.delivery_id", delivery_id)
        if status >= 500:  # noqa: PLR2004 - as OpenTelemetry's conventions for servers say
            self.span.set_status(self.error)
        self.span.end()

"""The way of one webhook through the door."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import datetime
from time import perf_counter

import structlog
from aiohttp import web
from aiohttp.http import HttpProcessingError, HttpVersion11

from ingress import headers, problems
from ingress.answers import BODY, Stored
from ingress.bodies import SlowBodyError, read_body
from ingress.connection import RefusedBySizeError
from ingress.metrics import IngressMetrics
from ingress.problems import SERVER, Problem
from ingress.publish import Publisher
from ingress.rejections import RejectionCounts
from ingress.shares import BusyError, Share, Shares
from ingress.signatures.verifier import SignedRequest, Verdict
from ingress.sources import Source, Sources
from ingress.tracing import Tracing
from kybstream.encryption import BodyEncryptor
from kybstream.errors import UnavailableError
from kybstream.ids import new_delivery_id
from kybstream.settings import UNKNOWN_SOURCE
from schemas.providers.codings import TooLargeError, undo
from schemas.providers.identity import identify_bytes
from schemas.records import WebhookDelivery
from schemas.topics import entity_key

ACCEPTED = "accepted"
REPLAYED = "replayed"
"""The two outcomes that are answered with 200: stored now, or stored before."""

LEAST_REQUESTS = 16  # that a tenant may have under way whatever the others do, as long as there are any left
_OK_HEADERS = {"Content-Type": "text/plain; charset=utf-8", "Server": SERVER}

Clock = Callable[[], datetime]

_log = structlog.get_logger(__name__)


class _RefusedError(Exception):
    """The request is turned away with this problem; `reason` is what it is counted as."""

    def __init__(self, problem: Problem, reason: str, *, retry_after_seconds: int | None = None) -> None:
        super().__init__(reason)
        self.problem = problem
        self.reason = reason
        self.retry_after_seconds = retry_after_seconds


class Webhooks:
    """Takes webhooks: authenticates them, makes them durable, and counts what it turns away.

    Args:
        sources: Who may send.
        publisher: Makes deliveries durable.
        rejections: Where what is turned away is counted.
        metrics: Where everything is counted.
        body_timeout_seconds: How long a body may take.
        in_flight: Bounds the bytes of bodies, over all requests.
        under_way: Bounds the requests that are under way.
        clock: The current time, aware UTC.
        encryptor: Encrypts bodies; None leaves them in clear.
        tracing: Makes a span for each; None: none.
    """

    def __init__(
        self,
        sources: Sources,
        publisher: Publisher,
        rejections: RejectionCounts,
        metrics: IngressMetrics,
        *,
        body_timeout_seconds: float,
        in_flight: Shares,
        under_way: Shares,
        clock: Clock,
        encryptor: BodyEncryptor | None,
        tracing: Tracing | None = None,
    ) -> None:
        self._sources = sources
        self._publisher = publisher
        self._rejections = rejections
        self._metrics = metrics
        self._body_timeout = body_timeout_seconds
        self._clock = clock
        self._encryptor = encryptor
        self._tracing = tracing
        largest, alone = sources.largest_bodies, len(sources.largest_bodies) == 1
        # A tenant may always have one body under way, and some small requests; the only one may have all.
        self._in_flight = {name: in_flight.share(in_flight.limit if alone else size) for name, size in largest.items()}
        few = under_way.limit if alone else min(LEAST_REQUESTS, under_way.limit // 2)
        self._under_way = {name: under_way.share(few) for name in largest}
        # Looked up once: these two are counted with every webhook. It also shows sources that are silent from the start.
        names = (*sources.tenants, UNKNOWN_SOURCE)
        self._seconds = {name: metrics.request_seconds.labels(name) for name in names}
        self._accepted = {name: metrics.requests.labels(name, ACCEPTED) for name in names}

    async def take(self, request: web.BaseRequest, name: str, token: str, case_token: str | None) -> web.StreamResponse:
        """Answers one POST to `/webhooks/<name>/<token>[/<case_token>]`.

        1. Source and token are compared; an unknown source and a wrong token are turned away alike, in the same time.
        2. The address it came from is held against the source's `allow`; turned away alike.
        3. The body is read, under the source's cap, a timeout and the tenant's share of all bodies; inflated under the same.
        4. The signature is verified.
        5. A message that is stored already is answered with 200 and the id of the delivery that holds it (`ingress.replays`).
        6. The tenant's rate limit is drawn on: not before, so that strangers cannot use it up.
        7. The entity key is read from the body; a body that cannot be read has none, and is taken nevertheless.
        8. The body is encrypted, and the delivery made durable.
        9. Only then: 200.
        """
        started = perf_counter()  # uvloop's loop.time() has milliseconds only
        response: web.StreamResponse
        delivery_id: str | None = None
        traceparent = headers.traceparent(request.headers)
        span = None
        if self._tracing is not None:
            span = self._tracing.start(traceparent)
            traceparent = span.traceparent
        try:
            delivery_id, outcome = await self._take(request, name, token, case_token, traceparent)
            response = _stored(request, delivery_id)
        except _RefusedError as refused:
            outcome = refused.reason
            response = refused.problem.response(retry_after_seconds=refused.retry_after_seconds)
        except BusyError:
            outcome = "busy"
            response = problems.BUSY.response()
        except (ConnectionError, web.RequestPayloadError, HttpProcessingError):
            outcome = "broken_body"  # the peer went away, or what it sent is not HTTP any more
            response = problems.BAD_HTTP.response()
        except Exception as error:  # noqa: BLE001 - nothing was claimed to be stored: the sender must send it again
            outcome = "unexpected_error"
            self._unexpected(name, error)
            response = problems.NOT_DURABLE.response()
        label = self._sources.name_or_unknown(name)
        if outcome == ACCEPTED:
            self._accepted[label].inc()
        else:
            self._count(label, outcome)
        self._seconds[label].observe(perf_counter() - started)
        if span is not None:
            span.end(label, outcome, response.status, delivery_id)
        return response

    def refuse_method(self, name: str) -> web.Response:
        """Answers anything but POST; says nothing about source and token."""
        self._count(self._sources.name_or_unknown(name), "method_not_allowed")
        return problems.POST_ONLY.response()

    def refuse_path(self) -> web.Response:
        """Answers an address that is none of ours; counts it, because a webhook may be meant."""
        self._count(UNKNOWN_SOURCE, "unknown_path")
        return problems.NOT_FOUND.response()

    def count_bad_http(self, reason: str) -> None:
        """Counts what was turned away before its path was known."""
        self._count(UNKNOWN_SOURCE, reason)

    def _count(self, label: str, outcome: str) -> None:
        self._rejections.count(label, outcome, self._clock())
        self._metrics.requests.labels(label, outcome).inc()

    async def _take(
        self, request: web.BaseRequest, name: str, token: str, case_token: str | None, traceparent: str | None
    ) -> tuple[str, str]:
        source = self._sources.find(name, token)
        if isinstance(source, str):
            raise _RefusedError(problems.NOT_FOUND, source)
        if not source.allows(request.remote, request.headers):
            raise _RefusedError(problems.NOT_FOUND, "peer")
        under_way = self._under_way[source.tenant]
        under_way.add(1)
        try:
            return await self._read_and_store(request, source, case_token, traceparent)
        finally:
            under_way.add(-1)

    async def _read_and_store(
        self, request: web.BaseRequest, source: Source, case_token: str | None, traceparent: str | None
    ) -> tuple[str, str]:
        in_flight = self._in_flight[source.tenant]
        body = await self._read(request, source, in_flight)
        held = len(body)
        try:
            encoding = headers.content_encoding(request.headers)
            if encoding is not None and (undone := _undone(source, body, encoding)) is not None:
                in_flight.add(len(undone) - held)
                body, held, encoding = undone, len(undone), None
                del undone  # only what is counted is held
            return await self._store(request, source, body, encoding=encoding, case_token=case_token, traceparent=traceparent)
        finally:
            in_flight.add(-held)

    async def _read(self, request: web.BaseRequest, source: Source, in_flight: Share) -> bytes:
        if (request.content_length or 0) > source.max_body_bytes:
            raise _RefusedError(problems.TOO_LARGE, "too_large")
        # A body of no declared length is held against the bound while it comes.
        if not in_flight.has_room(request.content_length or 1):
            raise BusyError
        if request.headers.get("Expect", "").lower() == "100-continue" and request.version >= HttpVersion11:
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            request.writer.output_size = 0  # else aiohttp takes it for the beginning of the answer
        try:
            return await read_body(
                request.content,
                max_bytes=source.max_body_bytes,
                timeout_seconds=self._body_timeout,
                in_flight=in_flight,
            )
        except TooLargeError:
            raise _RefusedError(problems.TOO_LARGE, "too_large") from None
        except SlowBodyError:
            raise _RefusedError(problems.SLOW_BODY, "slow_body") from None

    async def _store(
        self,
        request: web.BaseRequest,
        source: Source,
        body: bytes,
        *,
        encoding: str | None,
        case_token: str | None,
        traceparent: str | None,
    ) -> tuple[str, str]:
        now = self._clock()
        signed = SignedRequest(request.method, request.raw_path, request.headers, body)
        verdict = source.verifier.verify(signed, now)
        if verdict is not Verdict.VALID:
            self._metrics.signature_failures.labels(source.name, verdict).inc()
            raise _RefusedError(problems.UNAUTHENTIC, f"signature_{verdict}")
        message = source.stored_as(signed, case_token)
        if message is not None and source.replays is not None and (stored := source.replays.find(message, now)):
            return stored, REPLAYED
        wait = 0.0 if source.rate_limit is None else source.rate_limit.draw(perf_counter())
        if wait:
            raise _RefusedError(problems.RATE_LIMITED, "rate_limited", retry_after_seconds=math.ceil(wait))
        identity = identify_bytes(source.kind, body, source.pseudonymiser, source.body_format, encoding)
        delivery_id = new_delivery_id()
        kept, body_key_id = body, None
        if self._encryptor is not None:
            kept, body_key_id = self._encryptor.encrypt(body, tenant=source.tenant, delivery_id=delivery_id, day=now.date())
        delivery = WebhookDelivery(
            delivery_id=delivery_id,
            received_at=now,
            tenant=source.tenant,
            source=source.name,
            source_kind=source.kind,
            entity_key=None if identity is None else entity_key(source.tenant, identity.entity),
            case_token=case_token,
            content_type=headers.content_type(request.headers),
            signature_scheme=source.scheme,
            body=kept,
            body_key_id=body_key_id,
            content_encoding=encoding,
            body_format=source.body_format,
        )
        try:
            await self._publisher.publish(delivery, traceparent)
        except UnavailableError:
            raise _RefusedError(problems.NOT_DURABLE, "not_durable") from None
        except RefusedBySizeError:
            _log.error("delivery_too_large_for_kafka", source=source.name, body_size=len(body))
            raise _RefusedError(problems.TOO_LARGE, "too_large_for_kafka") from None
        if message is not None and source.replays is not None:
            source.replays.remember(message, delivery_id, now)
        return delivery_id, ACCEPTED

    def _unexpected(self, name: str, error: Exception) -> None:
        self._metrics.unexpected_errors.inc()
        trace = error.__traceback__
        while trace is not None and trace.tb_next is not None:
            trace = trace.tb_next
        # Neither the message nor the values of a traceback: either may hold the body.
        where = f"{trace.tb_frame.f_code.co_filename.rpartition('/')[2]}:{trace.tb_lineno}" if trace else None
        _log.error("webhook_failed", source=self._sources.name_or_unknown(name), error=type(error).__name__, where=where)


def _undone(source: Source, sent: bytes, encoding: str) -> bytes | None:
    """The body without its content codings; None when they cannot be undone."""
    try:
        return undo(sent, encoding, max_bytes=source.max_body_bytes)
    except TooLargeError:
        raise _RefusedError(problems.TOO_LARGE, "too_large_inflated") from None


def _stored(request: web.BaseRequest, delivery_id: str) -> web.StreamResponse:
    if request.version == HttpVersion11:
        return Stored(delivery_id)
    return web.Response(body=BODY, headers={"X-Delivery-Id": delivery_id, **_OK_HEADERS})

"""The ingress as a whole: its parts put together, started, and stopped in an order that loses nothing."""

from __future__ import annotations

import asyncio
import secrets
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import structlog

from ingress.connection import KafkaConnection
from ingress.links_api import LinksApi
from ingress.listening import HttpServer, listen
from ingress.metrics import IngressMetrics
from ingress.publish import Publisher
from ingress.rejections import RejectionCounts
from ingress.routes import Routes
from ingress.sources import Sources
from ingress.spool import Spool, SpoolEntry, SpoolLimits, drain
from ingress.webhooks import Webhooks
from kybstream.encryption import body_encryptor
from kybstream.errors import ConfigurationError
from kybstream.settings import IngressSettings, Settings
from schemas.topics import RAW, REJECTIONS

REPORT_SECONDS = 5.0
"""How often it is looked whether a minute of rejections is over."""

_LAST_REPORT_SECONDS = 2.0
_CLOSE_SECONDS = 1.0
_DRAIN_STOP_SECONDS = 1.0

_log = structlog.get_logger(__name__)


async def serve(settings: Settings, *, stop: asyncio.Event, ready: Callable[[str], None] | None = None) -> None:
    """Takes webhooks until `stop` is set.

    It starts, and answers, without Kafka: webhooks are spooled, or get 503 without a spool, until Kafka is there.

    Args:
        settings: `ingress`, `kafka`, `tenants` and `sources` are used.
        stop: Ends it: no new connections, requests under way are answered within `ingress.shutdown_seconds`, what was handed to
            Kafka is sent.
        ready: Called with the URL once it listens; Kafka may not be connected yet.

    Raises:
        ConfigurationError: No source is configured, a signature's settings are wrong, or there is no key to encrypt with.
        RunError: The port or the spool's folder is in use.
    """
    sources = Sources(settings)
    encryptor = body_encryptor(settings.encryption)
    if encryptor is None and settings.encryption.required:
        raise ConfigurationError(
            "encryption.keys is empty: bodies hold personal data and must not lie in Kafka in clear",
            hint="`openssl rand -base64 32` makes a key; encryption.required = false lets it go, for trying only.",
        )
    metrics = IngressMetrics()
    connection = KafkaConnection(
        settings.kafka,
        (settings.topic(RAW), settings.topic(REJECTIONS), *LinksApi.topics(settings)),
        ack_timeout_seconds=settings.ingress.ack_timeout,
        metrics=metrics,
    )
    spool = await _open_spool(settings.ingress)
    if spool is not None:
        metrics.watch_spool(spool)
    publisher = Publisher(settings, connection, spool, metrics)
    # The start is part of the name: two starts within a minute must not give their counts the same id.
    rejections = RejectionCounts(f"{socket.gethostname()}-{secrets.token_hex(4)}", sources.tenants)
    webhooks = Webhooks(
        sources,
        publisher,
        rejections,
        metrics,
        body_timeout_seconds=settings.ingress.body_timeout_seconds,
        max_bytes_in_flight=settings.ingress.max_bytes_in_flight,
        clock=_now,
        encryptor=encryptor,
    )
    links = LinksApi(settings, connection, metrics, clock=_now)
    routes = Routes(webhooks, links, publisher, metrics)
    server = HttpServer(routes.answer, on_bad_http=webhooks.count_bad_http)
    try:
        listener, port = await listen(server, settings.ingress.host, settings.ingress.port)
    except BaseException:
        if spool is not None:
            await spool.close()
        raise
    connection.start()
    draining = Draining(spool, publisher.send_spooled, metrics)
    reporting = asyncio.create_task(_report_every_minute(rejections, publisher), name="rejections")
    try:
        host = f"[{settings.ingress.host}]" if ":" in settings.ingress.host else settings.ingress.host
        _log.info("ingress_listening", host=settings.ingress.host, port=port, sources=sorted(sources.tenants))
        if ready is not None:
            ready(f"http://{host}:{port}")
        await stop.wait()
    finally:
        # 1. No new connections.
        listener.close()
        # 2. What is under way is answered; a request that still comes on an open connection is one of these.
        unfinished = await routes.drain(settings.ingress.shutdown_seconds)
        # 3. The connections are closed, idle or not.
        server.pre_shutdown()
        await server.shutdown(_CLOSE_SECONDS)
        # 4. The spool is drained no further; what is being sent is waited for.
        await draining.stop(_DRAIN_STOP_SECONDS)
        # 5. Nothing is counted any more: the last minute's counts are final.
        reporting.cancel()
        with suppress(asyncio.CancelledError):
            await reporting
        with suppress(Exception):
            async with asyncio.timeout(_LAST_REPORT_SECONDS):
                await publisher.publish_rejections(rejections.all())
        # 6. Kafka. Nobody waits for an acknowledgement any more, so this is short.
        await connection.stop(_CLOSE_SECONDS)
        # 7. The spool last: a request that was given up in step 2 may still be on its way there.
        if spool is not None:
            await spool.close()
        _log.info("ingress_stopped", unfinished=unfinished)


async def _open_spool(ingress: IngressSettings) -> Spool | None:
    if ingress.spool_dir is None:
        return None
    return await Spool.open(Path(ingress.spool_dir), SpoolLimits(max_bytes=ingress.spool_max_bytes))


class Draining:
    """The task that brings spooled deliveries to Kafka; does nothing without a spool."""

    def __init__(self, spool: Spool | None, send: Callable[[SpoolEntry], Awaitable[None]], metrics: IngressMetrics) -> None:
        self._stop = asyncio.Event()
        self._task = (
            asyncio.create_task(drain(spool, send, self._stop, on_progress=metrics.drained.inc), name="drain")
            if spool is not None
            else None
        )

    async def stop(self, seconds: float) -> None:
        """Ends it, and waits for what is being sent; what is not acknowledged stays in the spool."""
        self._stop.set()
        if self._task is None:
            return
        await asyncio.wait({self._task}, timeout=seconds)
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


async def _report_every_minute(rejections: RejectionCounts, publisher: Publisher) -> None:
    while True:
        await asyncio.sleep(REPORT_SECONDS)
        try:
            for sent in await publisher.publish_rejections(rejections.due(_now())):
                rejections.settle(sent)
        except Exception as error:  # noqa: BLE001 - counts are best effort; the next round tries again
            _log.warning("rejections_not_sent", error=type(error).__name__)


def _now() -> datetime:
    return datetime.now(UTC)

"""The ingress as a whole: its parts put together, started, and stopped in an order that loses nothing."""

from __future__ import annotations

import asyncio
import secrets
import socket
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial

import structlog

from ingress.connection import KafkaConnection
from ingress.descriptors import KEPT_FREE, connections_within, open_descriptors, raise_limit
from ingress.draining import Draining, open_spool
from ingress.entrance import Entrance
from ingress.http_server import HttpServer
from ingress.links_api import LinksApi
from ingress.metrics import IngressMetrics
from ingress.probes import Probes
from ingress.publish import Publisher
from ingress.rejections import RejectionCounts
from ingress.routes import Routes
from ingress.seat import Seat
from ingress.shares import Shares
from ingress.sources import Sources
from ingress.tracing import open_tracing
from ingress.webhooks import Webhooks
from kybstream.encryption import BodyEncryptor, body_encryptor
from kybstream.errors import ConfigurationError, KybStreamError
from kybstream.settings import Settings
from kybstream.side_tasks import kept_up
from schemas.topics import RAW, REJECTIONS

REPORT_SECONDS = 5.0
"""How often it is looked whether a minute of rejections is over."""

_LAST_REPORT_SECONDS = 2.0
_CLOSE_SECONDS = 1.0
_DRAIN_STOP_SECONDS = 1.0

_log = structlog.get_logger(__name__)


async def serve(
    settings: Settings, *, stop: asyncio.Event, ready: Callable[[str], None] | None = None, seat: Seat | None = None
) -> None:
    """Takes webhooks until `stop` is set.

    It starts, and answers, without Kafka: webhooks are spooled, or get 503 without a spool, until Kafka is there.

    Args:
        settings: `ingress`, `kafka`, `tenants` and `sources` are used.
        stop: Ends it: no new connections, requests under way are answered within `ingress.shutdown_seconds`, what was handed to
            Kafka is sent.
        ready: Called with the URL once it listens; Kafka may not be connected yet.
        seat: Which of several workers this is; their parent has taken the port. It sets `stop` as well when the parent ends.

    Raises:
        ConfigurationError: No source is configured, a signature's settings are wrong, or there is no key to encrypt with.
        RunError: The port or the spool's folder is in use.
    """
    ingress = settings.ingress
    index, count = (seat.index, seat.count) if seat is not None else (0, 1)
    sources, encryptor = authentication_and_encryption(settings)
    tracing = open_tracing() if ingress.traces else None
    metrics = IngressMetrics()
    connection = KafkaConnection(
        settings.kafka,
        (settings.topic(RAW), settings.topic(REJECTIONS), *LinksApi.topics(settings)),
        ack_timeout_seconds=settings.ingress.ack_timeout,
        metrics=metrics,
    )
    spool = await open_spool(ingress, index, count, metrics)
    publisher = Publisher(settings, connection, spool, metrics)
    # The start is part of the name: two starts within a minute must not give their counts the same id.
    rejections = RejectionCounts(f"{socket.gethostname()}-{secrets.token_hex(4)}", sources.tenants)
    max_connections = _max_connections(ingress.max_connections)
    webhooks = Webhooks(
        sources,
        publisher,
        rejections,
        metrics,
        body_timeout_seconds=ingress.body_timeout_seconds,
        in_flight=metrics.watch_bodies(Shares(ingress.max_bytes_in_flight)),
        under_way=Shares(max_connections),
        clock=_now,
        encryptor=encryptor,
        tracing=tracing,
    )
    links = LinksApi(settings, connection, metrics, clock=_now)
    routes = Routes(webhooks, links, publisher, metrics)
    server = HttpServer(routes.answer, on_bad_http=webhooks.count_bad_http, metrics=metrics, max_connections=max_connections)
    entrance = Entrance(ingress, server, Probes(routes.answer, metrics), seat)
    try:
        await entrance.open(stop)
    except BaseException:
        if spool is not None:
            await spool.close()
        raise
    connection.start()
    draining = Draining(ingress, spool, publisher, metrics, index=index, count=count, partitions=settings.kafka.partitions)
    report = partial(_report_every_minute, rejections, publisher)
    reporting = asyncio.create_task(kept_up("ingress", "rejections", report), name="rejections")
    try:
        _log.info("ingress_listening", host=ingress.host, port=entrance.port, sources=sorted(sources.tenants))
        if ready is not None:
            ready(entrance.url)
        await stop.wait()
    finally:
        # 1. No new connections. From here on each connection closes with its next answer.
        routes.stopping = True
        await entrance.leave()
        # 2. What is under way is answered; a request that still comes on an open connection is one of these.
        unfinished = await routes.drain(settings.ingress.shutdown_seconds)
        # 3. The connections are closed, idle or not.
        await entrance.close(_CLOSE_SECONDS)
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
        if tracing is not None:
            await tracing.close()
        _log.info("ingress_stopped", unfinished=unfinished)


def _max_connections(wanted: int) -> int:
    """As many as are wanted, or as the limit of descriptors leaves room for."""
    limit = raise_limit(wanted + open_descriptors() + KEPT_FREE)
    found = connections_within(limit, open_descriptors(), wanted)
    if found < wanted:
        _log.warning("ingress_connections_limited", max_connections=found, wanted=wanted, descriptors=limit)
    return found


def authentication_and_encryption(settings: Settings) -> tuple[Sources, BodyEncryptor | None]:
    """What the settings make of sources and keys, whether or not it is served afterwards.

    Raises:
        ConfigurationError: No source is configured, a signature's settings are wrong, or there is no key to encrypt with.
    """
    sources = Sources(settings)
    encryptor = body_encryptor(settings.encryption)
    if encryptor is None and settings.encryption.required:
        raise ConfigurationError(
            "encryption.keys is empty: bodies hold personal data and must not lie in Kafka in clear",
            hint="`openssl rand -base64 32` makes a key; encryption.required = false lets it go, for trying only.",
        )
    return sources, encryptor


async def _report_every_minute(rejections: RejectionCounts, publisher: Publisher) -> None:
    while True:
        await asyncio.sleep(REPORT_SECONDS)
        try:
            for sent in await publisher.publish_rejections(rejections.due(_now())):
                rejections.settle(sent)
        except KybStreamError as error:  # counts are best effort; the next round tries again
            _log.warning("rejections_not_sent", error=type(error).__name__)


def _now() -> datetime:
    return datetime.now(UTC)

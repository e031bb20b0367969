"""From a delivery to a record that Kafka has."""

from __future__ import annotations

from collections.abc import Iterable

from ingress.connection import KafkaConnection
from ingress.metrics import IngressMetrics
from ingress.spool import Spool, SpoolEntry, SpoolFailedError, SpoolFullError
from kybstream.errors import UnavailableError
from kybstream.settings import Settings
from schemas.cloudevents import cloud_event_headers
from schemas.codec import encode
from schemas.records import Rejection, WebhookDelivery
from schemas.topics import RAW, REJECTIONS, keyless

DRAIN_ACK_SECONDS = 5.0
"""How long a spooled delivery waits for Kafka: longer than a live one, because nobody waits for the answer."""


class Publisher:
    """Makes deliveries durable, in Kafka or in the spool. What returns from `publish` survives; what raises was not claimed to.

    Args:
        settings: Names of the topics.
        connection: To Kafka.
        spool: Where deliveries wait that Kafka does not acknowledge in time; None refuses them.
        metrics: Where spooled deliveries are counted.
    """

    __slots__ = ("_connection", "_metrics", "_raw", "_rejections", "_spool")

    def __init__(self, settings: Settings, connection: KafkaConnection, spool: Spool | None, metrics: IngressMetrics) -> None:
        self._connection = connection
        self._spool = spool
        self._metrics = metrics
        self._raw = settings.topic(RAW)
        self._rejections = settings.topic(REJECTIONS)

    @property
    def unavailable(self) -> str | None:
        """Why deliveries would be refused now, or None when they are taken."""
        if self._spool is None:
            return self._connection.unavailable
        return self._connection.unavailable and self._spool.unavailable

    @property
    def degraded(self) -> str | None:
        """Why deliveries are taken, but not as they should be; None when all is well."""
        kafka = self._connection.unavailable
        if kafka is not None:
            return f"{kafka}; deliveries are spooled"
        return self._connection.misconfigured or (self._spool.unavailable if self._spool is not None else None)

    async def publish(self, delivery: WebhookDelivery, traceparent: str | None) -> None:
        """Returns when the delivery is durable: acknowledged by all in-sync replicas of its partition, or in the spool.

        A send that was given up and succeeds later makes a second copy with the same delivery id, which the intake drops.

        Raises:
            UnavailableError: It is not known to be durable; the sender must send it again. It may be stored nevertheless.
            RefusedBySizeError: Kafka will not take a record of this size.
        """
        key = (delivery.entity_key or keyless(delivery.tenant, delivery.delivery_id)).encode()
        headers = cloud_event_headers(delivery, traceparent=traceparent)
        value = encode(delivery)
        if self._spool is None:
            await self._connection.produce(self._raw, key, value, headers)
            return
        self._connection.check_size(self._raw, key, value, headers)
        if self._connection.unavailable is None:
            try:
                await self._connection.produce(self._raw, key, value, headers)
            except UnavailableError:
                pass
            else:
                return
        try:
            await self._spool.put(SpoolEntry(delivery.delivery_id, self._raw, key, value, headers, delivery.received_at))
        except SpoolFullError as error:
            self._metrics.spool_refused.labels("full").inc()
            raise UnavailableError(error.message) from None
        except SpoolFailedError as error:
            self._metrics.spool_refused.labels("failed").inc()
            raise UnavailableError(error.message) from None
        self._metrics.spooled.inc()

    async def send_spooled(self, entry: SpoolEntry) -> None:
        """Brings one spooled delivery to Kafka; returns when it is acknowledged.

        Raises:
            UnavailableError: Kafka does not take it now.
            RefusedBySizeError: It never will.
        """
        await self._connection.produce(
            entry.topic, entry.key, entry.value, entry.headers, ack_timeout_seconds=DRAIN_ACK_SECONDS
        )

    def partition_of(self, entry: SpoolEntry) -> tuple[str, int]:
        """The partition that a spooled delivery goes to."""
        return entry.topic, self._connection.partition(entry.topic, entry.key)

    async def publish_rejections(self, rejections: Iterable[Rejection]) -> list[Rejection]:
        """Sends counts one after the other until Kafka fails; returns those it has."""
        done: list[Rejection] = []
        for rejection in rejections:
            headers = cloud_event_headers(rejection)
            try:
                await self._connection.produce(self._rejections, rejection.source.encode(), encode(rejection), headers)
            except UnavailableError:
                break
            done.append(rejection)
        return done

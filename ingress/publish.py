"""From a delivery to a record that Kafka has."""

from __future__ import annotations

from collections.abc import Iterable

from ingress.connection import KafkaConnection
from kybstream.errors import UnavailableError
from kybstream.settings import Settings
from schemas.cloudevents import cloud_event_headers
from schemas.codec import encode
from schemas.records import Rejection, WebhookDelivery
from schemas.topics import RAW, REJECTIONS, keyless


class Publisher:
    """Makes deliveries durable. What returns from `publish` survives; what raises was not claimed to."""

    __slots__ = ("_connection", "_raw", "_rejections")

    def __init__(self, settings: Settings, connection: KafkaConnection) -> None:
        self._connection = connection
        self._raw = settings.topic(RAW)
        self._rejections = settings.topic(REJECTIONS)

    @property
    def unavailable(self) -> str | None:
        """Why deliveries would be refused now, or None when they are taken."""
        return self._connection.unavailable

    async def publish(self, delivery: WebhookDelivery, traceparent: str | None) -> None:
        """Returns when the delivery is durable: acknowledged by all in-sync replicas of its partition.

        Raises:
            UnavailableError: It is not known to be durable; the sender must send it again. It may be stored nevertheless.
            RefusedBySizeError: Kafka will not take a record of this size.
        """
        key = delivery.entity_key or keyless(delivery.tenant, delivery.delivery_id)
        headers = cloud_event_headers(delivery, traceparent=traceparent)
        await self._connection.produce(self._raw, key.encode(), encode(delivery), headers)

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

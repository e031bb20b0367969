"""Every metric of the ingress, declared once. Label values are bounded: source names, reason codes, never a path."""

from __future__ import annotations

from collections.abc import Callable, Sized

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest

from ingress.shares import Shares
from ingress.spool import Spool, SpoolStats

_BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4


class IngressMetrics:
    """The metrics of one server; a registry of its own, so that several servers fit into one process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._spools: list[Spool] = []

        # `outcome` is `accepted` or the reason of a rejection (docs/reference/http.md).
        # Worry when `not_durable` is not 0 for minutes: nothing is stored and providers are sending again. Worry when
        # `accepted` of a source stays 0 in its business hours: the provider is silent, or its address has changed.
        self.requests = Counter(
            "kyb_ingress_requests", "Webhook requests by source and outcome.", ["source", "outcome"], registry=self.registry
        )
        # From the request's head to its answer. Worry when p99 is above 1 s: providers' timeouts are not documented.
        self.request_seconds = Histogram(
            "kyb_ingress_request_seconds",
            "Seconds from a webhook's head to its answer.",
            ["source"],
            buckets=_BUCKETS,
            registry=self.registry,
        )
        # One a record batch, and only what Kafka did acknowledge. Worry when p99 nears ingress.ack_timeout_seconds:
        # deliveries are spooled next, or refused without a spool.
        self.ack_seconds = Histogram(
            "kyb_ingress_kafka_ack_seconds",
            "Seconds that the oldest record of a batch waited for Kafka's acknowledgement.",
            buckets=_BUCKETS,
            registry=self.registry,
        )
        # Bodies read and not yet answered. Worry when it stays high: Kafka is slow, or somebody uploads slowly.
        self.bytes_in_flight = Gauge(
            "kyb_ingress_bytes_in_flight", "Bytes of bodies that are not answered yet.", registry=self.registry
        )
        # Worry when it nears ingress.max_connections, or what the limit of descriptors leaves.
        self.connections = Gauge("kyb_ingress_connections", "Open connections.", registry=self.registry)
        # `reason`: `idle`, `slow_head`, `unread_answer`. Worry about any steady rate: somebody opens more connections than
        # there is room for, and senders have to connect anew.
        self.connections_closed = Counter(
            "kyb_ingress_connections_closed",
            "Connections that were closed to make room for another one.",
            ["reason"],
            registry=self.registry,
        )
        # Worry about any: every connection has a request under way, and more senders come. Those that were refused got a 503.
        self.connections_refused = Counter(
            "kyb_ingress_connections_refused", "Connections for which there was no room.", registry=self.registry
        )
        # `error` is the system's name, say `EMFILE`. Worry about any: connections wait until there are descriptors or memory.
        self.accept_failures = Counter(
            "kyb_ingress_accept_failures", "Failed attempts to accept a connection.", ["error"], registry=self.registry
        )
        # Worry about any steady rate: a key was rotated on one side only, a clock is off, or somebody guesses.
        self.signature_failures = Counter(
            "kyb_ingress_signature_failures",
            "Requests whose signature was refused, by source and reason.",
            ["source", "reason"],
            registry=self.registry,
        )
        # 1 when deliveries are taken. Worry at 0: webhooks get 503.
        self.kafka_up = Gauge("kyb_ingress_kafka_up", "Whether Kafka is connected.", registry=self.registry)
        # Worry when it grows without restarts of brokers: Kafka refuses something again and again.
        self.producers_replaced = Counter(
            "kyb_ingress_producers_replaced",
            "Producers given up after an error or silence.",
            registry=self.registry,
        )
        # 1 when a topic has another number of partitions than kafka.partitions. Worry about any: records keep to the configured
        # ones, and the worker does not start.
        self.partitions_differ = Gauge(
            "kyb_ingress_partitions_differ",
            "Whether a topic has another number of partitions than configured.",
            ["topic"],
            registry=self.registry,
        )
        # Worry about any: a bug of ours; the sender got a 503 and sends again.
        self.unexpected_errors = Counter(
            "kyb_ingress_unexpected_errors", "Requests that ended in an exception nobody foresaw.", registry=self.registry
        )
        # `outcome` is `registered` or the reason (docs/reference/http.md); `tenant` is empty where the token is nobody's.
        # Worry when `unauthorized` grows: a token was changed on one side only, or somebody guesses. Worry about any steady
        # `invalid`: an integrator's links are not taken, and his KYC results stay on provisional cases.
        self.link_registrations = Counter(
            "kyb_ingress_link_registrations",
            "Requests to register a link, by tenant and outcome.",
            ["tenant", "outcome"],
            registry=self.registry,
        )

        # Worry when it grows while Kafka is up: the disk is the only copy until the spool is drained.
        self.spool_entries = Gauge("kyb_ingress_spool_entries", "Deliveries in the spool.", registry=self.registry)
        # Worry above half of ingress.spool_max_bytes: webhooks get 503 when it is full.
        self.spool_bytes = Gauge("kyb_ingress_spool_bytes", "Bytes of deliveries in the spool.", registry=self.registry)
        # Worry above 300: Kafka has not taken anything for five minutes.
        self.spool_oldest_seconds = Gauge(
            "kyb_ingress_spool_oldest_seconds", "Age of the oldest delivery in the spool.", registry=self.registry
        )
        # Worry about any: Kafka refused them for ever; they wait in the spool's file for a person.
        self.spool_set_aside = Gauge(
            "kyb_ingress_spool_set_aside", "Deliveries that Kafka will never take.", registry=self.registry
        )
        # A steady rate says that Kafka is slower than ingress.ack_timeout_seconds.
        self.spooled = Counter("kyb_ingress_spooled", "Deliveries that went to the spool.", registry=self.registry)
        # Follows the one above, later.
        self.drained = Counter(
            "kyb_ingress_spool_drained", "Deliveries brought from the spool to Kafka.", registry=self.registry
        )
        # Worry about any: the sender got a 503, and nothing was stored.
        self.spool_refused = Counter(
            "kyb_ingress_spool_refused", "Deliveries the spool did not take.", ["reason"], registry=self.registry
        )
        self._watch_spools()

    def watch_connections(self, connections: Sized) -> None:
        """Shows how many there are at each reading of the metrics."""
        self.connections.set_function(lambda: len(connections))

    def watch_bodies(self, in_flight: Shares) -> Shares:
        """Shows the bytes that are held at each reading of the metrics; returns what it was given."""
        self.bytes_in_flight.set_function(lambda: in_flight.total)
        return in_flight

    def watch_spool(self, spool: Spool) -> Callable[[], None]:
        """Shows the spool's state, beside others', at each reading of the metrics; returns what to call for no more of it."""
        self._spools.append(spool)
        return lambda: self._spools.remove(spool)

    def _watch_spools(self) -> None:
        def stats() -> list[SpoolStats]:
            return [spool.stats() for spool in self._spools]

        self.spool_entries.set_function(lambda: sum(each.depth for each in stats()))
        self.spool_bytes.set_function(lambda: sum(each.bytes for each in stats()))
        self.spool_oldest_seconds.set_function(lambda: max((each.oldest_seconds for each in stats()), default=0.0))
        self.spool_set_aside.set_function(lambda: sum(each.set_aside for each in stats()))

    def render(self) -> bytes:
        """All of them in Prometheus' text format."""
        return generate_latest(self.registry)

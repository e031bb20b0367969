"""What Kafka says of the topics that the ingress writes to: how many partitions they have, and how large a record they take."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from time import monotonic

import structlog
from aiokafka.client import AIOKafkaClient
from aiokafka.cluster import ClusterMetadata
from aiokafka.errors import KafkaError
from aiokafka.record.default_records import DefaultRecordBatchBuilder

from ingress.lanes import Headers
from ingress.metrics import IngressMetrics
from kybstream.partitions import PartitionCountError, check_partitions
from kybstream.topic_limits import topic_limits

LIMITS_SECONDS = 30.0
"""How often Kafka is asked how large a record the topics take: the limit may be raised meanwhile."""

ASK_SECONDS = 2.0
"""How long it has to answer."""

_NEAR = 16 * 1024
"""A record's size is counted exactly when its value is so near to the limit."""

_log = structlog.get_logger(__name__)


class TopicFacts:
    """Keeps to the configured number of partitions, and knows what a topic refuses for its size before it is sent.

    Args:
        topics: Their full names.
        configured: `kafka.partitions`.
        metrics: Where a topic with another number is shown.
    """

    def __init__(self, topics: Collection[str], configured: int, metrics: IngressMetrics) -> None:
        self._topics = topics
        self._configured = configured
        self._metrics = metrics
        self._found: dict[str, int] = {}
        self._wrong: dict[str, str] = {}
        self._limits: dict[str, int] = {}
        self._asked_at = 0.0

    @property
    def wrong(self) -> str | None:
        """What an operator has to put right, or None."""
        return next(iter(self._wrong.values()), None)

    def partitions(self, topic: str) -> int | None:
        """How many partitions of the topic are written to; None while that is not known.

        Never more than are configured: of partitions that somebody has added no worker reads as it must.
        """
        found = self._found.get(topic)
        return None if found is None else min(found, self._configured)

    def too_large(self, topic: str, key: bytes, value: bytes, headers: Headers) -> bool:
        """Whether Kafka would refuse the record for its size, as far as is known."""
        limit = self._limits.get(topic)
        if limit is None or len(value) + _NEAR <= limit:
            return False
        return bool(DefaultRecordBatchBuilder.estimate_size_in_bytes(key, value, list(headers)) > limit)

    def see_partitions(self, cluster: ClusterMetadata) -> None:
        """Takes note of what a broker said."""
        for topic in self._topics:
            found = len(cluster.partitions_for_topic(topic) or ())
            if not found or found == self._found.get(topic):
                continue
            self._found[topic] = found
            try:
                check_partitions(topic, found=found, configured=self._configured)
            except PartitionCountError as error:
                self._wrong[topic] = error.message
                _log.error("kafka_partitions_differ", reason=error.message, hint=error.hint)
            else:
                self._wrong.pop(topic, None)
            self._metrics.partitions_differ.labels(topic).set(topic in self._wrong)

    async def ask_limits_again(self, client: AIOKafkaClient) -> None:
        """The same, when that is some time ago."""
        if monotonic() - self._asked_at >= LIMITS_SECONDS:
            await self.ask_limits(client)

    async def ask_limits(self, client: AIOKafkaClient) -> None:
        """Asks how large a record the topics take; a broker that does not tell is believed when it refuses one."""
        self._asked_at = monotonic()
        try:
            async with asyncio.timeout(ASK_SECONDS):
                self._limits |= await topic_limits(client, self._topics)
        except (KafkaError, OSError, TimeoutError) as error:  # not allowed, or not known to it
            _log.debug("kafka_limits_unknown", error=type(error).__name__)

"""The Kafka configuration of a topic: one place for all topics, the worker's changelogs included."""

from __future__ import annotations

from kybstream.settings import KafkaSettings
from kybstream.settings.values import MAX_RECORD_BYTES

MAX_MESSAGE_BYTES = MAX_RECORD_BYTES + 4 * 1024
"""Kafka measures the batch that a record travels in: with its head, and each header with its name."""

_HOUR_MS = 3_600_000


def topic_config(kafka: KafkaSettings, *, retention_hours: int | None) -> dict[str, str]:
    """The configuration that a topic is made with, and that `kyb-stream migrate` brings it to.

    Args:
        kafka: The settings.
        retention_hours: How long a record is kept; None for a compacted topic, which keeps the newest record of each key.
    """
    # Kafka's default of 1 MiB is below a body at the ingress's default limit plus its envelope.
    config = {"min.insync.replicas": str(kafka.min_insync_replicas), "max.message.bytes": str(MAX_MESSAGE_BYTES)}
    if retention_hours is None:
        return config | {"cleanup.policy": "compact"}
    # Without the last, a limit of the cluster in bytes would delete records before their time.
    return config | {"cleanup.policy": "delete", "retention.ms": str(retention_hours * _HOUR_MS), "retention.bytes": "-1"}

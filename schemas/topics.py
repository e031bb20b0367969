"""The topics: name, what travels on them, how they are keyed, how long they keep it.

All have the same number of partitions: the join rests on entity keys and case keys falling into equal partitions of
co-partitioned topics. They are made by `kyb-stream migrate`, never by auto-creation.
"""

from __future__ import annotations

from dataclasses import dataclass

from kybstream.settings import KafkaSettings
from schemas import records
from schemas.records import Record
from schemas.topic_config import topic_config

RAW = "webhooks.raw.v1"
LINKS = "links.v1"
DELIVERIES = "deliveries.v1"
EVENTS = "events.v1"
CASE_EVENTS = "case-events.v1"
CASES = "cases.v1"
DEAD_LETTERS = "dead-letters.v1"
REJECTIONS = "rejections.v1"
REPLAYS = "replays.v1"


@dataclass(frozen=True)
class Topic:
    """One topic.

    Attributes:
        suffix: The name without the prefix of the settings.
        record: What travels on it.
        key: What its records are keyed by, in words.
        retention: The key under `kafka.retention_hours`; None where the topic is compacted.
        also: Other records that travel on it.
    """

    suffix: str
    record: type[Record]
    key: str
    retention: str | None
    also: tuple[type[Record], ...] = ()

    @property
    def records(self) -> tuple[type[Record], ...]:
        """All that travels on it."""
        return (self.record, *self.also)

    def config(self, kafka: KafkaSettings) -> dict[str, str]:
        """The topic's Kafka configuration."""
        hours = None if self.retention is None else int(getattr(kafka.retention_hours, self.retention))
        return topic_config(kafka, retention_hours=hours)


ALL_TOPICS: tuple[Topic, ...] = (
    Topic(RAW, records.WebhookDelivery, "entity key, or <tenant>/!<delivery_id> without one", "raw"),
    Topic(LINKS, records.Link, "entity key of the KYC subject", None, also=(records.LinkWithdrawal,)),
    Topic(DELIVERIES, records.Delivery, "as the raw delivery", "deliveries"),
    Topic(EVENTS, records.Event, "entity key", "events"),
    Topic(CASE_EVENTS, records.CaseEvent, "case key: <tenant>/<case_id>", "case_events"),
    Topic(CASES, records.Case, "case key: <tenant>/<case_id>", None),
    Topic(DEAD_LETTERS, records.DeadLetter, "as the record that failed", "dead_letters"),
    Topic(REJECTIONS, records.Rejection, "source", "rejections"),
    Topic(REPLAYS, records.Replay, "dead letter id, or the replay's id of a range", "replays"),
)


def entity_key(tenant: str, entity: str) -> str:
    """The entity key of a KYB `service_id` or of a KYC subject."""
    return f"{tenant}/{entity}"


def keyless(tenant: str, delivery_id: str) -> str:
    """The Kafka key of a delivery whose body names no entity; '!' never begins a service_id that we key by."""
    return f"{tenant}/!{delivery_id}"


def case_key(tenant: str, case_id: str) -> str:
    """The Kafka key of a case: two tenants may have a case of the same id, and they must never meet."""
    return f"{tenant}/{case_id}"


def topic_named(name: str, prefix: str) -> Topic | None:
    """The topic of that name, with or without its prefix, with or without its version (`events`, `kyb.events.v1`)."""
    suffix = name.removeprefix(prefix)
    return next((topic for topic in ALL_TOPICS if suffix in {topic.suffix, topic.suffix.rpartition(".v")[0]}), None)

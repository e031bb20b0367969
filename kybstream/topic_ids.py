"""Which topic a name stands for: Kafka gives each topic an id, and one that is deleted and made anew has another.

Apache Kafka tells ids since 2.8, in version 10 of its Metadata response; aiokafka asks for version 5 at most. Of a broker that
does not tell them (the embedded one) nothing is known, as of one that does not answer.
"""

from __future__ import annotations

import asyncio
import base64
import re
from collections import defaultdict
from collections.abc import Collection
from io import BytesIO
from typing import Any

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import AbstractType, Boolean, CompactArray, CompactString, Int16, Int32, Schema, TaggedFields

ANSWER_SECONDS = 3.0
"""How long a broker may take to tell ids. It answers a connection in turn, and holds a fetch for 1.5 s at most."""

_METADATA = 3
_VERSION = 10
_ID_BYTES = 16
_NO_ID = bytes(_ID_BYTES)
_NOTE = "topic-id="
_NOTED = re.compile(_NOTE + r"([A-Za-z0-9_-]{22})")


class _TopicId(AbstractType[bytes]):  # type: ignore[misc] # aiokafka publishes no types we follow
    @classmethod
    def decode(cls, data: BytesIO) -> bytes:
        value = data.read(_ID_BYTES)
        if len(value) != _ID_BYTES:
            raise ValueError("Buffer underrun decoding a topic id")
        return value

    @classmethod
    def encode(cls, value: bytes) -> bytes:
        return value


class _MetadataResponse(Response):  # type: ignore[misc] # as above
    API_KEY = _METADATA
    API_VERSION = _VERSION
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "brokers",
            CompactArray(
                ("node_id", Int32),
                ("host", CompactString("utf-8")),
                ("port", Int32),
                ("rack", CompactString("utf-8")),
                ("tags", TaggedFields),
            ),
        ),
        ("cluster_id", CompactString("utf-8")),
        ("controller_id", Int32),
        (
            "topics",
            CompactArray(
                ("error_code", Int16),
                ("topic", CompactString("utf-8")),
                ("topic_id", _TopicId),
                ("is_internal", Boolean),
                (
                    "partitions",
                    CompactArray(
                        ("error_code", Int16),
                        ("partition", Int32),
                        ("leader", Int32),
                        ("leader_epoch", Int32),
                        ("replicas", CompactArray(Int32)),
                        ("isr", CompactArray(Int32)),
                        ("offline_replicas", CompactArray(Int32)),
                        ("tags", TaggedFields),
                    ),
                ),
                ("authorized_operations", Int32),
                ("tags", TaggedFields),
            ),
        ),
        ("authorized_operations", Int32),
        ("tags", TaggedFields),
    )


class _MetadataRequest(RequestStruct):  # type: ignore[misc] # as above
    FLEXIBLE_VERSION = True
    API_KEY = _METADATA
    API_VERSION = _VERSION
    RESPONSE_TYPE = _MetadataResponse
    SCHEMA = Schema(
        ("topics", CompactArray(("topic_id", _TopicId), ("topic", CompactString("utf-8")), ("tags", TaggedFields))),
        ("allow_auto_topic_creation", Boolean),
        ("include_cluster_authorized_operations", Boolean),
        ("include_topic_authorized_operations", Boolean),
        ("tags", TaggedFields),
    )


class _AskForIds(Request[_MetadataRequest]):  # type: ignore[misc] # as above
    API_KEY = _METADATA

    def __init__(self, topics: Collection[str]) -> None:
        self._topics = sorted(topics)

    def build(self, request_struct_class: type[_MetadataRequest]) -> _MetadataRequest:
        create, of_cluster, of_topics = False, False, False  # no topic is made by being asked for
        return request_struct_class([(_NO_ID, topic, {}) for topic in self._topics], create, of_cluster, of_topics, {})


async def topic_ids(client: Any, places: Collection[TopicPartition]) -> dict[TopicPartition, str]:
    """Ask the leader of each partition for the id of its topic; waits `ANSWER_SECONDS` at most.

    The leader, because another broker may not have heard yet that a topic is gone, whose records are read from the leader. What
    has no leader, and what its leader does not tell, is left out; the others are answered all the same.

    Args:
        client: An aiokafka client that is started.
        places: Partitions.

    Returns:
        Ids as Kafka's own tools show them.
    """
    by_leader: dict[int, list[TopicPartition]] = defaultdict(list)
    for place in places:
        leader = client.cluster.leader_for_partition(place)
        if leader is not None and leader >= 0:
            by_leader[leader].append(place)
    asked = (_ask(client, leader, {place.topic for place in led}) for leader, led in by_leader.items())
    answers = zip(by_leader.values(), await asyncio.gather(*asked), strict=True)
    return {place: ids[place.topic] for led, ids in answers for place in led if place.topic in ids}


async def _ask(client: Any, node: int, topics: Collection[str]) -> dict[str, str]:
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            answer = await client.send(node, _AskForIds(topics))
    except (KafkaError, OSError, TimeoutError, NotImplementedError):  # the last: a broker that has only other versions
        return {}
    return {topic: shown(raw) for code, topic, raw, *_ in answer.topics if code == 0 and raw != _NO_ID}


def shown(topic_id: bytes) -> str:
    """Return an id as Kafka's own tools show it."""
    return base64.urlsafe_b64encode(topic_id).decode().rstrip("=")


def note_of(topic_id: str | None) -> str:
    """Return what is committed beside an offset, as its metadata: of which topic it is."""
    return "" if topic_id is None else _NOTE + topic_id


def noted_id(note: str | None) -> str | None:
    """Return the id that `note_of` wrote; None when there is none, as of an older version or of Kafka's own tools."""
    found = _NOTED.fullmatch(note or "")
    return found[1] if found else None


class KnownTopic:
    """Of which topic the offsets are that a reader of a partition counts by. Pure.

    An id that was given up never comes back, whatever a broker says that lags behind.
    """

    def __init__(self) -> None:
        self.id: str | None = None
        self._past: set[str] = set()

    def begin(self, topic_id: str | None) -> None:
        """Count by offsets of this topic from now on, or of an unknown one."""
        self.id = topic_id

    def is_another(self, told: str) -> bool:
        """Tell whether the topic is another one now, by the id that a broker tells."""
        return self.id is not None and told != self.id and told not in self._past

    def take(self, told: str) -> None:
        """Count by offsets of the topic that a broker tells, from now on."""
        if self.id is not None and self.id != told:
            if told in self._past:
                return
            self._past.add(self.id)
        self.id = told

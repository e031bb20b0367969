"""How large a record batch a topic takes, as Kafka says."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import structlog
from aiokafka.admin.config_resource import ConfigResourceType
from aiokafka.protocol.admin import DescribeConfigsRequest

_LIMITS = ("max.message.bytes", "segment.bytes")
"""Kafka refuses a batch that is larger than either."""

log = structlog.get_logger(__name__)


async def topic_limits(client: Any, topics: Collection[str]) -> dict[str, int]:
    """Ask Kafka for the most bytes that a record batch of each topic may have.

    Topics of which it does not tell, because they are missing or it may not, are left out.

    Raises:
        KafkaError: The broker cannot be asked.
    """
    if not topics:
        return {}
    resources = [(ConfigResourceType.TOPIC, topic, list(_LIMITS)) for topic in sorted(topics)]
    request = DescribeConfigsRequest(resources=resources, include_synonyms=False)
    answer = await client.send(client.get_random_node(), request)
    limits: dict[str, int] = {}
    for code, _message, _type, topic, entries in answer.resources:
        values = {entry[0]: entry[1] for entry in entries}
        found = [int(values[name]) for name in _LIMITS if values.get(name)]
        if code == 0 and found:
            limits[topic] = min(found)
        elif code:
            log.info("topic_limits_not_told", topic=topic, code=code)
    return limits

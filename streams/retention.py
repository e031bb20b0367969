"""Until when what waits may be read: looked up now and then, and shown by the worker's metrics."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Mapping

import structlog
from aiokafka.errors import KafkaError

from kybstream.errors import KybStreamError
from kybstream.expired import Place
from kybstream.settings import KafkaSettings
from kybstream.unread import LOOK_SECONDS, TopicState, look_at_topics, seconds_left

log = structlog.get_logger(__name__)


class RetentionLooks:
    """What was seen last of the partitions in which records wait."""

    def __init__(self) -> None:
        self._seen: Mapping[Place, TopicState] = {}

    def left(self, unread: Collection[Place]) -> dict[Place, float]:
        """In how many seconds the oldest unread record of each of these partitions may expire, where any may."""
        now_ms = int(time.time() * 1000)
        found = {place: seconds_left(self._seen[place], now_ms) for place in unread if place in self._seen}
        return {place: seconds for place, seconds in found.items() if seconds is not None}

    async def run(self, kafka: KafkaSettings, unread: Callable[[], Mapping[Place, int]]) -> None:
        """Looks again and again."""
        while True:
            try:
                waiting = unread()
                self._seen = await look_at_topics(kafka, waiting) if waiting else {}
            except (KafkaError, KybStreamError, OSError, TimeoutError) as error:
                log.warning("retention_not_looked_up", error=type(error).__name__, outage="kafka")
            await asyncio.sleep(LOOK_SECONDS)

"""Whether a topic is still the one that was read: by its id, since another one of its name may be as long, or longer.

A commit says of which topic its offset is, in the metadata beside it. So this is known after a restart, too, and when a process
that stood still (a paused machine, a cut network) goes on reading and committing at its old offset, in the new topic.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import structlog
from aiokafka.structs import OffsetAndMetadata
from faust.types import TP

from kybstream.topic_ids import KnownTopic, note_of, noted_id

if TYPE_CHECKING:
    from streams.batching.consumer import BatchConsumer

log = structlog.get_logger(__name__)

LOOK_SECONDS = 2.0


class NotedOffset(int):
    """An offset to commit that takes its metadata along, through Faust."""

    note: str

    @classmethod
    def of(cls, offset: int, note: str) -> NotedOffset:
        """Return the offset with the metadata."""
        noted = cls(offset)
        noted.note = note
        return noted


def commit_notes(consumer: Any) -> Any:
    """Have an aiokafka consumer commit the metadata of each `NotedOffset`, which Faust leaves empty; gives it back."""
    commit = consumer.commit

    async def noted_commit(offsets: Mapping[Any, OffsetAndMetadata]) -> None:
        await commit(
            {place: OffsetAndMetadata(each.offset, getattr(each.offset, "note", "")) for place, each in offsets.items()}
        )

    consumer.commit = noted_commit
    return consumer


class MadeAnew:
    """Compares the ids of a consumer's topics; where one differs, the new topic is read from its beginning.

    A broker that tells no ids makes no difference: offsets alone are compared then (`starting`).
    """

    def __init__(self, consumer: BatchConsumer) -> None:
        self._consumer = consumer
        self._known: dict[TP, KnownTopic] = defaultdict(KnownTopic)

    def _places(self) -> list[TP]:
        consumer = self._consumer
        return [tp for tp in consumer.assignment() if tp.topic in consumer.app.source_topics]

    async def begin(self) -> None:
        """Take over of which topics the committed offsets are; called before the positions go back to them.

        In this order: of what is deleted in between, an id is known and no offset, and the new topic is begun once more. The
        other order would leave an offset without an id.
        """
        places = self._places()
        notes = await self._consumer.committed_notes(places) if places else {}
        for tp in places:
            self._known[tp].begin(noted_id(notes.get(tp)))

    def forget(self, tp: TP) -> None:
        """Count by offsets of a topic whose id is not known yet."""
        self._known[tp].begin(None)

    def noted(self, offsets: Mapping[TP, int]) -> dict[TP, int]:
        """Return offsets to commit, with the metadata that says of which topic they are."""
        return {tp: NotedOffset.of(offset, note_of(self._known[tp].id)) for tp, offset in offsets.items()}

    async def look(self, *, running: bool = False) -> None:
        """Ask for the ids once; what is not told within seconds is compared by the next look.

        Args:
            running: Batches are processed. The end of a rebalance looks by itself, when its positions are known.
        """
        consumer = self._consumer
        told = await consumer.topic_ids(self._places())
        if running and not consumer.app.ready():
            return
        for tp, topic_id in told.items():
            known = self._known[tp]
            if known.is_another(topic_id):
                read_to = consumer.next_offset(tp)
                ids = {"was": known.id, "topic_id": topic_id}
                log.error("topic_made_anew", topic=tp.topic, partition=tp.partition, read_to=read_to, **ids)
                consumer.starting.forget(tp)
                consumer.begin_anew(tp, 0)
            known.take(topic_id)

    async def watch(self) -> None:
        """Look again and again while batches are processed."""
        app = self._consumer.app
        while not app.should_stop:
            await asyncio.sleep(LOOK_SECONDS)
            if app.ready():
                await self.look(running=True)

"""A chunk of one partition, as one message of Faust."""

from __future__ import annotations

from typing import TYPE_CHECKING

from faust.types.tuples import ConsumerMessage

from streams.batching.ranges import OffsetRange

if TYPE_CHECKING:
    from streams.batching.consumer import BatchConsumer


class BatchMessage(ConsumerMessage):  # type: ignore[misc] # Faust publishes no types
    """A chunk of one partition: `value` is its list of aiokafka records, `offset` that of the last."""

    __slots__ = ("range",)

    range: OffsetRange | None

    def on_final_ack(self, consumer: BatchConsumer) -> bool:
        """Called by Faust when the last of the event's owners acknowledged it."""
        return consumer.finish(self)

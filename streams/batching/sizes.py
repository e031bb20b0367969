"""How large a record each topic takes: known before anything is sent, so that one that is too large stops nobody.

Kafka refuses a whole record batch for one record that is too large. By then other outputs of the batch may be in their topics,
and the producer's sequence numbers have a gap. So a process asks `TopicSizes.fits` for what it is about to say.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from aiokafka.record.default_records import DefaultRecordBatchBuilder

from streams.batching.records import Headers, Output

Fits = Callable[[Output], bool]
"""Whether the topic of an output takes a record of its size."""


def everything_fits(_output: Output) -> bool:
    """Return True: for topics whose limits nobody asked for."""
    return True


class TopicSizes:
    """The limits of topics, as Kafka said last. A topic whose limit is not known takes everything.

    Attributes:
        version: Another number after each change of what is known.
    """

    def __init__(self) -> None:
        self.version = 0
        self._alone: dict[str, int] = {}
        self._together: dict[str, int] = {}
        self._exceeded: set[str] = set()

    def together(self, topic: str, otherwise: int) -> int:
        """Return the most bytes of a batch of several records, or `otherwise` if that is less."""
        return min(self._alone.get(topic, otherwise), self._together.get(topic, otherwise), otherwise)

    def fits(self, output: Output) -> bool:
        """Tell whether the topic takes a record batch with only this record."""
        most = self._alone.get(output.topic)
        if most is None or estimated_bytes(output.key, output.value, output.headers) <= most or alone_bytes(output) <= most:
            return True
        self._exceeded.add(output.topic)
        return False

    def takes(self, topic: str, size: int, records: int) -> bool:
        """Tell whether the topic should take a batch of this size."""
        return size <= (self._alone.get(topic, size) if records == 1 else self.together(topic, size))

    def exceeded(self) -> frozenset[str]:
        """Return the topics of which something did not fit since their limits were set."""
        return frozenset(self._exceeded)

    def set(self, limits: Mapping[str, int]) -> bool:
        """Take over what Kafka says of some topics; returns whether anything differs."""
        self._exceeded -= limits.keys()
        changed = {topic: most for topic, most in limits.items() if self._alone.get(topic) != most}
        self._alone.update(changed)
        self.version += bool(changed)
        return bool(changed)

    def refused(self, topic: str, size: int, records: int) -> None:
        """Note that a topic did not take a batch of this size, whatever Kafka says of its limit."""
        self.version += 1
        if records > 1:
            self._together[topic] = size // 2
        else:
            self._alone[topic] = size - 1


def estimated_bytes(key: bytes | None, value: bytes | None, headers: Headers) -> int:
    """Return about how large a record batch with only this record is, never less than it will be."""
    estimate: int = DefaultRecordBatchBuilder.estimate_size_in_bytes(key, value, list(headers))
    return estimate


def alone_bytes(output: Output) -> int:
    """Return how large a record batch with only this record is."""
    builder = DefaultRecordBatchBuilder(
        2, 0, is_transactional=0, producer_id=-1, producer_epoch=-1, base_sequence=0, batch_size=0
    )
    builder.append(0, 0, key=output.key, value=output.value, headers=list(output.headers))
    return int(builder.size())

"""What of one partition waits to be written, and when it is time. Pure: time is an argument, in seconds of any steady clock."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, replace

from kybstream.settings import SinkSettings
from sinks.framing import Message

READ_AHEAD = 2
"""A partition is read this many inserts ahead of ClickHouse, and no further."""

TOTAL_BYTES = 128 * 1024 * 1024
"""Values held over all partitions of a process; beyond it reading pauses."""


@dataclass(frozen=True)
class Limits:
    """When a batch is full.

    Attributes:
        rows: Records.
        bytes: Of their values.
        seconds: How long a record may wait.
    """

    rows: int
    bytes: int
    seconds: float

    @classmethod
    def of(cls, sink: SinkSettings) -> Limits:
        """The limits that the settings name."""
        return cls(rows=sink.flush_rows, bytes=sink.flush_bytes, seconds=sink.flush_seconds)

    def less(self, rows: int, size: int) -> Limits:
        """What there is room for beside records taken already; nothing more goes in where a number is 0 or below."""
        return replace(self, rows=self.rows - rows, bytes=self.bytes - size)


class Waiting:
    """The records of one partition that are not yet on their way, in order."""

    def __init__(self) -> None:
        self._messages: list[Message] = []
        self._arrivals: deque[tuple[int, float]] = deque()  # how many came when
        self._taken_at: float | None = None
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._messages)

    def add(self, messages: Iterable[Message], now: float) -> None:
        """Takes records that follow those it has."""
        before = len(self._messages)
        self._messages.extend(messages)
        self._arrivals.append((len(self._messages) - before, now))
        self.bytes += sum(_size(message) for message in self._messages[before:])

    def due_in(self, limits: Limits, now: float) -> float | None:
        """Seconds until it is to be written: 0 at once, None when nothing waits.

        There is one insert in `seconds` at most, unless one is full. So who comes when the last is long ago does not wait at
        all, and nobody waits for longer than that.
        """
        if not self._messages:
            return None
        if self.is_full(limits):
            return 0.0
        oldest = self._arrivals[0][1]
        next_turn = oldest if self._taken_at is None else max(oldest, self._taken_at + limits.seconds)
        return max(0.0, min(next_turn, oldest + limits.seconds) - now)

    def waited(self, now: float) -> float:
        """Seconds that its oldest record has waited; 0 when nothing waits."""
        return now - self._arrivals[0][1] if self._arrivals else 0.0

    def is_full(self, limits: Limits, times: int = 1) -> bool:
        """Whether it holds `times` inserts or more."""
        return len(self._messages) >= times * limits.rows or self.bytes >= times * limits.bytes

    def fits(self, limits: Limits) -> bool:
        """Whether all of it goes into an insert that has so much room."""
        return len(self._messages) <= limits.rows and self.bytes <= limits.bytes

    def take(self, limits: Limits, now: float) -> tuple[Message, ...]:
        """Hands out one insert's worth from the front: at least one record, at most what the limits allow."""
        self._taken_at = now
        count = size = 0
        for message in self._messages[: limits.rows]:
            size += _size(message)
            if count and size > limits.bytes:
                size -= _size(message)
                break
            count += 1
        taken = tuple(self._messages[:count])
        del self._messages[:count]
        self.bytes -= size
        while self._arrivals and self._arrivals[0][0] <= count:
            count -= self._arrivals.popleft()[0]
        if self._arrivals and count:
            arrived, when = self._arrivals[0]
            self._arrivals[0] = (arrived - count, when)
        return taken


def _size(message: Message) -> int:
    return len(message.value) if message.value is not None else 0


def has_room(waiting: Waiting, limits: Limits, held_bytes: int) -> bool:
    """Whether to read on for a partition, given what the process holds over all of them (waiting and under way)."""
    return held_bytes < TOTAL_BYTES and not waiting.is_full(limits, times=READ_AHEAD)

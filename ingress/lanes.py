"""Group commit: what arrives for a partition while a record batch of it is under way is that partition's next record batch.

So batches grow with the load, and a lone record waits for nobody. A lane is one partition of one topic. The lanes of one
broker leave together: aiokafka has one request under way to each broker, and a batch that is handed over while it is under
way would wait there, closed. Only when a broker holds back one partition for long do the others no longer wait for it.

Each record has a deadline; what has not left by then never leaves, and what is under way by then may still arrive, unclaimed.

No task, timer or lock for each record: one future, set by the batch; deadlines are looked at by one timer for all.
"""

from __future__ import annotations

import asyncio
import copy
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, Protocol

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError, MessageSizeTooLargeError, RecordListTooLargeError

from kybstream.errors import KybStreamError, UnavailableError
from kybstream.settings.values import MAX_RECORD_BYTES

Headers = Sequence[tuple[str, bytes]]

PATIENCE_SECONDS = 0.05
"""How long the lanes of a broker wait for a batch of another lane."""

_LOOKS_A_TIMEOUT = 10
_LONGEST_LOOK_SECONDS = 0.1
_TOO_LARGE = (MessageSizeTooLargeError, RecordListTooLargeError)


class RefusedBySizeError(KybStreamError):
    """The record is larger than Kafka takes, here or on this topic: sending it again will not help."""


class Watcher(Protocol):
    """Who is told how the lanes fare."""

    def acknowledged(self, seconds: float) -> None:
        """A batch was acknowledged; its oldest record has waited so long."""

    def overdue(self, started: float) -> None:
        """A record that came at `started` (`perf_counter`) has reached its deadline."""

    def failed(self, producer: AIOKafkaProducer, error: KafkaError) -> None:
        """A batch failed: whatever this producer sends to its partition from now on will be refused."""


class Outgoing:
    """A record on its way.

    Attributes:
        key: Its key.
        value: Its value.
        headers: Its headers.
        started: When it came (`perf_counter`): its time runs from then on.
        done: See `Lanes.put`.
        alone: It travels in a batch of its own.
    """

    __slots__ = ("alone", "done", "headers", "key", "started", "value")
    done: asyncio.Future[None]

    def __init__(self, key: bytes, value: bytes, headers: Headers, started: float) -> None:
        self.key = key
        self.value = value
        self.headers = headers
        self.started = started
        self.alone = False


@dataclass(slots=True, eq=False)
class _Broker:
    """The leader of some lanes.

    Attributes:
        flights: Batches that are under way to it.
        since: When the first of them left, of those that left together.
        held: Lanes that leave when they have come back.
    """

    flights: int = 0
    since: float = 0.0
    held: set[_Lane] = field(default_factory=set)


@dataclass(slots=True, eq=False)
class _Lane:
    place: TopicPartition
    waiting: deque[Outgoing] = field(default_factory=deque)
    most_bytes: int = MAX_RECORD_BYTES  # twice as much was refused
    # The producer that has a batch of it under way, or is about to get one.
    busy_with: AIOKafkaProducer | None = None


class Lanes:
    """All lanes, and the producer that they send by, if there is one.

    Args:
        watcher: Told of acknowledgements, failures and deadlines.
    """

    def __init__(self, watcher: Watcher) -> None:
        self._watcher = watcher
        self._loop = asyncio.get_running_loop()
        self._lanes: dict[tuple[str, int], _Lane] = {}
        self._brokers: dict[int | None, _Broker] = {}
        self._producer: AIOKafkaProducer | None = None
        self._flights: dict[AIOKafkaProducer, set[asyncio.Task[None]]] = {}
        # Records in the order of their deadlines, by how long they may take.
        self._deadlines: dict[float, deque[tuple[float, asyncio.Future[None]]]] = {}
        self._look: asyncio.TimerHandle | None = None

    def put(self, topic: str, partition: int, record: Outgoing, timeout_seconds: float) -> asyncio.Future[None]:
        """Puts a record into its lane.

        Returns:
            Done when all in-sync replicas have the record. It fails with UnavailableError when that is not known in time, and
            with RefusedBySizeError when it never will be. Cancelled before the record has left, the record does not leave.
        """
        done = record.done = self._loop.create_future()
        lane = self._lanes.get((topic, partition))
        if lane is None:
            lane = self._lanes[topic, partition] = _Lane(TopicPartition(topic, partition))
        lane.waiting.append(record)
        deadlines = self._deadlines.get(timeout_seconds)
        if deadlines is None:
            deadlines = self._deadlines[timeout_seconds] = deque()
        deadlines.append((record.started, done))
        if self._look is None:
            self._look_later()
        if lane.busy_with is None:
            self._depart_soon(lane)
        return done

    def use(self, producer: AIOKafkaProducer) -> None:
        """Sends by this producer from now on, beginning with what waits."""
        self._producer = producer
        self._flights[producer] = set()
        for lane in self._lanes.values():
            if lane.waiting:
                self._depart_soon(lane)

    def leave(self, producer: AIOKafkaProducer) -> None:
        """Gives this producer nothing more. What it has under way may still end well; what waits, waits for the next one."""
        if producer is not self._producer:
            return
        self._producer = None
        self._brokers = {}
        for lane in self._lanes.values():
            lane.busy_with = None

    def forget(self, producer: AIOKafkaProducer) -> None:
        """Ends what waits for this producer, which is closed."""
        for flight in self._flights.pop(producer, ()):
            flight.cancel()

    def refuse(self, reason: str) -> None:
        """Fails what waits for a producer: there will be none soon."""
        for lane in self._lanes.values():
            _fail(lane.waiting, UnavailableError(reason))
            lane.waiting.clear()

    def _depart_soon(self, lane: _Lane) -> None:
        producer = self._producer
        if producer is None or lane.busy_with is not None:
            return
        leader = producer.client.cluster.leader_for_partition(lane.place)
        broker = self._brokers.get(leader)
        if broker is None:
            broker = self._brokers[leader] = _Broker()
        if broker.flights and perf_counter() - broker.since < PATIENCE_SECONDS:
            broker.held.add(lane)
            return
        lane.busy_with = producer
        # Not now: what the loop has read together shall leave together.
        self._loop.call_soon(self._depart, lane, broker, producer)

    def _depart(self, lane: _Lane, broker: _Broker, producer: AIOKafkaProducer) -> None:
        flights = self._flights.get(producer)
        left = producer is not self._producer
        if left or flights is None:
            return
        batch = producer.create_batch()
        aboard = _board(lane, batch)
        if not aboard:
            lane.busy_with = None
            return
        batch.close()
        if not broker.flights:
            broker.since = perf_counter()
        broker.flights += 1
        flight = self._loop.create_task(self._fly(lane, broker, producer, batch, aboard))
        flights.add(flight)
        flight.add_done_callback(flights.discard)

    async def _fly(self, lane: _Lane, broker: _Broker, producer: AIOKafkaProducer, batch: Any, aboard: list[Outgoing]) -> None:
        try:
            acknowledged = await producer.send_batch(batch, lane.place.topic, partition=lane.place.partition)
            await acknowledged
        except _TOO_LARGE as error:
            # The broker took nothing, but aiokafka has counted the batch into the partition's sequence.
            producer._txn_manager.increment_sequence_number(lane.place, -len(aboard))  # noqa: SLF001 - there is no other way
            self._crashed(lane, aboard, error, batch.size())
        except KafkaError as error:
            self._watcher.failed(producer, error)
            self._crashed(lane, aboard, error, 0)
        except Exception as error:  # noqa: BLE001 - whoever waits must hear of it now, and not by the deadline
            _fail(aboard, UnavailableError(f"the record could not be sent ({type(error).__name__})"))
        else:
            self._watcher.acknowledged(perf_counter() - aboard[0].started)
            for each in aboard:
                if not each.done.done():
                    each.done.set_result(None)
        finally:
            self._landed(lane, broker, producer)

    def _landed(self, lane: _Lane, broker: _Broker, producer: AIOKafkaProducer) -> None:
        broker.flights -= 1
        if lane.busy_with is producer:
            lane.busy_with = None
            if lane.waiting:
                broker.held.add(lane)
        if not broker.flights:
            self._release(broker)

    def _release(self, broker: _Broker) -> None:
        held, broker.held = broker.held, set()
        for lane in held:
            self._depart_soon(lane)

    def _crashed(self, lane: _Lane, aboard: list[Outgoing], error: KafkaError, size: int) -> None:
        if not isinstance(error, _TOO_LARGE):
            _fail(aboard, UnavailableError(f"Kafka refused ({type(error).__name__})"))
        elif len(aboard) == 1:
            _fail(aboard, RefusedBySizeError("the record is larger than Kafka takes"))
        else:
            # Together they were too large; each alone may pass. The next batches are smaller.
            lane.most_bytes = size // 2
            for each in reversed(aboard):
                each.alone = True
                lane.waiting.appendleft(each)
            self._depart_soon(lane)

    def _look_later(self) -> None:
        shortest = min(self._deadlines, default=1.0)
        self._look = self._loop.call_later(min(shortest / _LOOKS_A_TIMEOUT, _LONGEST_LOOK_SECONDS), self._look_now)

    def _look_now(self) -> None:
        now = perf_counter()
        left = False
        for timeout, deadlines in self._deadlines.items():
            while deadlines:
                started, done = deadlines[0]
                if not done.done():
                    if started + timeout > now:
                        break
                    done.set_exception(UnavailableError("Kafka did not acknowledge in time"))
                    self._watcher.overdue(started)
                deadlines.popleft()
            left = left or bool(deadlines)
        for broker in tuple(self._brokers.values()):
            if broker.held and now - broker.since >= PATIENCE_SECONDS:
                self._release(broker)
        self._look = None
        if left:
            self._look_later()


def _board(lane: _Lane, batch: Any) -> list[Outgoing]:
    """Takes from the lane what fits into the batch, in order; a record that nobody waits for any more stays behind."""
    aboard: list[Outgoing] = []
    waiting = lane.waiting
    while waiting:
        first = waiting[0]
        if first.done.done():
            waiting.popleft()
            continue
        if aboard and batch.size() + len(first.value) > lane.most_bytes:
            break
        # An empty batch takes a record of any size.
        if batch.append(timestamp=None, key=first.key, value=first.value, headers=first.headers) is None:
            break
        aboard.append(waiting.popleft())
        if first.alone:
            break
    return aboard


def _fail(records: Iterable[Outgoing], error: KybStreamError) -> None:
    for record in records:
        if not record.done.done():
            # One error each: raising adds to an error's traceback.
            record.done.set_exception(copy.copy(error))

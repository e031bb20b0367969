"""Topics, tables and a worker in memory: the real intake, cases and steps on a broker that does whatever a broker may do."""

from __future__ import annotations

import zlib
from collections import defaultdict
from collections.abc import Collection, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import msgspec

from streams.batching import Output, Process, StateReader
from streams.batching.records import Record as KafkaRecord
from streams.batching.steps import run_batch
from streams.processing import CasesProcess, IntakeProcess
from tests.streams.computing import computing
from tests.streams.pipeline import NAMES, POLICIES

PARTITIONS = 2

T = TypeVar("T")


class KilledError(Exception):
    """Stands for SIGKILL."""


@dataclass(frozen=True)
class Kill:
    """That the worker is killed in the middle of a batch.

    Attributes:
        step: Within which of the batch's effects, in the order in which they are taken.
        share: How much of that effect has become durable.
        committed: Whether a commit came just before: of what was finished until then.
        store_lost: Whether it starts without its local state.
    """

    step: int
    share: float
    committed: bool
    store_lost: bool


@dataclass
class Table:
    """One partition of a table: a changelog, which lasts, and a local store, which may be lost."""

    changelog: list[tuple[bytes, bytes | None]] = field(default_factory=list)
    store: dict[bytes, bytes] = field(default_factory=dict)
    holds: int = 0
    """Up to where the store has the changelog."""

    def write(self, writes: dict[bytes, bytes | None], holds: int) -> None:
        """Takes values into the store."""
        self.holds = holds
        for key, value in writes.items():
            if value is None:
                self.store.pop(key, None)
            else:
                self.store[key] = value

    def recover(self, *, lost: bool) -> None:
        """What a start does: reads what the store lacks from the changelog."""
        if lost:
            self.store, self.holds = {}, 0
        for key, value in self.changelog[self.holds :]:
            self.write({key: value}, self.holds)
        self.holds = len(self.changelog)


@dataclass
class Agent:
    """Intake or cases: its topics, its process, and its table by partition."""

    topics: tuple[str, ...]
    process: Process
    retells: bool
    tables: list[Table] = field(default_factory=lambda: [Table() for _ in range(PARTITIONS)])


class Effects:
    """One batch's effects on the broker, cut off by a kill."""

    def __init__(self, broker: Broker, table: Table, records: Sequence[KafkaRecord], kill: Kill | None) -> None:
        self._broker = broker
        self._table = table
        self._last = records[-1]
        self._kill = kill
        self._step = -1

    def current(self) -> bool:
        """There is one worker."""
        return True

    def reader(self) -> StateReader:
        """The local store."""
        return self

    def get_many(self, keys: Collection[bytes]) -> dict[bytes, bytes]:
        """The values of those keys that exist."""
        return {key: self._table.store[key] for key in keys if key in self._table.store}

    async def send_outputs(self, outputs: Sequence[Output]) -> None:
        """In order within each partition; a kill leaves of each a beginning."""
        cut = self._cut()
        by_partition: defaultdict[tuple[str, int], list[Output]] = defaultdict(list)
        for output in outputs:
            by_partition[output.topic, partition_of(output.key)].append(output)
        for number, made in enumerate(by_partition.values()):
            # Not the same share everywhere: one topic may be far behind another.
            share = 1.0 if cut is None else cut if number % 2 else 1.0 - cut
            for output in made[: round(len(made) * share)]:
                self._broker.append(output.topic, output.key, output.value, output.headers)
        self._end(cut)

    async def append_changelog(self, writes: dict[bytes, bytes | None]) -> int:
        """In order; a kill leaves a beginning."""
        cut = self._cut()
        items = list(writes.items())
        self._table.changelog += items[: round(len(items) * (1.0 if cut is None else cut))]
        self._end(cut)
        return len(self._table.changelog) - 1

    def write_store(self, writes: dict[bytes, bytes | None], offset: int) -> None:
        """At once, or not at all."""
        cut = self._cut()
        if cut is None or cut > 0:
            self._table.write(writes, offset + 1)
        self._end(cut)

    def acknowledge(self) -> None:
        """The batch may be committed."""
        cut = self._cut()
        if cut is None or cut > 0:
            self._broker.finished[self._last.topic, self._last.partition] = self._last.offset + 1
        self._end(cut)

    def _cut(self) -> float | None:
        self._step += 1
        return self._kill.share if self._kill and self._kill.step == self._step else None

    def _end(self, cut: float | None) -> None:
        if cut is not None:
            raise KilledError


class Broker:
    """Logs, and the worker that reads them.

    Attributes:
        logs: By topic and partition.
        finished: Up to where each was processed in this life of the worker.
        committed: Up to where it was committed: a worker that was killed goes on from there.
    """

    def __init__(self) -> None:
        self.logs: defaultdict[tuple[str, int], list[KafkaRecord]] = defaultdict(list)
        self.finished: defaultdict[tuple[str, int], int] = defaultdict(int)
        self.committed: defaultdict[tuple[str, int], int] = defaultdict(int)
        intake, cases = IntakeProcess(POLICIES, NAMES), CasesProcess(POLICIES, NAMES)
        self.agents = {
            "intake": Agent((NAMES.raw, NAMES.links), intake, retells=True),
            "cases": Agent((NAMES.case_events,), cases, retells=False),
        }
        self.places = [
            (name, topic, number)
            for name, agent in self.agents.items()
            for topic in agent.topics
            for number in range(PARTITIONS)
        ]

    def append(self, topic: str, key: bytes | None, value: bytes | None, headers: Sequence[tuple[str, bytes]] = ()) -> None:
        """Writes a record."""
        number = partition_of(key)
        log = self.logs[topic, number]
        log.append(KafkaRecord(topic, number, len(log), 1_772_355_600_000, key, value, tuple(headers)))

    def append_again(self, record: KafkaRecord) -> None:
        """Writes a record a second time, as a send does that was given up and succeeds all the same."""
        self.append(record.topic, record.key, record.value, record.headers)

    def waiting(self, topic: str, number: int) -> int:
        """How many records of a partition are not processed yet."""
        return len(self.logs[topic, number]) - self.finished[topic, number]

    def behind(self) -> list[tuple[str, str, int]]:
        """Agent, topic and number of the partitions that have something to deliver."""
        return [place for place in self.places if self.waiting(*place[1:])]

    def deliver(self, name: str, topic: str, number: int, size: int, kill: Kill | None = None) -> None:
        """Gives the worker the next batch of a partition; it may be killed while it works on it, and starts again then."""
        begin = self.finished[topic, number]
        records = self.logs[topic, number][begin : begin + size]
        if not records:
            return
        agent = self.agents[name]
        table = agent.tables[number]
        effects = Effects(self, table, records, kill)
        try:
            assert complete(run_batch(computing(agent.process, number, records), effects, retells=agent.retells))
        except KilledError:
            assert kill is not None
            if kill.committed:
                self.commit()
            self.start_again(store_lost=kill.store_lost)

    def commit(self) -> None:
        """Commits what was finished."""
        self.committed |= self.finished

    def start_again(self, *, store_lost: bool) -> None:
        """A SIGKILL and a start: everything since the last commit is read again, over the state that the tables hold."""
        self.finished = defaultdict(int, self.committed)
        for agent in self.agents.values():
            for table in agent.tables:
                table.recover(lost=store_lost)

    def read_again(self, topic: str, number: int, offset: int) -> None:
        """Delivers a partition anew from an earlier offset: a commit that was lost, or an operator's wish."""
        self.committed[topic, number] = min(self.committed[topic, number], offset)
        self.finished[topic, number] = min(self.finished[topic, number], offset)

    def drain(self) -> None:
        """Delivers everything that is left."""
        while behind := self.behind():
            for place in behind:
                self.deliver(*place, size=100)

    def told(self, topic: str) -> list[KafkaRecord]:
        """All records of a topic, without place, in the order within each partition."""
        return [
            msgspec.structs.replace(record, offset=0) for number in range(PARTITIONS) for record in self.logs[topic, number]
        ]


def partition_of(key: bytes | None) -> int:
    """Where a key's records lie."""
    return zlib.crc32(key or b"") % PARTITIONS


def complete(coroutine: Coroutine[Any, Any, T]) -> T:
    """Runs a coroutine that waits for nothing: the effects are in memory."""
    try:
        coroutine.send(None)
    except StopIteration as ended:
        result: T = ended.value
        return result
    raise AssertionError("it waits")

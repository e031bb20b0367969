"""The timer looks at what is due, and at nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest
import structlog

from kybstream.ids import to_micros
from schemas.codec import decode
from schemas.records import CaseEvent
from schemas.topics import case_key
from streams.batching import Output
from streams.batching.state import PartitionedState, open_state
from streams.cases import CaseState
from streams.expiring import CaseDue
from streams.processing import read_case_state
from streams.timer import AT_ONCE, turn
from tests.streams.pipeline import NAMES, START

DAY = timedelta(days=1)


class Cases:
    """The local store of the table of cases, without Kafka behind it."""

    def __init__(self, local: PartitionedState) -> None:
        self.local = local
        self._written = 0

    def owned_partitions(self) -> frozenset[int]:
        """Two."""
        return frozenset({0, 1})

    def due(self, partition: int, kind: int, until: int) -> Iterator[tuple[bytes, bytes]]:
        """What is due."""
        return self.local.due(partition, kind, until)

    def write(self, prefix: str, count: int, expires: timedelta | None, value: bytes | None = None) -> None:
        """So many cases that expire that long after the start; or never, which are closed."""
        for number in range(count):
            at = None if expires is None else to_micros(START + expires) + number
            state = value or msgspec.msgpack.encode(CaseState("acme", f"{prefix}-{number}", expires_at=at))
            self.local.write(number % 2, [(case_key("acme", f"{prefix}-{number}").encode(), state)], self._written)
            self._written += 1


class Publisher:
    """What the timer sends."""

    def __init__(self) -> None:
        self.sent: list[str] = []
        self.most = 0
        self.turns_of_others: list[int] = []

    async def publish(self, outputs: Sequence[Output]) -> None:
        """Keeps them."""
        self.most = max(self.most, len(outputs))
        self.sent += [decode(output.value or b"", CaseEvent).case_id for output in outputs]

    async def count_turns(self) -> None:
        """Notes, whenever the loop gives a turn, how much has been sent by then."""
        while True:
            self.turns_of_others.append(len(self.sent))
            await asyncio.sleep(0)


@pytest.fixture(params=["memory://", "rocksdb://"])
def cases(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Cases]:
    """An empty table of cases, of each kind of store."""
    local = open_state(request.param, tmp_path, CaseDue(timedelta(days=37)))
    for number in (0, 1):
        while not local.index_more(number, 10):
            pass
    yield Cases(local)
    local.close()


async def test_a_turn_reads_the_cases_that_are_due_and_no_other(cases: Cases, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither closed cases nor those that wait, however many, nor what lies beside cases."""
    reads: list[bytes] = []

    def read(value: bytes) -> CaseState:
        reads.append(value)
        return read_case_state(value)

    monkeypatch.setattr("streams.timer.read_case_state", read)
    cases.write("closed", 300, None)
    cases.write("waiting", 300, 90 * DAY)
    cases.write("due", 3, DAY)
    cases.local.write(0, [(b"\xffacme/absorbed", bytes(8))], 10_000)
    app = Publisher()
    await turn(app, cases, NAMES.case_events, START + 2 * DAY)
    assert sorted(app.sent) == ["due-0", "due-1", "due-2"]
    assert len(reads) == 3
    cases.write("due", 2, None)  # their expiries have been processed
    await turn(app, cases, NAMES.case_events, START + 2 * DAY)
    assert app.sent[3:] == ["due-2"]
    assert len(reads) == 4


async def test_many_that_are_due_go_in_steps_and_the_loop_has_turns_between_them(cases: Cases) -> None:
    """After a long time without a worker: no step is larger than it may be, and none is sent twice in a turn."""
    cases.write("due", 10 * AT_ONCE, DAY)
    app = Publisher()
    others = asyncio.create_task(app.count_turns())
    await turn(app, cases, NAMES.case_events, START + 2 * DAY)
    others.cancel()
    assert len(app.sent) == len(set(app.sent)) == 10 * AT_ONCE
    assert app.most == AT_ONCE
    assert len({sent for sent in app.turns_of_others if sent}) >= 9


async def test_a_state_that_cannot_be_read_keeps_no_other_case_from_expiring(cases: Cases) -> None:
    """The timer goes on behind it, and says how many there are; the intake's sweeping does not meet it."""
    cases.write("damaged", 1, None, value=msgspec.msgpack.encode("of another version"))
    cases.write("halfway", 1, None, value=msgspec.msgpack.encode({"expires_at": to_micros(START), "facts": 5}))
    cases.write("due", 1, DAY)
    app = Publisher()
    with structlog.testing.capture_logs() as logged:
        await turn(app, cases, NAMES.case_events, START + 365 * DAY)
    assert app.sent == ["due-0"]
    assert [(entry["event"], entry["cases"]) for entry in logged] == [("cases_expired", 1), ("unreadable_states", 2)]


def test_what_the_index_reads_of_a_case_is_its_deadline() -> None:
    """It reads one field of the state: the same as the whole state has."""
    for expires_at in (None, 0, to_micros(START)):
        state = CaseState("acme", "c", expires_at=expires_at)
        due = CaseDue(DAY)(b"acme/c", msgspec.msgpack.encode(state))
        assert (None if due is None else due.at) == expires_at

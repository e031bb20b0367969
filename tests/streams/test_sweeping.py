"""What expires is deleted, also when nothing comes for its key any more, and nothing is forgotten before its time."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kybstream.settings import KafkaSettings
from schemas.links import make_link
from schemas.topics import entity_key
from streams.aside import Aside, is_aside
from streams.batching import DueAt
from streams.batching.records import BatchResult, StateReader
from streams.batching.records import Record as KafkaRecord
from streams.expiring import FORGOTTEN, CaseDue, CaseRemains, IntakeDue, IntakeRemains, told_again_within
from streams.intake_state import REPLAY_MARGIN, SEEN_KEPT
from streams.processing import IntakeProcess
from streams.sweeping import LOOKS, Remains, Sweeping
from tests.streams.pipeline import (
    NAMES,
    POLICIES,
    SERVICE_ID,
    START,
    DictState,
    Door,
    Told,
    kyb_body,
    kyc_body,
    link_record,
    run_intake,
    subject_of,
)
from tests.streams.test_replay import PHASES, kyb_deliveries, kyc_deliveries, links

DAY = timedelta(days=1)
KEPT = timedelta(hours=72) + REPLAY_MARGIN
"""How long a KYB fingerprint is kept after its last receipt."""


class Swept:
    """The intake over a dictionary, swept."""

    def __init__(self, now: datetime | None = None) -> None:
        self.state = DictState()
        self.told = Told()
        self.deleted = 0
        self.looks = 0
        self._process = Sweeping(
            IntakeProcess(POLICIES, NAMES), self._expired, self._remains, lambda: now or START + 1_000 * DAY
        )

    def _expired(self, _partition: int, now: int) -> Iterator[tuple[bytes, bytes]]:
        due_at = IntakeDue(POLICIES)
        found = [(due.at, key) for key, value in self.state.values.items() if (due := due_at(key, value)) is not None]
        return ((key, self.state.values[key]) for at, key in sorted(found) if at <= now)

    def _remains(self, key: bytes, value: bytes, now: int) -> bytes | None:
        self.looks += 1
        return IntakeRemains(POLICIES)(key, value, now)

    def read(self, *records: KafkaRecord, at: timedelta) -> BatchResult:
        """Records of one batch, all written to their topic at this time after the start."""
        millis = int((START + at).timestamp() * 1000)
        result = self._process(0, [msgspec.structs.replace(each, timestamp_ms=millis) for each in records], self.state)
        self.state.write(result.writes)
        self.told.outputs += result.outputs
        self.deleted += result.counts.get("expired", 0)
        return result


def other(door: Door, after: timedelta, count: int = 1) -> list[KafkaRecord]:
    """Deliveries of companies of their own."""
    return [door.record(door.delivery(kyb_body(service_id=f"other-{door.drawn}"), after=after)) for _ in range(count)]


def test_an_entry_for_which_nothing_comes_any_more_is_deleted() -> None:
    """With the first batch after its time, whatever that batch is about; not with one just before."""
    door, swept = Door(), Swept()
    swept.read(door.record(door.delivery(kyb_body())), at=timedelta(0))
    key = entity_key("acme", SERVICE_ID).encode()
    swept.read(*other(door, KEPT), at=KEPT)
    assert key in swept.state.values
    last = KEPT + timedelta(seconds=1)
    result = swept.read(*other(door, last), at=last)
    assert result.writes[key] is None
    assert key not in swept.state.values
    assert swept.deleted == 1


def test_a_fingerprint_with_an_entry_of_its_own_is_deleted_like_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """First what lies beside a key, then the key; until then a repeat is known."""
    monkeypatch.setattr("streams.intake.SEEN_KEPT", 1)
    door, swept = Door(), Swept()
    for status in ("pending", "resolved", "declined"):
        swept.read(door.record(door.delivery(kyb_body(status=status))), at=timedelta(0))
    assert sum(map(is_aside, swept.state.values)) == 2
    swept.read(*other(door, 20 * DAY, 2), at=20 * DAY)
    swept.read(*other(door, 21 * DAY, 2), at=21 * DAY)
    assert not any(is_aside(key) or SERVICE_ID.encode() in key for key in swept.state.values)


def test_a_link_outlives_everything() -> None:
    """Of a person whom nobody mentions for years only the link is left, and the next callback follows it."""
    door, swept = Door(), Swept()
    subject = subject_of(kyc_body())
    swept.read(door.record(door.delivery(kyc_body(), after=-DAY)), at=timedelta(0))
    swept.read(link_record(make_link("acme", SERVICE_ID, subject, expected_subjects=None, registered_at=START)), at=DAY)
    key = entity_key("acme", subject).encode()
    before = len(swept.state.values[key])
    swept.read(*other(door, 800 * DAY), at=800 * DAY)
    assert 0 < len(swept.state.values[key]) < before
    swept.read(door.record(door.delivery(kyc_body(kycStatus=2), after=800 * DAY)), at=800 * DAY)
    assert swept.told.deliveries[-1].case_id == SERVICE_ID


def test_a_callback_that_nobody_linked_is_kept_until_its_deadline() -> None:
    """A link that comes on the last day still takes it along. Then it is a number: it counts among those that could move."""
    door, swept = Door(), Swept()
    swept.read(door.record(door.delivery(kyc_body())), at=timedelta(0))
    swept.read(*other(door, 90 * DAY), at=90 * DAY)
    key = entity_key("acme", subject_of(kyc_body())).encode()
    assert set(msgspec.msgpack.decode(swept.state.values[key])) == {"parked"}
    swept.read(*other(door, 91 * DAY, 4), at=91 * DAY)
    assert msgspec.msgpack.decode(swept.state.values[key]) == {"let_go": 1}


@pytest.mark.parametrize(("written", "clock"), [(400 * DAY, DAY), (DAY, 400 * DAY)])
def test_neither_a_record_from_the_future_nor_a_clock_that_is_wrong_forgets_anything(
    written: timedelta, clock: timedelta
) -> None:
    """Time is the log's, and never ahead of the clock: a backlog is judged as if it had just come in."""
    door, swept = Door(), Swept(START + clock)
    swept.read(door.record(door.delivery(kyb_body())), at=timedelta(0))
    swept.read(*other(door, DAY, 3), at=written)
    swept.read(*other(door, DAY, 3), at=written)
    assert swept.deleted == 0


def test_what_expired_is_gone_after_a_quarter_as_many_records_and_nothing_else_is_looked_at() -> None:
    """A record looks at more entries than it makes, and only at those of which something has expired."""
    door, swept = Door(), Swept()
    for _ in range(10):
        swept.read(*other(door, timedelta(0), 40), at=timedelta(0))
    late = KEPT + DAY
    for _ in range(400 // LOOKS):
        swept.read(*other(door, late), at=late)
    assert (swept.deleted, swept.looks) == (400, 400)
    swept.read(*other(door, late, 40), at=late)
    assert (swept.deleted, swept.looks) == (400, 400)
    assert len(swept.state.values) == 400 // LOOKS + 40


def test_what_cannot_be_read_is_left_alone() -> None:
    """Its next delivery tells it; nor is an entry of an unknown tenant touched."""
    swept = Swept()
    swept.state.values |= {b"acme/damaged": b"\xc1", b"nobody/x": b"\x80", b"\xffacme/x": b"\xc1"}
    swept.read(*other(Door(), 800 * DAY), at=800 * DAY)
    assert swept.deleted == 0


@st.composite
def long_logs(draw: st.DrawFn) -> list[tuple[timedelta, KafkaRecord]]:
    """Deliveries and links over weeks, each with when it was written: fingerprints expire, unlinked callbacks do not."""
    door, after, made = Door(), timedelta(0), []
    for _ in range(draw(st.integers(1, 12))):
        after += draw(st.sampled_from([timedelta(minutes=11), timedelta(hours=71), timedelta(hours=73), timedelta(days=7)]))
        late = after - draw(st.sampled_from([timedelta(0), timedelta(hours=1)]))
        made.append((after, draw(st.one_of(kyb_deliveries(door, late), kyc_deliveries(door, late), links(late)))))
    return made


@given(log=long_logs(), within=st.sampled_from([0, 1, SEEN_KEPT]))
@settings(max_examples=80, deadline=None, phases=PHASES)
def test_sweeping_changes_nothing_that_is_said(log: list[tuple[timedelta, KafkaRecord]], within: int) -> None:
    """Swept after every record, the intake says what it says without, byte for byte, wherever its fingerprints lie."""
    swept = Swept()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("streams.intake.SEEN_KEPT", within)
        for after, record in log:
            swept.read(record, at=after)
    assert swept.told.outputs == run_intake([record for _, record in log]).outputs


def test_what_a_batch_writes_itself_is_its_own_affair() -> None:
    """A key that the batch is about keeps the batch's value, also one that an earlier slice of it wrote."""

    def process(_partition: int, _records: object, _state: StateReader) -> BatchResult:
        return BatchResult(writes={b"a": b"new"})

    entries = [(b"a", b"old"), (b"b", b"old")]
    sweeping = Sweeping(process, lambda *_: iter(entries), lambda *_: None, lambda: START)
    record = KafkaRecord("t", 0, 0, 1, b"a", b"", ())
    assert sweeping(0, [record], DictState(dict(entries))).writes == {b"a": b"new", b"b": None}
    written_before = DictState(dict(entries) | {b"b": b"newer"})
    assert sweeping(0, [record], written_before).writes == {b"a": b"new"}


def test_ids_of_absorbed_events_are_kept_as_long_as_a_topic_can_tell_them_again() -> None:
    """Then they are deleted; a case itself never is."""
    kept = told_again_within(KafkaSettings())
    assert kept == timedelta(days=30) + REPLAY_MARGIN
    aside = Aside(b"acme/c", DictState(), {})
    aside.put("event", (5_000_000).to_bytes(8, "big"))
    ((key, value),) = aside.changes.items()
    remains, border = CaseRemains(kept), 5_000_000 + kept // timedelta(microseconds=1)
    assert remains(key, value or b"", border) is value
    assert remains(key, value or b"", border + 1) is None
    assert remains(b"acme/c", b"case", 10**18) == b"case"


@given(log=long_logs(), within=st.sampled_from([0, 1, SEEN_KEPT]), absorbed=st.integers(0, 2**63))
@settings(max_examples=80, deadline=None, phases=PHASES)
def test_an_entry_is_due_exactly_when_less_remains_of_it(
    log: list[tuple[timedelta, KafkaRecord]], within: int, absorbed: int
) -> None:
    """Not a microsecond later, when a batch would look at it in vain, nor earlier: of what lies beside a key, too."""
    state, process = DictState(), IntakeProcess(POLICIES, NAMES)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("streams.intake.SEEN_KEPT", within)
        for _, record in log:
            state.write(process(0, [record], state).writes)
    kept = timedelta(days=37)
    rules: list[tuple[bytes, bytes, DueAt, Remains]]
    rules = [(key, value, IntakeDue(POLICIES), IntakeRemains(POLICIES)) for key, value in state.values.items()]
    rules.append((b"\xffacme/c", absorbed.to_bytes(8, "big"), CaseDue(kept), CaseRemains(kept)))
    for key, value, due_at, remains in rules:
        due = due_at(key, value)
        if due is None:
            assert remains(key, value, 2**62) is value
        else:
            assert due.kind == FORGOTTEN
            assert remains(key, value, due.at) is not value
            assert remains(key, value, due.at - 1) is value

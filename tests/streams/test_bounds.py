"""A case with more persons, services and kinds of events than it lists: counted exactly, whatever comes first."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kybstream.ids import derived_id
from schemas.codec import encode
from schemas.providers import kyb
from schemas.records import Case, CaseEvent
from streams.aside import Aside
from streams.cases import CaseState, case, case_policy
from streams.flood import BOUNDS, EVENT_FLOOD, MANY_PERSONS, MANY_SERVICES, Bounds
from streams.fold import OTHERS
from tests.streams.histories import DEADLINE, START, TENANT
from tests.streams.model import Rules, expected_case
from tests.streams.pipeline import DictState

CASE_ID = "667ab56f0e4e6520880"
STATE_BYTES = 256 * 1024
SNAPSHOT_BYTES = 64 * 1024
POLICY = case_policy(deadline=DEADLINE, kyc_always=False, case_id=CASE_ID)
HOUR = timedelta(hours=1)
FEW = Bounds(company=6, edge=2, persons=2, weight=9)

_encoder = msgspec.msgpack.Encoder()


def through(events: Sequence[CaseEvent], bounds: Bounds = BOUNDS) -> tuple[CaseState, dict[bytes, bytes], list[Case]]:
    """The events one after the other: the state and what lies beside it at the end, and all snapshots."""
    beside, state, snapshots = DictState(), None, []
    for event in events:
        aside = Aside(b"acme/some", beside, {})
        state, snapshot = case(state, event, POLICY, aside, bounds=bounds)
        beside.write(aside.changes)
        snapshots += [snapshot] if snapshot else []
    assert state is not None
    return state, beside.values, snapshots


def event(number: int, kind: str, *, after: timedelta | None = None, **fields: object) -> CaseEvent:
    """One event of the case; the number makes its id."""
    return CaseEvent(
        event_id=derived_id("event", str(number)),
        tenant=TENANT,
        case_id=CASE_ID,
        received_at=START + (number * HOUR if after is None else after),
        kind=kind,  # type: ignore[arg-type]  # of the tests
        **fields,  # type: ignore[arg-type]
    )


@st.composite
def crowds(draw: st.DrawFn) -> list[CaseEvent]:
    """Events of the company and of up to six persons; a withdrawal takes back what was registered of its own person."""
    history: list[CaseEvent] = []
    withdrawals = draw(st.booleans())
    for number in range(draw(st.integers(4, 18))):
        subject = draw(st.sampled_from(["v1.a", "v1.b", "v1.c", "v1.d", "v1.e", "v1.f"]))
        at = draw(st.integers(0, 9)) * HOUR
        registered = [
            known.event_id
            for known in history
            if known.subject == subject and known.kind == "kyc" and known.placement == "registered"
        ]
        named = {name for known in history for name in known.moved_events}
        match draw(st.sampled_from(["kyb", "kyc", "kyc", "kyc", "link", "withdrawal"])):
            case "kyb":
                kind = draw(st.sampled_from(["service_initiated", "service_resolved", "ongoing_aml_webhook"]))
                status = "pending" if kind == "service_initiated" else "resolved"
                made = event(number, "kyb", after=at, type=kind, status=status, services=("kyc",))
            case "kyc":
                result = draw(st.sampled_from(["success", "temporary_rejection", "permanent_rejection", "9", None]))
                placement = draw(st.sampled_from(["path_token", "learned", "registered"]))
                made = event(number, "kyc", after=at, subject=subject, status=result, placement=placement, kyc_level="1")
            case "withdrawal" if withdrawals:
                left = tuple(name for name in registered if name not in named)
                made = event(number, "withdrawal", after=at, subject=subject, moved_events=left)
            case _:
                expected = None if withdrawals else draw(st.none() | st.integers(1, 6))
                rule = draw(st.sampled_from(["registered", "path_token"]))
                made = event(number, "link", after=at, subject=subject, placement=rule, expected_subjects=expected)
        history.append(made)
    return history


@given(data=st.data(), history=crowds())
@settings(max_examples=100, deadline=None)
def test_a_crowd_ends_the_same_in_every_order(data: st.DataObject, history: list[CaseEvent]) -> None:
    """The state, all that lies beside it, and the last snapshot; versions are 1..n, and a repeat says nothing."""
    repeats = data.draw(st.lists(st.sampled_from(history), max_size=6))
    state, beside, snapshots = through([*data.draw(st.permutations(history)), *repeats], FEW)
    other, other_beside, other_snapshots = through(data.draw(st.permutations(history)), FEW)
    assert [snapshot.version for snapshot in snapshots] == list(range(1, len(history) + 1))
    assert snapshots[-1] == other_snapshots[-1]
    assert state == msgspec.structs.replace(other, facts={key: other.facts[key] for key in state.facts})
    assert beside.keys() == other_beside.keys()


@given(history=crowds())
@settings(max_examples=200, deadline=None)
def test_of_a_crowd_all_counts_and_statuses_are_those_of_the_rules(history: list[CaseEvent]) -> None:
    """The model has all events and all persons; what the case does not list is in one row, and only times may differ."""
    state, _, snapshots = through(history, FEW)
    want, got = expected_case(TENANT, CASE_ID, history, Rules(DEADLINE, kyc_always=False)), snapshots[-1]
    for name in ("version", "kyb_status", "kyc_status", "match_state", "placements", "resubmissions", "aml_alerts"):
        assert getattr(got, name) == getattr(want, name), name
    assert (got.outcome, got.updated_at, got.services) == (want.outcome, want.updated_at, want.services)
    assert set(got.anomalies) - {MANY_PERSONS, EVENT_FLOOD} == set(want.anomalies)
    if not any(each.kind == "withdrawal" for each in history):
        assert (got.expected_subjects, got.opened_at, got.opened_at_source, got.kyc_first_result_at, got.linked_at) == (
            want.expected_subjects,
            want.opened_at,
            want.opened_at_source,
            want.kyc_first_result_at,
            want.linked_at,
        )
    listed = {subject.subject: subject for subject in got.subjects}
    others = listed.pop(OTHERS, None)
    everybody = {subject.subject: subject for subject in want.subjects}
    assert listed == {name: everybody[name] for name in listed}
    assert sum(subject.attempts for subject in got.subjects) == sum(subject.attempts for subject in want.subjects)
    assert (others is not None) == (len(everybody) > len(listed))
    if state.others is not None:
        assert MANY_PERSONS in got.anomalies
        assert sum(state.others.persons.values()) == len(everybody) - len(listed)


def test_of_two_numbers_said_at_once_the_greater_one_counts_beyond_the_bound_too() -> None:
    """Links of one moment say how many persons are expected: which of them are beyond the bound makes no difference."""
    names = ["v1.a", "v1.b", "v1.c", "v1.d", "v1.e", "v1.f"]
    for numbers in ((5, 4, 3, 2, 1, 1), (1, 2, 3, 4, 5, 5), (4, 4, 6, 1, 2, 3)):
        history = [
            event(number, "link", after=HOUR, subject=name, placement="registered", expected_subjects=expected)
            for number, (name, expected) in enumerate(zip(names, numbers, strict=True))
        ]
        _, _, snapshots = through(history, FEW)
        assert snapshots[-1].expected_subjects == max(numbers)


def test_thousands_of_persons_cost_what_a_hundred_do() -> None:
    """Callbacks of 1,500 persons with one case token: all are counted, and the entry and the snapshots are small."""
    events = []
    for number in range(1_500):
        subject, at = f"v1.{number:026}", number * timedelta(seconds=1)
        events.append(event(2 * number, "link", after=at, subject=subject, placement="path_token"))
        events.append(event(2 * number + 1, "kyc", after=at, subject=subject, placement="path_token", status="success"))
    events.reverse()
    state, _, snapshots = through(events)
    last = snapshots[-1]
    assert (last.version, last.kyc_status, last.resubmissions) == (3_000, "success", 0)
    assert sum(subject.attempts for subject in last.subjects) == 1_500
    assert len(last.subjects) == BOUNDS.persons + 1
    assert MANY_PERSONS in last.anomalies
    assert len(_encoder.encode(state)) < STATE_BYTES // 4
    assert max(len(encode(snapshot)) for snapshot in snapshots) < SNAPSHOT_BYTES // 4


def test_a_case_of_tens_of_persons_is_untouched() -> None:
    """Ninety-nine with a link, a temporary rejection and a success each: all listed, nothing flagged, as the model has it."""
    history = []
    for number in range(99):
        subject = f"v1.{number:026}"
        history.append(event(3 * number, "link", subject=subject, placement="registered", expected_subjects=99))
        for place, status in ((1, "temporary_rejection"), (2, "success")):
            history.append(event(3 * number + place, "kyc", subject=subject, placement="registered", status=status))
    _, _, snapshots = through(history)
    last = snapshots[-1]
    assert (last.kyc_status, last.resubmissions, last.anomalies, len(last.subjects)) == ("success", 99, (), 99)


def test_services_beyond_the_bound_are_the_same_in_every_order() -> None:
    """All documented ones and eight others, flagged; the case still resolves by what it lists."""
    names = sorted(kyb.SERVICES) + [f"new service {number}" for number in range(30)]
    events = [
        event(2 * number + ended, "kyb", type=kind, status="resolved" if ended else "pending", services=(name,))
        for number, name in enumerate(names)
        for ended, kind in enumerate(["service_initiated", "service_resolved"])
    ]
    state, _, snapshots = through(events)
    other, _, other_snapshots = through(list(reversed(events)))
    last = snapshots[-1]
    assert last == other_snapshots[-1]
    assert state.facts == other.facts
    assert {service.name for service in last.services} > kyb.SERVICES
    assert len(last.services) == len(kyb.SERVICES) + 8
    assert (last.version, last.kyb_status, MANY_SERVICES in last.anomalies) == (76, "resolved", True)
    few = [each for each in events if set(each.services) <= {*names[:16]}]
    assert MANY_SERVICES not in through(few)[2][-1].anomalies


def test_texts_that_no_document_lists_do_not_grow_a_case() -> None:
    """Thousands of statuses and types leave the state as it was after a hundred events."""
    events = [
        event(number, "kyb", type=f"type {number}", status=f"status {number}", services=("kyc",)) for number in range(2_000)
    ]
    state, _, snapshots = through(events)
    assert (snapshots[-1].version, snapshots[-1].anomalies) == (2_000, (EVENT_FLOOD,))
    assert len(state.facts) <= BOUNDS.company
    assert len(_encoder.encode(state)) < STATE_BYTES // 8


@pytest.mark.parametrize("shape", ["services", "persons", "withdrawals"])
def test_the_worst_case_is_within_its_size(shape: str) -> None:
    """What fills each part of a state the most, at the sizes that a body can bring about."""
    wide = [f"{chr(0x1F600 + number)}" * 15 for number in range(8)]
    events = []
    for number in range(700):
        subject = f"v1.{number % 110:026}"
        match shape:
            case "services":
                kind = ("service_initiated", "service_resolved", "other")[number % 3]
                events.append(event(number, "kyb", type=kind, status="resolved", services=(*sorted(kyb.SERVICES), *wide)))
            case "persons":
                text = chr(0x1F600 + number % 50) * 32
                status = ("success", "temporary_rejection", "permanent_rejection", None)[number % 4]
                events.append(
                    event(number, "kyc", subject=subject, status=status, placement="registered", kyc_type=text, kyc_level=text)
                )
            case _:
                moved = tuple(derived_id("moved", str(number), str(index)) for index in range(32))
                events.append(event(number, "withdrawal", subject=subject, moved_events=moved))
    state, _, snapshots = through(events)
    assert len(_encoder.encode(state)) < STATE_BYTES
    assert max(len(encode(snapshot)) for snapshot in snapshots) < SNAPSHOT_BYTES
    assert snapshots[-1].version == 700


def test_a_state_of_an_older_version_gets_its_bounds() -> None:
    """Its long texts are cut and its events absorbed with the first event that comes, and none of them counts twice."""
    events = [event(number, "kyb", type="x" * 500, status=f"{number}" * 300, services=("kyc",)) for number in range(200)]
    state, beside, snapshots = through(events, Bounds(company=10_000))
    old = msgspec.structs.replace(
        state,
        bounds=0,
        facts={key: msgspec.structs.replace(fact, status="x" * 9_000) for key, fact in state.facts.items()},
    )
    aside = Aside(b"acme/some", DictState(beside), {})
    new, snapshot = case(old, event(200, "kyb", type="service_initiated", services=("kyc",)), POLICY, aside)
    assert snapshot is not None
    assert (snapshots[-1].version, snapshot.version, new.bounds) == (200, 201, state.bounds)
    assert len(_encoder.encode(new)) < STATE_BYTES // 8

"""A provider gone mad: thousands of events for one case or person cost bounded state, and no count is lost."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kybstream.ids import derived_id
from schemas.codec import decode, encode
from schemas.links import make_link
from schemas.records import Case, CaseEvent, Delivery
from schemas.topics import case_key
from streams.aside import Aside, is_aside
from streams.batching.records import Output
from streams.batching.records import Record as KafkaRecord
from streams.cases import CaseState, case, case_policy
from streams.facts import Fact
from streams.flood import BOUNDS, EVENT_FLOOD, Bounds, absorbable
from streams.intake_state import PARKED_KEPT, SEEN_KEPT
from streams.processing import CasesProcess, IntakeProcess, read_case_state
from tests.streams.histories import DEADLINE, TENANT, histories
from tests.streams.model import Rules, expected_case
from tests.streams.pipeline import (
    NAMES,
    POLICIES,
    SERVICE_ID,
    START,
    DictState,
    Door,
    Told,
    as_record,
    kyb_body,
    kyc_body,
    link_record,
    run_intake,
    subject_of,
)
from tests.streams.test_replay import PHASES, identity, logs

SECOND = timedelta(seconds=1)
CASE_KEY = case_key(TENANT, SERVICE_ID).encode()

FROM_A_LATER_EVENT = ("kyb_resolved_at", "kyc_final_at", "closed_at", "deadline_at", "linked_at")
"""What docs/explanation/cases.md says of a case with more alike events than are kept: these times may be later ones."""


def small(edge: int) -> Bounds:
    """Bounds that a few events exceed."""
    return Bounds(company=2 * edge, edge=edge)


def through(events: Sequence[CaseEvent], bounds: Bounds) -> tuple[CaseState, list[Case]]:
    """The events one after the other with the entries beside; the state at the end, and all snapshots."""
    policy = case_policy(deadline=DEADLINE, kyc_always=False, case_id=events[0].case_id)
    beside, state, snapshots = DictState(), None, []
    for event in events:
        aside = Aside(CASE_KEY, beside, {})
        state, snapshot = case(state, event, policy, aside, bounds=bounds)
        beside.write(aside.changes)
        snapshots += [snapshot] if snapshot else []
    assert state is not None
    return state, snapshots


def fixed(history: Sequence[CaseEvent]) -> list[CaseEvent]:
    """The history as the intake would tell it: nothing names an event whose place is final."""
    final = {event.event_id for event in history if absorbable(Fact.of(event))}
    return [
        msgspec.structs.replace(event, moved_events=tuple(name for name in event.moved_events if name not in final))
        for event in history
    ]


@st.composite
def floods(draw: st.DrawFn) -> list[CaseEvent]:
    """A few events of one case, and many that are like some of them, at other times."""
    history = draw(histories(max_size=6).map(fixed))
    for number in range(draw(st.integers(0, 10))):
        model = draw(st.sampled_from(history[:4]))
        at = START + timedelta(days=draw(st.integers(0, 8)), seconds=draw(st.integers(0, 9)))
        history.append(msgspec.structs.replace(model, event_id=f"like-{number}", received_at=at))
    return history


@given(data=st.data(), history=floods(), edge=st.integers(1, 3))
@settings(max_examples=150, deadline=None)
def test_beyond_the_bound_no_order_and_no_repeat_makes_a_difference(
    data: st.DataObject, history: list[CaseEvent], edge: int
) -> None:
    """Every order of arrival ends in one snapshot, versions are 1..n, and a repeat of any event says nothing."""
    first, again = data.draw(st.permutations(history)), data.draw(st.permutations(history))
    repeats = data.draw(st.lists(st.sampled_from(history), max_size=6))
    state, snapshots = through([*first, *repeats], small(edge))
    other_state, other_snapshots = through(again, small(edge))
    assert [snapshot.version for snapshot in snapshots] == list(range(1, len(history) + 1))
    assert snapshots[-1] == other_snapshots[-1]
    assert state.facts == other_state.facts
    assert sorted(state.absorbed, key=repr) == sorted(other_state.absorbed, key=repr)


@given(history=floods(), edge=st.integers(1, 3))
@settings(max_examples=300, deadline=None)
def test_beyond_the_bound_only_times_of_change_may_differ(history: list[CaseEvent], edge: int) -> None:
    """The model has all events. Within the bound the snapshot is the model's; beyond it, all that is not said to differ is."""
    state, snapshots = through(history, small(edge))
    want = expected_case(TENANT, history[0].case_id, history, Rules(DEADLINE, kyc_always=False))
    got = snapshots[-1]
    if not state.absorbed:
        assert got == want
        return
    assert EVENT_FLOOD in got.anomalies
    times = dict.fromkeys(FROM_A_LATER_EVENT)
    unsure = {EVENT_FLOOD}
    if any(event.kind == "expiry" for event in history):  # whether it was open just then may lie in the flood
        unsure.add("closed_after_expiry")
        want, got = (msgspec.structs.replace(each, outcome=_settled(each)) for each in (want, got))
    want, got = (
        msgspec.structs.replace(each, anomalies=tuple(sorted(set(each.anomalies) - unsure)), deadline_at=START)
        for each in (want, got)
    )
    if any(event.kind == "withdrawal" for event in history):  # which link is the first in force may lie in the flood
        times |= dict.fromkeys(("opened_at", "opened_at_source"))
    names = [name for name in Case.__struct_fields__ if name not in times]
    assert {name: getattr(got, name) for name in names} == {name: getattr(want, name) for name in names}


@given(data=st.data(), number=st.integers(8, 30))
@settings(max_examples=100, deadline=None)
def test_beyond_the_bound_no_id_decides_which_events_of_one_receipt_are_kept(data: st.DataObject, number: int) -> None:
    """Ids are hashes: under other ids the same events of a company give the same snapshot."""
    services, kinds = ["aml", "documents", "kyc", "x", "y"], ["service_initiated", "service_resolved", "other"]
    history = []
    for index in range(number):
        event = CaseEvent(
            event_id=f"e{index}",
            tenant=TENANT,
            case_id=SERVICE_ID,
            received_at=START + data.draw(st.integers(0, 3)) * SECOND,
            kind="kyb",
            type=data.draw(st.sampled_from(kinds)),
            status=data.draw(st.sampled_from(["pending", "resolved"])),
            services=tuple(data.draw(st.lists(st.sampled_from(services), max_size=5, unique=True))),
            anomalies=data.draw(st.sampled_from([(), ("link_service_id_mismatch",)])),
        )
        history.append(event)
    names = data.draw(st.permutations([f"renamed {index}" for index in range(number)]))
    renamed = [msgspec.structs.replace(event, event_id=name) for event, name in zip(history, names, strict=True)]
    assert through(renamed, small(3))[1][-1] == through(history, small(3))[1][-1]


def _settled(snapshot: Case) -> str:
    return snapshot.outcome if snapshot.outcome in {"completed", "rejected", "merged"} else "open"


def flood(count: int) -> list[CaseEvent]:
    """Distinct alike events of one case, between an initiation and its resolution."""
    many = [
        CaseEvent(
            event_id=derived_id("flood", str(number)),
            tenant=TENANT,
            case_id=SERVICE_ID,
            received_at=START + number * SECOND,
            kind="kyb",
            type="service_initiated" if number % 2 else "ongoing_aml_webhook",
            status="pending",
            services=("questionnaire",),
        )
        for number in range(count)
    ]
    resolved = msgspec.structs.replace(
        many[0], event_id="end", type="service_resolved", status="resolved", received_at=START + count * SECOND
    )
    return [*many, resolved]


def test_a_case_costs_the_same_for_its_thousandth_event() -> None:
    """Each event writes one entry of bounded size and one small one beside it; the snapshot counts them all."""
    events = flood(1_200)
    process, state, told, sizes = CasesProcess(POLICIES, NAMES), DictState(), Told(), []
    for offset, event in enumerate(events):
        result = process(0, [as_record(NAMES.case_events, CASE_KEY, encode(event), offset)], state)
        state.write(result.writes)
        told.outputs += result.outputs
        sizes.append(sum(len(key) + len(value or b"") for key, value in result.writes.items()))
        assert result.counts["flooded"] == (len(result.writes) > 1)
    assert max(sizes) == sizes[BOUNDS.company - 1]
    assert len(read_case_state(state.values[CASE_KEY]).facts) <= BOUNDS.company
    last = decode(told.outputs[-1].value or b"", Case)
    assert (last.version, last.aml_alerts, last.outcome) == (1_201, 600, "completed")
    assert last.closed_at == last.updated_at == events[-1].received_at
    assert last.anomalies == (EVENT_FLOOD,)

    again = process(0, [as_record(NAMES.case_events, CASE_KEY, encode(event)) for event in events], state)
    assert (again.outputs, again.writes) == ([], {})


def test_a_case_within_the_bound_is_no_flood() -> None:
    """As many events of the company as are kept are folded one by one."""
    _, snapshots = through(flood(BOUNDS.company - 1), BOUNDS)
    assert snapshots[-1].anomalies == ()
    _, snapshots = through(flood(BOUNDS.company), BOUNDS)
    assert snapshots[-1].anomalies == (EVENT_FLOOD,)


def test_an_entity_costs_the_same_for_its_thousandth_fingerprint() -> None:
    """Its entry holds so many; the others lie beside it, and each delivery is a duplicate of its own when it comes again."""
    door = Door()
    bodies = [kyb_body(comment=str(number)) for number in range(500)]
    process, state, told, sizes = IntakeProcess(POLICIES, NAMES), DictState(), Told(), []
    for body in [*bodies, *reversed(bodies)]:
        result = process(0, [door.record(door.delivery(body, after=door.drawn * SECOND))], state)
        state.write(result.writes)
        told.outputs += result.outputs
        sizes.append(sum(len(key) + len(value or b"") for key, value in result.writes.items()))
    assert max(sizes) < 1.1 * sizes[SEEN_KEPT]
    assert [verdict.verdict for verdict in told.deliveries] == ["new"] * 500 + ["duplicate"] * 500
    firsts = [verdict.first_delivery_id for verdict in told.deliveries]
    assert firsts[500:] == list(reversed(firsts[:500]))
    assert sum(map(is_aside, state.values)) == 500 - SEEN_KEPT


@given(data=st.data(), log=logs())
@settings(max_examples=60, deadline=None, phases=PHASES)
def test_what_lies_beside_is_judged_as_what_lies_within(data: st.DataObject, log: list[KafkaRecord]) -> None:
    """With no fingerprint in the entry itself the intake says the same, byte for byte, also after crashes."""
    want: dict[tuple[str, str], Output] = {identity(output): output for output in run_intake(log).outputs}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("streams.intake.SEEN_KEPT", 0)
        process, state = IntakeProcess(POLICIES, NAMES), DictState()
        got: dict[tuple[str, str], Output] = {}
        offset, crashes = 0, 2
        while offset < len(log):
            size = data.draw(st.integers(1, len(log)))
            result = process(0, log[offset : offset + size], state)
            for output in result.outputs:
                assert got.setdefault(identity(output), output) == output
            crashed = crashes > 0 and data.draw(st.booleans())
            if not crashed or data.draw(st.booleans()):
                state.write(result.writes)
            offset = data.draw(st.integers(0, offset)) if crashed else offset + size
            crashes -= crashed
    assert got == want


@given(log=logs())
@settings(max_examples=60, deadline=None, phases=PHASES)
def test_nothing_names_an_event_that_a_number_may_stand_for(log: list[KafkaRecord]) -> None:
    """What leaves a case or returns to it is never among what the case absorbs, so that no number has to be taken back."""
    told = run_intake(log)
    final = {(event.case_id, event.event_id) for event in told.case_events if absorbable(Fact.of(event))}
    named = {(event.case_id, name) for event in told.case_events for name in event.moved_events}
    assert not named & final


def test_callbacks_beyond_the_bound_stay_where_they_were_placed() -> None:
    """A late link takes the first ones along; the others stay on the provisional case, flagged, and none is lost or doubled."""
    door = Door()
    bodies = [kyc_body(kycStatus=3, remark=str(number)) for number in range(PARKED_KEPT + 150)]
    records = [door.record(door.delivery(body, after=door.drawn * SECOND)) for body in bodies]
    subject = subject_of(bodies[0])
    link = make_link("acme", SERVICE_ID, subject, expected_subjects=None, registered_at=START + timedelta(hours=1))
    told = run_intake([*records, link_record(link), *records])
    assert {verdict.verdict for verdict in told.deliveries} == {"new"}
    cases = told.cases()
    linked, provisional = cases[f"acme/{SERVICE_ID}"], cases[f"acme/kyc:{subject}"]
    assert linked.subjects[0].attempts == PARKED_KEPT
    assert linked.anomalies == ()
    assert provisional.subjects[0].attempts == 150
    assert provisional.resubmissions == 149
    assert (provisional.outcome, provisional.anomalies) == ("awaiting_resubmission", (EVENT_FLOOD,))
    assert {type(verdict) for verdict in told.deliveries} == {Delivery}

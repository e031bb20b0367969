from __future__ import annotations

from datetime import timedelta

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kybstream.privacy import make_case_token
from streams.intake import QuarantineError, intake
from streams.intake_state import IntakeState
from tests.streams.pipeline import NAMES, POLICIES, SERVICE_ID, TOKEN_KEY, Door, kyb_body, kyc_body, nothing_aside, run_intake

HOUR, MINUTE, MICROSECOND = timedelta(hours=1), timedelta(minutes=1), timedelta(microseconds=1)


def verdicts(body: dict[str, object], *times: timedelta) -> list[str]:
    """Verdicts of the same body received at these times."""
    door = Door()
    told = run_intake([door.record(door.delivery(body, after=after)) for after in times])
    assert len(told.events) == len([delivery for delivery in told.deliveries if delivery.verdict == "new"])
    return [delivery.verdict for delivery in told.deliveries]


def test_a_repeat_is_a_duplicate_that_names_the_first_delivery_and_its_event() -> None:
    """Of 118 deliveries of one result the first makes an event; the others repeat it, and the case sees one event."""
    door = Door()
    told = run_intake([door.record(door.delivery(kyc_body(), after=number * 10 * MINUTE / 60)) for number in range(118)])
    first, *repeats = told.deliveries
    assert (first.verdict, {delivery.verdict for delivery in repeats}) == ("new", {"duplicate"})
    assert {delivery.first_delivery_id for delivery in told.deliveries} == {first.delivery_id}
    assert {delivery.event_id for delivery in told.deliveries} == {told.events[0].event_id}
    assert [event.delivery_id for event in told.events] == [first.delivery_id]
    assert [snapshot.version for snapshot in told.cases().values()] == [1]


def test_the_same_content_in_another_spelling_is_a_duplicate() -> None:
    """Order of keys and white space do not make a new event; any other value does."""
    door = Door()
    body = kyc_body()
    spellings = [
        msgspec.json.encode(body),
        msgspec.json.format(msgspec.json.encode(dict(reversed(body.items()))), indent=4),
        b"\xef\xbb\xbf" + msgspec.json.encode(body),
        msgspec.json.encode(body | {"kycStatus": 3}),
    ]
    told = run_intake([door.record(door.delivery(spelling)) for spelling in spellings])
    assert [delivery.verdict for delivery in told.deliveries] == ["new", "duplicate", "duplicate", "new"]


def test_a_resubmission_of_the_same_person_and_level_is_a_new_event() -> None:
    """3, then 1, of the same user, type and level: two events, and the case counts the resubmission."""
    door = Door()
    bodies = [kyc_body(kycStatus=3), kyc_body(kycStatus=1)]
    told = run_intake([door.record(door.delivery(body, after=number * HOUR)) for number, body in enumerate(bodies)])
    assert [event.status for event in told.events] == ["temporary_rejection", "success"]
    (snapshot,) = told.cases().values()
    assert (snapshot.kyc_status, snapshot.resubmissions, snapshot.subjects[0].attempts) == ("success", 1, 2)


def test_the_window_is_counted_from_the_last_receipt() -> None:
    """72 hours after the last receipt is a duplicate, a microsecond later is new; a repeat moves the window on."""
    assert verdicts(kyc_body(), timedelta(0), 72 * HOUR) == ["new", "duplicate"]
    assert verdicts(kyc_body(), timedelta(0), 72 * HOUR + MICROSECOND) == ["new", "new"]
    assert verdicts(kyc_body(), timedelta(0), 70 * HOUR, 140 * HOUR) == ["new", "duplicate", "duplicate"]


def test_ongoing_aml_repeats_are_suppressed_for_ten_minutes_only() -> None:
    """Equal bytes within ten minutes are a retry, later ones a real alert; other types keep their 72 hours."""
    alert = kyb_body(type="ongoing_aml_webhook", status="resolved")
    assert verdicts(alert, timedelta(0), 10 * MINUTE, 20 * MINUTE + MICROSECOND) == ["new", "duplicate", "new"]
    assert verdicts(kyb_body(), timedelta(0), 20 * MINUTE) == ["new", "duplicate"]


def test_a_window_counts_to_both_sides_of_receipt() -> None:
    """A delivery that a spool held back is a duplicate only if it was received within the window of a known one."""
    alert = kyb_body(type="ongoing_aml_webhook", status="resolved")
    assert verdicts(alert, 60 * MINUTE, 55 * MINUTE) == ["new", "duplicate"]
    assert verdicts(alert, 60 * MINUTE, timedelta(0)) == ["new", "new"]
    assert verdicts(alert, 60 * MINUTE, 52 * MINUTE, 45 * MINUTE) == ["new", "duplicate", "duplicate"]


def test_a_delivery_judged_again_after_its_window_is_judged_as_it_was() -> None:
    """The state holds a later alert of the same bytes; processed again, the earlier ones say what they said."""
    door, policy = Door(), POLICIES["acme"]
    alert = kyb_body(type="ongoing_aml_webhook", status="resolved")
    deliveries = [door.delivery(alert, after=after) for after in (timedelta(0), 5 * MINUTE, 60 * MINUTE, 61 * MINUTE)]
    state, first = IntakeState(), []
    for delivery in deliveries:
        state, told = intake(state, delivery, policy, nothing_aside())
        first.append(told)
    for delivery, told in zip(deliveries, first, strict=True):
        assert intake(state, delivery, policy, nothing_aside())[1] == told


def test_state_is_let_go_after_the_window_and_the_time_a_replay_may_reach_back() -> None:
    """What nothing can repeat and no crash can bring back is forgotten when the entity is heard of again."""
    door, policy = Door(), POLICIES["acme"]
    state, _ = intake(IntakeState(), door.delivery(kyb_body()), policy, nothing_aside())
    kept, _ = intake(state, door.delivery(kyb_body(status="resolved"), after=(72 + 7 * 24) * HOUR), policy, nothing_aside())
    later = door.delivery(kyb_body(status="resolved"), after=(72 + 7 * 24) * HOUR + MICROSECOND)
    gone, _ = intake(state, later, policy, nothing_aside())
    assert (len(kept.seen), len(gone.seen)) == (2, 1)


def test_two_tenants_never_meet() -> None:
    """The same service_id, person and bytes at two tenants: each has its own event, case and pseudonym."""
    door = Door()
    bodies = [kyb_body(), kyc_body()]
    told = run_intake([door.record(door.delivery(body, tenant=tenant)) for body in bodies for tenant in ("acme", "globex")])
    assert [delivery.verdict for delivery in told.deliveries] == ["new"] * 4
    assert len({event.event_id for event in told.events}) == 4
    assert len({event.subject for event in told.events if event.subject}) == 2
    assert {f"acme/{SERVICE_ID}", f"globex/{SERVICE_ID}"} < set(told.cases())
    assert all(snapshot.version == 1 for snapshot in told.cases().values())


def test_records_are_keyed_so_that_what_belongs_together_meets() -> None:
    """Verdicts and events by the entity key, changes of cases by tenant and case: a moved callback goes to its case."""
    door = Door()
    token = make_case_token(SERVICE_ID, TOKEN_KEY)
    records = [door.record(door.delivery(kyc_body())), door.record(door.delivery(kyc_body(), case_token=token))]
    told = run_intake(records)
    subject = (records[0].key or b"").decode()
    keys = [(output.topic, (output.key or b"").decode()) for output in told.outputs]
    provisional, case = subject.replace("acme/", "acme/kyc:"), f"acme/{SERVICE_ID}"
    assert keys[:3] == [(NAMES.case_events, provisional), (NAMES.events, subject), (NAMES.deliveries, subject)]
    moved = [(NAMES.case_events, case), (NAMES.case_events, case), (NAMES.case_events, provisional)]
    assert keys[3:] == [*moved, (NAMES.deliveries, subject)]


def test_a_case_token_of_another_tenant_links_nothing() -> None:
    """A token verifies with the keys of the delivery's tenant alone."""
    door = Door()
    told = run_intake([door.record(door.delivery(kyc_body(), tenant="globex", case_token=make_case_token("c", TOKEN_KEY)))])
    assert [(event.placement, "invalid:case_token" in event.violations) for event in told.events] == [("unlinked", True)]


def test_outputs_come_in_the_order_case_event_event_delivery() -> None:
    """The delivery is told last: whoever sees a verdict can rely on what it stands for."""
    door = Door()
    token = make_case_token(SERVICE_ID, TOKEN_KEY)
    told = run_intake([door.record(door.delivery(kyc_body(), case_token=token))])
    assert [output.topic for output in told.outputs] == [NAMES.case_events, NAMES.events, NAMES.case_events, NAMES.deliveries]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
field_names = st.sampled_from(
    ["service_id", "type", "status", "services", "link", "userNo", "kycStatus", "kycType", "kycFailJson", "remark", "email"]
)


@given(body=st.dictionaries(field_names | st.text(max_size=8), json_values, max_size=8), is_kyc=st.booleans())
@settings(max_examples=100, deadline=None)
def test_no_body_stops_the_intake(body: dict[str, object], *, is_kyc: bool) -> None:
    """Whatever JSON a body holds, it is judged or quarantined: nothing else ever comes out of the intake."""
    raw = msgspec.json.encode(body)
    kind = "kyc-registration" if is_kyc else "kyb-service"
    delivery = Door().delivery(raw, source_kind=kind)
    reason = None
    try:
        intake(IntakeState(), delivery, POLICIES["acme"], nothing_aside())
    except QuarantineError as error:
        reason = error.reason
    assert reason in {None, "no_entity", "entity_mismatch"}


@pytest.mark.parametrize("depth", [98, 99, 100, 900, 990, 996, 997, 1000, 5000])
def test_nesting_is_judged_alike_wherever_it_is_read(depth: int) -> None:
    """A body is either too deep or processed: never read here and a crash a line later."""
    raw = b'{"userNo": "u", "firstName": ' + b"[" * depth + b"]" * depth + b"}"
    door = Door()
    told = run_intake([door.record(door.delivery(raw))])
    assert [delivery.reason for delivery in told.deliveries] == [None if depth < 100 else "not_json"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("firstName", rb'"ABC\ud83d"'),
        ("firstName", b'"M\xfcller"'),
        ("address", b'"two\nlines"'),
        ("score", b"1e999"),
        ("kycFailJson", rb'"[\"FORGERY\ud83d"'),
        ("merchantNo", b"NaN"),
        ("remark", rb'{"a": ["\ude00"]}'),
    ],
)
def test_a_result_with_an_unreadable_value_reaches_its_case(field: str, value: bytes) -> None:
    """A permanent rejection may never come again: it counts, with a violation that names the field, and its bytes stay."""
    door = Door()
    raw = msgspec.json.encode(kyc_body(kycStatus=2, **{field: "MARK"})).replace(b'"MARK"', value)
    delivery = door.delivery(raw, case_token=make_case_token(SERVICE_ID, TOKEN_KEY))
    told = run_intake([door.record(delivery)])
    assert (told.dead_letters, delivery.body) == ([], raw)
    (event,) = told.events
    assert (event.status, event.case_id) == ("permanent_rejection", SERVICE_ID)
    assert f"unreadable:{field}" in event.violations
    assert "unreadable" not in str([each for each in event.violations if field not in each])
    assert told.deliveries[0].violations == event.violations
    assert [case.kyc_status for case in told.cases().values()] == ["permanent_rejection"]


def test_an_entity_that_the_ingress_could_not_read_says_what_to_do() -> None:
    """As after an upgrade of the worker before the ingress: quarantined with the way out, and right under its right key."""
    door = Door()
    raw = msgspec.json.encode(kyb_body())
    told = run_intake([door.record(door.delivery(raw, entity_key=None))])
    assert "--rekey" in (told.dead_letters[0].detail or "")

"""What links, withdrawals and tokens make a person's entry grow by has a bound, and what is said again costs nothing."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ingress.link_requests import InvalidLinkError, NotJsonError, link_request, read_link_request
from kybstream.ids import to_micros
from kybstream.privacy import make_case_token
from schemas.codec import encode
from schemas.links import make_link, make_withdrawal
from schemas.providers.body import JsonObject
from schemas.providers.identity import identify, is_case_id
from schemas.records import Case, Link, LinkWithdrawal
from schemas.topics import case_key
from streams.batching.records import Record as KafkaRecord
from streams.expiring import IntakeRemains
from streams.flood import EVENT_FLOOD
from streams.intake_state import MOVES_KEPT, PARKED_KEPT
from streams.linking import CASES_NAMED, PROVISIONAL_PREFIX
from streams.links import what_is_wrong
from streams.processing import CasesProcess, IntakeProcess
from tests.streams.pipeline import (
    CASE,
    NAMES,
    POLICIES,
    PROVISIONAL,
    PSEUDONYMISER,
    SERVICE_ID,
    START,
    SUBJECT,
    TOKEN_KEY,
    DictState,
    Door,
    Told,
    as_record,
    kyb_body,
    kyc_body,
    link_record,
    run_cases,
    run_intake,
)

STATE_BYTES = 512 * 1024
CASE_BYTES = 256 * 1024
SECOND = timedelta(seconds=1)
DAY = timedelta(days=1)


_PARTS = st.sampled_from(["!", "kyc:", "kyc", " ", "\n", "\x00", "\x85", "c" * 255, "\u516c" * 200, chr(0x1F600) * 510, "a"])
CASE_IDS = st.text(max_size=5) | st.lists(_PARTS, max_size=4).map("".join)


@given(CASE_IDS)
@example("\u516c\u53f8" * 100)
@example(chr(0x1F600) * 512)
@example(" a\n")
def test_every_case_of_a_webhook_can_be_linked(service_id: str) -> None:
    """And a case that no webhook can have is refused everywhere: by the API, the command, the worker, and as a token."""
    identity = identify("kyb-service", {"service_id": service_id}, PSEUDONYMISER)
    asked: JsonObject = {"case_id": service_id, "subject": SUBJECT}
    if identity is None:
        with pytest.raises(InvalidLinkError):
            link_request(asked)
        assert what_is_wrong(link(0, service_id)) is not None
        assert what_is_wrong(withdrawal(0, service_id)) is not None
    else:
        assert identity.entity == service_id == link_request(asked).case_id
        assert what_is_wrong(link(0, service_id)) is None
        assert what_is_wrong(withdrawal(0, service_id)) is None


@given(CASE_IDS, st.none() | st.integers(1, 10_000))
@example("\u516c\u53f8" * 100, None)
@settings(max_examples=50, deadline=None)
def test_what_the_api_takes_the_worker_takes(case_id: str, expected: int | None) -> None:
    """By HTTP or by the command: never a dead letter, and the case has the person."""
    said = {"case_id": case_id, "subject": SUBJECT} | ({} if expected is None else {"expected_subjects": expected})
    try:
        asked = read_link_request(json.dumps(said).encode())
    except (InvalidLinkError, NotJsonError):
        return
    door = Door()
    kyb = msgspec.json.encode(kyb_body(service_id=case_id))
    told, _ = run(
        [
            link_record(link(0, asked.case_id, asked.expected_subjects)),
            door.record(door.delivery(kyb)),
            door.record(door.delivery(kyc_body())),
            link_record(withdrawal(1, asked.case_id)),
        ]
    )
    assert not told.dead_letters
    assert f"acme/{case_id}" in told.cases()


@given(st.from_regex(r"[A-Za-z0-9_.~-]{1,38}", fullmatch=True))
def test_every_case_that_a_token_names_is_one(case_ref: str) -> None:
    """A token's characters make no other kind of case."""
    assert make_case_token(case_ref, TOKEN_KEY)
    assert is_case_id(case_ref)


def link(number: int, case_id: str = SERVICE_ID, expected: int | None = None) -> Link:
    """A link of the one person, registered so many seconds after the start."""
    return make_link("acme", case_id, SUBJECT, expected_subjects=expected, registered_at=START + number * SECOND)


def withdrawal(number: int, case_id: str = SERVICE_ID) -> LinkWithdrawal:
    """Its withdrawal."""
    return make_withdrawal("acme", case_id, SUBJECT, withdrawn_at=START + number * SECOND)


def run(records: list[KafkaRecord]) -> tuple[Told, list[int]]:
    """All that was told, and after each record the size of the person's entry."""
    process, state, told, sizes = IntakeProcess(POLICIES, NAMES), DictState(), Told(), []
    for record in records:
        result = process(0, [record], state)
        state.write(result.writes)
        told.outputs += result.outputs
        sizes.append(max((len(value) for value in state.values.values()), default=0))
    return told, sizes


def ended(told: Told, key: str) -> Case:
    """The last snapshot of a case, without what tells how often it changed."""
    return msgspec.structs.replace(told.cases()[key], version=0, updated_at=START, placements=())


def test_a_link_that_is_registered_again_and_again_is_one_claim() -> None:
    """A thousand times: the entry does not grow, the newest registration counts against a withdrawal, in whatever order."""
    door = Door()
    callback = door.record(door.delivery(kyc_body()))
    again = [link_record(link(number)) for number in range(1_000)]
    told, sizes = run([callback, *again])
    assert sizes[-1] - sizes[1] < 32
    assert len(told.outputs) < 1_010
    assert told.cases()[CASE].version == 1_001
    assert ended(told, CASE).subjects[0].attempts == 1

    early, late = link_record(withdrawal(500)), link_record(withdrawal(2_000))
    stays = ended(run([callback, *again, early])[0], CASE)
    assert (len(stays.subjects), stays.anomalies) == (1, ("event_flood",))
    assert ended(run([early, *reversed(again), callback])[0], CASE).subjects == stays.subjects
    gone = ended(run([callback, *again, late])[0], CASE)
    assert (gone.subjects, gone.kyc_status) == ((), "none")
    assert ended(run([late, *reversed(again), callback])[0], CASE).subjects == ()


def test_a_person_of_more_cases_than_are_kept_is_ambiguous() -> None:
    """Named by links or by tokens for 200 cases, in whatever order: nothing is guessed, and the entry is small."""
    door = Door()
    links = [link_record(link(number, f"case-{number:03}")) for number in range(200)]
    tokens = [
        door.record(door.delivery(kyc_body(remark=f"{number}"), case_token=make_case_token(f"case-{number:03}", TOKEN_KEY)))
        for number in range(CASES_NAMED + 10)
    ]
    for records in (links, list(reversed(links)), tokens):
        told, sizes = run([*records, door.record(door.delivery(kyc_body(kycStatus=3)))])
        assert told.events[-1].placement == "ambiguous"
        assert told.events[-1].case_id == PROVISIONAL_PREFIX + SUBJECT
        assert max(sizes) < (16 if records is tokens else 6) * 1024
    told, _ = run([*links, *[link_record(withdrawal(300, f"case-{number:03}")) for number in range(200)]])
    assert {case.kyc_status for case in told.cases().values()} == {"none"}


def test_a_link_that_comes_and_goes_moves_results_a_number_of_times() -> None:
    """Three results, a hundred times registered and withdrawn: no result is lost or counts twice, and the entry is small."""
    door = Door()
    records = [door.record(door.delivery(kyc_body(kycStatus=status))) for status in (1, 2, 3)]
    for number in range(100):
        records += [link_record(link(2 * number)), link_record(withdrawal(2 * number + 1))]
    told, sizes = run(records)
    cases = [case for case in told.cases().values() if case.outcome != "merged"]
    assert sum(subject.attempts for case in cases for subject in case.subjects) == 3
    assert sum(len(event.moved_events) for event in told.case_events if event.kind == "merge") <= MOVES_KEPT
    assert max(sizes) < 64 * 1024
    assert PROVISIONAL in told.cases()


def test_the_worst_entry_of_a_person_is_within_its_size() -> None:
    """Ids and codes as long as can be, as many cases, callbacks, moves and withdrawals as are kept."""
    door = Door()
    wide = chr(0x1F600)
    records = [
        door.record(door.delivery(kyc_body(kycType=wide * 32, kycLevel=wide * 32, kycStatus=wide * 32, remark=str(number))))
        for number in range(PARKED_KEPT + 40)
    ]
    for number in range(300):
        case_id = f"{number % 40:03}" + wide * 509
        records += [link_record(link(2 * number, case_id)), link_record(withdrawal(2 * number + 1, case_id))]
    told, sizes = run(records)
    assert max(sizes) < STATE_BYTES
    assert not told.dead_letters
    process, state = CasesProcess(POLICIES, NAMES), DictState()
    for event in told.case_events:
        result = process(0, [as_record(NAMES.case_events, case_key(event.tenant, event.case_id), encode(event))], state)
        assert not result.dead
        state.write(result.writes)
    assert max(map(len, state.values.values())) < CASE_BYTES


@pytest.mark.parametrize(("days", "every"), [(1, 900), (0.01, 60), (10, 20_000), (1, 100_000)])
def test_a_short_deadline_makes_no_room_for_more_callbacks_that_links_move(days: float, every: int) -> None:
    """However soon those that nobody linked are let go: the provisional case is small, and counts all of them exactly."""
    policies = {"acme": replace(POLICIES["acme"], deadline=timedelta(days=days))}
    door, told, state = Door(), Told(), DictState()
    process = IntakeProcess(policies, NAMES)
    for number in range(200):
        body = kyc_body(kycStatus=3, remark=str(number))
        result = process(0, [door.record(door.delivery(body, after=number * every * SECOND))], state)
        state.write(result.writes)
        told.outputs += result.outputs
    flooded = [event for event in told.case_events if EVENT_FLOOD in event.anomalies]
    assert len(flooded) == 200 - PARKED_KEPT
    events = [output for output in told.outputs if output.topic == NAMES.case_events]
    cases, orders = CasesProcess(policies, NAMES), (events, list(reversed(events)))
    for order in orders:
        kept = DictState()
        for output in order:
            kept.write(cases(0, [as_record(output.topic, output.key, output.value)], kept).writes)
        assert max(map(len, kept.values.values())) < 16 * 1024
    first, last = (run_cases(order, policies)[-1] for order in orders)
    assert first == last
    assert (first.version, first.subjects[0].attempts, first.resubmissions) == (200, 200, 199)


@given(pauses=st.lists(st.sampled_from([0, 1, 30, 100]), min_size=4, max_size=16))
@settings(max_examples=40, deadline=None)
def test_when_callbacks_are_let_go_makes_no_difference(pauses: list[int]) -> None:
    """Swept before each callback or never, the intake says the same, byte for byte."""
    door, remains, said = Door(), IntakeRemains(POLICIES), []
    days = [sum(pauses[: number + 1]) for number in range(len(pauses))]
    records = [door.record(door.delivery(kyc_body(remark=str(day), name=door.drawn), after=day * DAY)) for day in days]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("streams.intake_state.PARKED_KEPT", 3)
        for sweeps in (False, True):
            process, state, told = IntakeProcess(POLICIES, NAMES), DictState(), Told()
            for day, record in zip(days, records, strict=True):
                now = to_micros(START + day * DAY)
                left = {key: remains(key, value, now) for key, value in state.values.items()}
                state.write(left if sweeps else {})
                result = process(0, [record], state)
                state.write(result.writes)
                told.outputs += result.outputs
            said.append(told)
    assert said[0].outputs == said[1].outputs
    assert [EVENT_FLOOD in event.anomalies for event in said[0].case_events] == [False] * 3 + [True] * (len(days) - 3)


@pytest.mark.parametrize(
    ("changes", "detail"),
    [
        ({"case_id": "x" * 513}, "longer than 512 characters"),
        ({"case_id": "\u516c" * 513}, "longer than 512 characters"),
        ({"case_id": " "}, "none of the KYB provider's"),
        ({"case_id": "!x"}, "none of the KYB provider's"),
        ({"case_id": ""}, "none of the KYB provider's"),
        ({"case_id": "kyc:v1.somebody"}, "none of the KYB provider's"),
        ({"registered_at": datetime(9999, 12, 31, tzinfo=UTC)}, "between 2000 and 2200"),
        ({"registered_at": datetime(1, 1, 1, tzinfo=UTC)}, "between 2000 and 2200"),
        ({"expected_subjects": -1}, "below 0"),
    ],
)
def test_a_link_that_no_table_can_hold_is_a_dead_letter(changes: dict[str, object], detail: str) -> None:
    """Whoever wrote it to the topic: its neighbours go on, and no case hears of it."""
    door = Door()
    wrong = msgspec.structs.replace(link(0), **changes)
    told = run_intake([link_record(wrong), door.record(door.delivery(kyb_body()))])
    assert [(letter.stage, letter.reason) for letter in told.dead_letters] == [("links", "invalid_link")]
    assert detail in (told.dead_letters[0].detail or "")
    assert list(told.cases()) == [CASE]

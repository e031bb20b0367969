from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta

import msgspec
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from schemas.links import make_link, make_withdrawal
from schemas.records import Case, CaseEvent, Link, LinkWithdrawal
from streams.batching.records import Record as KafkaRecord
from tests.streams.pipeline import (
    CASE,
    OTHER_CASE,
    OTHER_SERVICE_ID,
    OTHER_TOKEN,
    PROVISIONAL,
    SERVICE_ID,
    START,
    SUBJECT,
    TOKEN,
    Door,
    Told,
    kyb_body,
    kyc_body,
    link_record,
    run_intake,
    subject_of,
)

TOKENS = [None, None, TOKEN, OTHER_TOKEN]
HOUR = timedelta(hours=1)
RESOLVED = kyb_body(type="service_resolved", status="resolved")
CALLBACK = kyc_body()

Body = dict[str, object]
Step = Link | LinkWithdrawal | Body | tuple[Body, str]


def link(hour: int, case_id: str = SERVICE_ID, *, expected: int | None = None) -> Link:
    """A link of the one person of these tests, registered at an hour."""
    return make_link("acme", case_id, SUBJECT, expected_subjects=expected, registered_at=START + hour * HOUR)


def withdrawal(hour: int, case_id: str = SERVICE_ID) -> LinkWithdrawal:
    """Its withdrawal at an hour."""
    return make_withdrawal("acme", case_id, SUBJECT, withdrawn_at=START + hour * HOUR)


def run(*steps: Step) -> Told:
    """Links, withdrawals, bodies, and bodies with a path token; bodies are received an hour apart."""
    door = Door()
    told = run_intake([record_of(step, door, number) for number, step in enumerate(steps)])
    said: dict[tuple[str, str], CaseEvent] = {}
    for event in told.case_events:
        # Who knows an event by its id may drop it: it must not say anything else the second time.
        assert said.setdefault((event.case_id, event.event_id), event) == event
    return told


def record_of(step: Step, door: Door, hour: int) -> KafkaRecord:
    """The record that a step is."""
    if isinstance(step, Link | LinkWithdrawal):
        return link_record(step)
    body, token = step if isinstance(step, tuple) else (step, None)
    return door.record(door.delivery(body, after=hour * HOUR, case_token=token))


def persons(case: Case) -> dict[str, tuple[str, int]]:
    """Status and number of results of each person on a case."""
    return {subject.subject: (subject.status, subject.attempts) for subject in case.subjects}


def test_a_case_does_not_wait_any_more_for_a_withdrawn_person() -> None:
    """KYB is resolved and nobody is expected: completed, as if the link had never been; the anomaly tells that one was."""
    case = run(link(0, expected=3), RESOLVED, withdrawal(2)).cases()[CASE]
    assert (case.kyc_status, case.outcome, case.expected_subjects, case.linked_at) == ("none", "completed", None, None)
    assert (persons(case), case.anomalies, case.version) == ({}, ("link_withdrawn",), 3)


def test_a_result_that_a_wrong_link_brought_leaves_the_case_again() -> None:
    """Whether link or callback came first: it goes back to the provisional case, and the right link moves it on."""
    orders: list[list[Step]] = [[link(0), CALLBACK], [CALLBACK, link(0)]]
    for wrong in orders:
        cases = run(RESOLVED, *wrong, withdrawal(5)).cases()
        assert (persons(cases[CASE]), cases[CASE].match_state, cases[CASE].outcome) == ({}, "kyb_only", "completed")
        assert (persons(cases[PROVISIONAL]), cases[PROVISIONAL].outcome) == ({SUBJECT: ("success", 1)}, "open")
        assert cases[PROVISIONAL].anomalies == ("link_withdrawn",)

        righted = run(RESOLVED, *wrong, withdrawal(5), link(6, OTHER_SERVICE_ID)).cases()
        assert persons(righted[CASE]) == {}
        assert persons(righted[OTHER_CASE]) == {SUBJECT: ("success", 1)}
        assert (righted[PROVISIONAL].outcome, righted[PROVISIONAL].merged_into) == ("merged", OTHER_SERVICE_ID)


def test_after_a_withdrawal_callbacks_are_placed_without_the_link() -> None:
    """The next one without a token is unlinked; one with a token goes where the token says."""
    told = run(link(0), withdrawal(1), CALLBACK, (kyc_body(kycStatus=3), OTHER_TOKEN))
    assert [(event.placement, event.case_id) for event in told.events] == [
        ("unlinked", f"kyc:{SUBJECT}"),
        ("path_token", OTHER_SERVICE_ID),
    ]


def test_a_link_that_is_registered_again_counts_again() -> None:
    """The result comes back to the case, nothing is left of the withdrawal, and the provisional case ends once more."""
    cases = run(RESOLVED, link(0), CALLBACK, withdrawal(5), link(6)).cases()
    assert (persons(cases[CASE]), cases[CASE].outcome, cases[CASE].anomalies) == ({SUBJECT: ("success", 1)}, "completed", ())
    assert (cases[PROVISIONAL].outcome, cases[PROVISIONAL].merged_into) == ("merged", SERVICE_ID)
    waited = run(CALLBACK, link(0), withdrawal(5), link(6)).cases()
    assert (waited[PROVISIONAL].outcome, persons(waited[CASE])) == ("merged", {SUBJECT: ("success", 1)})
    again = run(RESOLVED, link(0), CALLBACK, withdrawal(5), link(6), withdrawal(7)).cases()
    assert persons(again[CASE]) == {}
    assert (again[PROVISIONAL].outcome, persons(again[PROVISIONAL])) == ("open", {SUBJECT: ("success", 1)})


def test_an_ambiguity_ends_when_all_but_one_link_are_withdrawn() -> None:
    """What waited because of it goes to the case that is left, and so does what the withdrawn link had taken."""
    told = run(link(0), kyc_body(kycStatus=3), link(1, OTHER_SERVICE_ID), CALLBACK, withdrawal(5))
    assert [event.placement for event in told.events] == ["registered", "ambiguous"]
    cases = told.cases()
    assert persons(cases[CASE]) == {}
    assert persons(cases[OTHER_CASE]) == {SUBJECT: ("success", 2)}
    assert (cases[PROVISIONAL].outcome, cases[PROVISIONAL].merged_into) == ("merged", OTHER_SERVICE_ID)

    other_way = run(
        link(0), kyc_body(kycStatus=3), link(1, OTHER_SERVICE_ID), CALLBACK, withdrawal(5, OTHER_SERVICE_ID)
    ).cases()
    assert persons(other_way[CASE]) == {SUBJECT: ("success", 2)}
    assert persons(other_way[OTHER_CASE]) == {}


def test_a_token_for_the_same_case_keeps_the_person_there() -> None:
    """Only the registration is taken back: what the token said stands, and its results stay."""
    case = run(link(0), CALLBACK, (kyc_body(kycStatus=3), TOKEN), withdrawal(5)).cases()[CASE]
    assert (persons(case), case.anomalies) == ({SUBJECT: ("success", 2)}, ("kyc_regression",))
    steps = link(0), CALLBACK, (kyc_body(kycStatus=3), TOKEN), link(1, OTHER_SERVICE_ID), withdrawal(5)
    cases = run(*steps).cases()
    assert (persons(cases[CASE]), persons(cases[OTHER_CASE])) == ({SUBJECT: ("success", 2)}, {SUBJECT: ("pending", 0)})


def test_a_later_token_brings_back_what_a_withdrawal_took() -> None:
    """The result went back to the provisional case, and returns by another rule: the case has it once."""
    cases = run(link(0), CALLBACK, withdrawal(5), (kyc_body(kycStatus=3), TOKEN)).cases()
    assert persons(cases[CASE]) == {SUBJECT: ("success", 2)}
    assert (cases[PROVISIONAL].outcome, cases[PROVISIONAL].merged_into) == ("merged", SERVICE_ID)


def test_a_token_that_the_link_had_silenced_is_heard() -> None:
    """A callback whose own token names another case goes there, and takes along those that named none."""
    cases = run(link(0), (CALLBACK, OTHER_TOKEN), kyc_body(kycStatus=3), withdrawal(5)).cases()
    assert persons(cases[CASE]) == {}
    assert persons(cases[OTHER_CASE]) == {SUBJECT: ("success", 2)}
    assert cases[PROVISIONAL].merged_into == OTHER_SERVICE_ID


def test_a_callback_that_contradicts_itself_is_a_conflict_again() -> None:
    """The link had settled it; without the link nobody has."""
    cases = run(link(0), (kyc_body(remark=OTHER_TOKEN), TOKEN), withdrawal(5)).cases()
    assert cases[PROVISIONAL].match_state == "conflict"
    assert persons(cases[CASE]) == {}


def test_a_withdrawal_concerns_one_person_of_a_case() -> None:
    """Another person who is registered for the same case stays."""
    other = kyc_body(userNo="b" * 32)
    also = make_link("acme", SERVICE_ID, subject_of(other), expected_subjects=None, registered_at=START)
    case = run(link(0), also, CALLBACK, other, withdrawal(5)).cases()[CASE]
    assert persons(case) == {subject_of(other): ("success", 1)}


def test_withdrawing_what_nobody_registered_tells_nobody() -> None:
    """A mistyped case does not come into being; the time of a later registration decides whether it counts."""
    assert run(withdrawal(5)).outputs == []
    assert persons(run(withdrawal(5), link(0), CALLBACK).cases()[CASE]) == {}
    assert persons(run(withdrawal(5), link(6), CALLBACK).cases()[CASE]) == {SUBJECT: ("success", 1)}


def test_a_result_is_taken_back_however_long_ago_it_came() -> None:
    """A year after the callback, and after others, the wrong case still lets it go."""
    late = Door()
    late.drawn = 50
    records = [link_record(link(0)), late.record(late.delivery(CALLBACK))]
    records.append(late.record(late.delivery(kyc_body(kycStatus=3), after=timedelta(days=365))))
    cases = run_intake([*records, link_record(withdrawal(366 * 24))]).cases()
    assert persons(cases[CASE]) == {}
    assert persons(cases[PROVISIONAL]) == {SUBJECT: ("success", 2)}


def in_force(statements: Iterable[Link | LinkWithdrawal]) -> set[str]:
    """Cases that the person is registered for, from the rule alone: no withdrawal is as new as the newest link."""
    said = list(statements)
    links = {(one.case_id, one.registered_at) for one in said if isinstance(one, Link)}
    taken = {(one.case_id, one.withdrawn_at) for one in said if isinstance(one, LinkWithdrawal)}
    return {case for case, at in links if not any(other == case and until >= at for other, until in taken)}


@given(data=st.data())
@settings(max_examples=150, deadline=None, phases=(Phase.explicit, Phase.reuse, Phase.generate))
def test_links_and_withdrawals_count_by_their_times_alone(data: st.DataObject) -> None:
    """Registered, withdrawn, registered again; read in any order, before and after callbacks, and twice.

    With one case left all results of the person are there, and with none on the provisional case. Each case of the KYB provider
    is as if what was withdrawn had never been said; only `version` and `updated_at` tell how often it changed.
    """
    cases = data.draw(st.sampled_from([(SERVICE_ID,), (SERVICE_ID, OTHER_SERVICE_ID)]))
    makers = st.tuples(st.booleans(), st.integers(0, 6), st.sampled_from(cases))
    drawn = data.draw(st.lists(makers, min_size=1, max_size=6))
    statements = [link(hour, case) if is_link else withdrawal(hour, case) for is_link, hour, case in drawn]
    callbacks: list[Step] = [
        kyc_body(kycStatus=status) for status in data.draw(st.lists(st.sampled_from([1, 2, 3]), max_size=3, unique=True))
    ]
    door = Door()
    deliveries = [record_of(step, door, 10 + number) for number, step in enumerate([RESOLVED, *callbacks])]

    standing = in_force(statements)
    if len(standing) > 1:
        return
    first = ended([*deliveries, *map(link_record, statements)])
    log = data.draw(
        st.permutations([*deliveries, *map(link_record, statements), link_record(data.draw(st.sampled_from(statements)))])
    )
    then = ended(log)
    assert {key: case for key, case in then.items() if key != PROVISIONAL} == {
        key: case for key, case in first.items() if key != PROVISIONAL
    }
    home = f"acme/{next(iter(standing), f'kyc:{SUBJECT}')}"
    for ending in (first, then):
        assert {key: results_on(case) for key, case in ending.items() if results_on(case) and case.outcome != "merged"} == (
            {home: len(callbacks)} if callbacks else {}
        )


def results_on(case: Case) -> int:
    """How many results a case has."""
    return sum(subject.attempts for subject in case.subjects)


def ended(log: Iterable[KafkaRecord]) -> dict[str, Case]:
    """Each case at the end, without what tells the way there."""
    return {
        key: msgspec.structs.replace(case, version=0, updated_at=START, placements=())
        for key, case in run_intake(log).cases().items()
    }


@given(data=st.data())
@settings(max_examples=150, deadline=None, phases=(Phase.explicit, Phase.reuse, Phase.generate))
def test_every_result_is_on_one_case(data: st.DataObject) -> None:
    """Whatever is registered, withdrawn and named by tokens, in whatever order: no result is lost, and none counts twice."""
    door, log, results = Door(), [], set()
    for number in range(data.draw(st.integers(1, 9))):
        case_id, hour = data.draw(st.sampled_from([SERVICE_ID, OTHER_SERVICE_ID])), data.draw(st.integers(0, 6))
        step = data.draw(st.sampled_from(["link", "withdrawal", "callback"]))
        if step == "callback":
            status = data.draw(st.sampled_from([1, 2, 3]))
            remark, token = data.draw(st.sampled_from(TOKENS)), data.draw(st.sampled_from(TOKENS))
            body = kyc_body(kycStatus=status, remark=remark)
            results.add((status, remark))
            log.append(record_of((body, token) if token else body, door, number))
        else:
            log.append(link_record(link(hour, case_id) if step == "link" else withdrawal(hour, case_id)))
    cases = run_intake(log).cases()
    assert sum(results_on(case) for case in cases.values() if case.outcome != "merged") == len(results)


def test_a_withdrawal_that_is_not_what_it_says_is_a_dead_letter() -> None:
    """Of a tenant that is not configured, or keyed by another person: kept, and nothing is withdrawn."""
    strange = make_withdrawal("initech", SERVICE_ID, SUBJECT, withdrawn_at=START + HOUR)
    mismatched = msgspec.structs.replace(link_record(withdrawal(1)), key=b"acme/v1.somebody-else")
    door = Door()
    told = run_intake([link_record(link(0)), link_record(strange), mismatched, door.record(door.delivery(CALLBACK))])
    assert [(letter.stage, letter.reason, letter.received_at) for letter in told.dead_letters] == [
        ("links", "unknown_tenant", START + HOUR),
        ("links", "key_mismatch", START + HOUR),
    ]
    assert persons(told.cases()[CASE]) == {SUBJECT: ("success", 1)}

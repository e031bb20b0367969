from __future__ import annotations

from datetime import timedelta

from kybstream.ids import derived_id
from kybstream.privacy import make_case_token
from schemas.records import Case, Link
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
)

HOUR = timedelta(hours=1)


def link(case_id: str = SERVICE_ID, *, after: timedelta = timedelta(0), expected: int | None = None) -> Link:
    """A registered link of the one person of these tests."""
    return Link(
        link_id=derived_id(case_id, SUBJECT, str(after), str(expected)),
        tenant="acme",
        case_id=case_id,
        subject=SUBJECT,
        expected_subjects=expected,
        registered_at=START + after,
    )


def run(*steps: Link | dict[str, object] | tuple[dict[str, object], str]) -> Told:
    """Links, bodies, and bodies with a path token, an hour apart."""
    door, records = Door(), []
    for number, step in enumerate(steps):
        if isinstance(step, Link):
            records.append(link_record(step))
        else:
            body, token = step if isinstance(step, tuple) else (step, None)
            records.append(door.record(door.delivery(body, after=number * HOUR, case_token=token)))
    return run_intake(records)


def placements(told: Told) -> list[tuple[str, str]]:
    """Where each event went, and by which rule."""
    return [(event.placement, event.case_id) for event in told.events]


RESOLVED = kyb_body(type="service_resolved", status="resolved")


def test_a_token_in_the_path_joins_the_callback_to_its_case() -> None:
    """KYB resolved and the KYC success that the path names complete the case; no provisional case appears."""
    told = run(RESOLVED, (kyc_body(), TOKEN))
    assert placements(told)[1] == ("path_token", SERVICE_ID)
    cases = told.cases()
    assert set(cases) == {CASE}
    assert (cases[CASE].match_state, cases[CASE].outcome) == ("matched", "completed")
    assert cases[CASE].closed_at == cases[CASE].linked_at == START + HOUR


def test_a_token_in_the_remark_joins_too() -> None:
    """The token may stand anywhere in the remark; the rule tells where it was found."""
    told = run(kyc_body(remark=f"order 17, {TOKEN}, thank you"))
    assert placements(told) == [("remark_token", SERVICE_ID)]
    assert told.cases()[CASE].match_state == "kyc_only"


def test_path_and_remark_that_agree_are_one_token() -> None:
    """The same case twice is no conflict; the path is named as the rule."""
    assert placements(run((kyc_body(remark=TOKEN), TOKEN))) == [("path_token", SERVICE_ID)]


def test_path_and_remark_that_disagree_are_a_conflict_never_a_guess() -> None:
    """The callback stays on a provisional case, neither case is told, and nothing is learned from it."""
    told = run((kyc_body(remark=OTHER_TOKEN), TOKEN), kyc_body(kycStatus=3))
    assert placements(told) == [("conflict", f"kyc:{SUBJECT}"), ("unlinked", f"kyc:{SUBJECT}")]
    assert {key: snapshot.match_state for key, snapshot in told.cases().items()} == {PROVISIONAL: "conflict"}


def test_a_callback_without_a_token_goes_where_an_earlier_one_of_the_subject_went() -> None:
    """A resubmission without a token is placed by the learned link."""
    told = run((kyc_body(kycStatus=3), TOKEN), kyc_body())
    assert placements(told) == [("path_token", SERVICE_ID), ("learned", SERVICE_ID)]
    assert told.cases()[CASE].resubmissions == 1


def test_a_subject_that_tokens_named_for_two_cases_is_ambiguous_without_a_token() -> None:
    """Each token counts for its own callback; the next without one could be of either, so it is of none."""
    told = run((kyc_body(kycStatus=3), TOKEN), (kyc_body(kycStatus=1), OTHER_TOKEN), kyc_body(kycStatus=2))
    assert [rule for rule, _ in placements(told)] == ["path_token", "path_token", "ambiguous"]
    assert told.cases()[PROVISIONAL].match_state == "ambiguous"


def test_an_unmatched_callback_is_told_at_once_on_a_case_of_its_own() -> None:
    """Nothing vanishes: the provisional case is kyc_only and open, and does not expect more than it has."""
    told = run(kyc_body())
    snapshot = told.cases()[PROVISIONAL]
    assert (snapshot.match_state, snapshot.outcome, snapshot.kyc_status) == ("kyc_only", "open", "success")


def test_an_unmatched_kyb_case_is_told_at_once() -> None:
    """KYB alone, resolved, with no KYC expected: kyb_only and completed; with a link it waits."""
    assert (run(RESOLVED).cases()[CASE].match_state, run(RESOLVED).cases()[CASE].outcome) == ("kyb_only", "completed")
    waiting = run(RESOLVED, link()).cases()[CASE]
    assert (waiting.match_state, waiting.outcome, waiting.kyc_status) == ("kyb_only", "open", "pending")


def test_a_link_registered_before_the_callback_places_it() -> None:
    """The case is opened by the link; the callback needs no token."""
    told = run(link(), kyc_body())
    assert placements(told) == [("registered", SERVICE_ID)]
    snapshot = told.cases()[CASE]
    assert (snapshot.opened_at, snapshot.opened_at_source) == (START, "link")


def test_a_late_link_takes_the_waiting_callbacks_along_and_ends_the_provisional_case() -> None:
    """Weeks later the case has the results at their own receipt; the provisional case is told a last time as merged."""
    told = run(kyc_body(kycStatus=3), kyc_body(kycStatus=1), RESOLVED, link(after=600 * HOUR))
    cases = told.cases()
    merged, case = cases[PROVISIONAL], cases[CASE]
    assert (merged.outcome, merged.merged_into, merged.closed_at, merged.version) == ("merged", SERVICE_ID, None, 3)
    assert (case.match_state, case.outcome, case.resubmissions) == ("matched", "completed", 1)
    assert (case.kyc_first_result_at, case.kyc_final_at, case.linked_at) == (START, START + HOUR, START + 600 * HOUR)
    # The case waited for nobody when its KYB half was resolved; the link came after.
    assert case.placements == ("registered",)


def test_the_same_link_again_adds_nothing() -> None:
    """A link that is told twice is one event of its case."""
    once, twice = run(kyc_body(), link()), run(kyc_body(), link(), link())
    assert once.cases() == twice.cases()


def test_a_duplicate_that_brings_a_token_links() -> None:
    """The same body comes again by a URL with a token: a duplicate delivery, and all the same a link for its event."""
    told = run(kyc_body(), (kyc_body(), TOKEN))
    assert [delivery.verdict for delivery in told.deliveries] == ["new", "duplicate"]
    cases = told.cases()
    assert (cases[PROVISIONAL].outcome, cases[PROVISIONAL].merged_into) == ("merged", SERVICE_ID)
    assert (cases[CASE].match_state, cases[CASE].kyc_status, cases[CASE].placements) == ("kyc_only", "success", ("path_token",))


def test_links_to_two_cases_are_ambiguous_and_move_nothing() -> None:
    """Whom two registrations claim belongs to neither; both cases go on waiting."""
    told = run(link(), link(OTHER_SERVICE_ID), kyc_body())
    assert placements(told) == [("ambiguous", f"kyc:{SUBJECT}")]
    cases = told.cases()
    assert {key: case.kyc_status for key, case in cases.items()} == {
        CASE: "pending",
        OTHER_CASE: "pending",
        PROVISIONAL: "success",
    }
    assert cases[PROVISIONAL].match_state == "ambiguous"


def test_a_registered_link_settles_a_conflict() -> None:
    """People decide: the callback whose tokens disagreed goes where the link says."""
    cases = run((kyc_body(remark=OTHER_TOKEN), TOKEN), link()).cases()
    assert (cases[PROVISIONAL].outcome, cases[CASE].kyc_status) == ("merged", "success")


def test_a_registered_link_settles_a_conflict_before_and_after_it() -> None:
    """The case is the same whether the link or the callback whose tokens disagree is read first."""
    callback = (kyc_body(remark=OTHER_TOKEN), TOKEN)
    before, after = run(link(), callback).cases(), run(callback, link()).cases()
    assert before[CASE].kyc_status == after[CASE].kyc_status == "success"
    assert after[PROVISIONAL].outcome == "merged"
    assert PROVISIONAL not in before


def test_two_links_to_different_cases_settle_nothing() -> None:
    """While two registrations disagree, a callback stays on a case of its own, whatever its tokens say."""
    cases = run(link(), link(OTHER_SERVICE_ID), (kyc_body(remark=OTHER_TOKEN), TOKEN)).cases()
    assert (cases[PROVISIONAL].match_state, cases[PROVISIONAL].outcome) == ("ambiguous", "open")
    assert cases[OTHER_CASE].kyc_status == "pending"


def test_a_token_does_not_settle_a_conflict() -> None:
    """A later token takes along what was unlinked, and leaves the callback whose tokens disagreed where it is."""
    steps = kyc_body(kycStatus=3), (kyc_body(remark=OTHER_TOKEN), TOKEN), (kyc_body(kycStatus=2), TOKEN)
    cases = run(*steps).cases()
    assert (cases[PROVISIONAL].match_state, cases[PROVISIONAL].outcome) == ("conflict", "open")
    assert [(subject.status, subject.attempts) for subject in cases[PROVISIONAL].subjects] == [("success", 1)]
    assert [(subject.status, subject.attempts) for subject in cases[CASE].subjects] == [("permanent_rejection", 2)]


def test_a_token_that_disagrees_with_the_registered_link_is_flagged_and_not_followed() -> None:
    """The registration decides; the case says so, and the token's case does not wait for anybody."""
    cases = run(link(), (kyc_body(), OTHER_TOKEN)).cases()
    assert set(cases) == {CASE}
    assert cases[CASE].anomalies == ("token_disagrees_with_link",)


def test_an_invalid_token_is_a_violation_and_links_nothing() -> None:
    """Forged, cut off, or of a key that is not ours: noted where it was, and otherwise as if it were not there."""
    forged = TOKEN[:-1] + ("A" if TOKEN[-1] != "A" else "B")
    told = run((kyc_body(remark=f"{forged} and {TOKEN[:-1]}"), "no token at all"))
    assert placements(told) == [("unlinked", f"kyc:{SUBJECT}")]
    for record in (told.events[0], told.deliveries[0]):
        assert {"invalid:case_token", "invalid:remark"} < set(record.violations)


def test_tokens_of_every_configured_key_are_accepted() -> None:
    """While keys are being rotated, the older key's tokens still link."""
    assert placements(run((kyc_body(), make_case_token(SERVICE_ID, b"older-token-key-acme")))) == [("path_token", SERVICE_ID)]


def test_a_case_waits_for_as_many_subjects_as_were_registered() -> None:
    """Two expected, one succeeded: pending; a third too many is an anomaly."""
    first: Case = run(RESOLVED, link(expected=2), kyc_body()).cases()[CASE]
    assert (first.kyc_status, first.outcome, first.expected_subjects) == ("pending", "open", 2)
    both = run(RESOLVED, link(expected=2), kyc_body(), (kyc_body(userNo="b" * 32), TOKEN)).cases()[CASE]
    assert (both.kyc_status, both.outcome) == ("success", "completed")
    surplus = run(RESOLVED, link(expected=1), kyc_body(), (kyc_body(userNo="b" * 32), TOKEN)).cases()[CASE]
    assert "more_subjects_than_expected" in surplus.anomalies

from __future__ import annotations

import pytest

from kybstream.simulator.expected import KybFact, KybStatus, KycFact, KycStatus, kyb_status, kyc_status, match_state, outcome
from kybstream.simulator.kyc_bodies import KycStatusCode
from kybstream.simulator.planned import MatchState, Outcome

ASKED = KybFact("service_initiated", ("questionnaire", "kyc"))
ANSWERED = KybFact("service_resolved", ("questionnaire", "kyb_check"))
KYC_ANSWERED = KybFact("service_resolved", ("kyc",))
BOUGHT = KybFact("document_purchase_request", ("documents",))
ALERT = KybFact("ongoing_aml_webhook", ("kyb_check",))


@pytest.mark.parametrize(
    ("facts", "status"),
    [
        ([], "none"),
        ([ASKED], "pending"),
        ([ASKED, ANSWERED], "pending"),
        ([ASKED, ANSWERED, KYC_ANSWERED], "resolved"),
        ([ANSWERED, KYC_ANSWERED, ASKED], "resolved"),
        ([ASKED, ANSWERED, KYC_ANSWERED, ASKED], "pending"),
        ([ASKED, ANSWERED, KYC_ANSWERED, ASKED, ANSWERED, KYC_ANSWERED], "resolved"),
        ([BOUGHT], "resolved"),
        ([ALERT], "pending"),
        ([ANSWERED, ALERT], "resolved"),
    ],
)
def test_kyb_is_resolved_when_every_service_asked_for_is_answered(facts: list[KybFact], status: KybStatus) -> None:
    """An answer may overtake its only initiation; a second initiation asks anew; an alert answers nothing."""
    assert kyb_status(facts) == status


@pytest.mark.parametrize(
    ("results", "expected_subjects", "status"),
    [
        ([], 0, "none"),
        ([], 1, "pending"),
        ([(1, 1)], 0, "success"),
        ([(1, 1)], 2, "pending"),
        ([(1, 3), (1, 1)], 1, "success"),
        ([(1, 3), (1, 2)], 1, "permanent_rejection"),
        ([(1, 1), (1, 3)], 1, "success"),
        ([(1, 1), (1, 2)], 1, "permanent_rejection"),
        ([(1, 1), (2, 3)], 3, "temporary_rejection"),
        ([(1, 1), (2, 3), (2, 1)], 2, "success"),
    ],
)
def test_kyc_is_as_good_as_its_worst_subject(
    results: list[tuple[int, KycStatusCode]], expected_subjects: int, status: KycStatus
) -> None:
    """The newest result of each counts, but a final one is not undone by a temporary rejection."""
    facts = [KycFact(subject, code) for subject, code in results]
    assert kyc_status(facts, expected_subjects=expected_subjects) == status


@pytest.mark.parametrize(
    ("kyb", "kyc", "result"),
    [
        ("resolved", "success", "completed"),
        ("resolved", "none", "completed"),
        ("resolved", "pending", "open"),
        ("pending", "success", "open"),
        ("none", "success", "open"),
        ("pending", "permanent_rejection", "rejected"),
        ("resolved", "temporary_rejection", "awaiting_resubmission"),
    ],
)
def test_the_outcome_follows_from_both_sides(kyb: KybStatus, kyc: KycStatus, result: Outcome) -> None:
    """A case is completed only with both halves, rejected with a permanent rejection alone."""
    assert outcome(kyb, kyc) == result


@pytest.mark.parametrize(("kyb", "kyc", "state"), [(1, 1, "matched"), (2, 0, "kyb_only"), (0, 1, "kyc_only")])
def test_the_match_state_says_which_halves_there_are(kyb: int, kyc: int, state: MatchState) -> None:
    """Both, or which one."""
    assert match_state(kyb, kyc) == state

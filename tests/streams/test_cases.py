from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from kybstream.ids import from_micros
from schemas.records import Case, CaseEvent
from streams.cases import CaseState, case, case_policy, expiry
from streams.facts import CasePolicy
from tests.streams.pipeline import SERVICE_ID, START, nothing_aside

DAY = timedelta(days=1)
POLICY = CasePolicy(deadline=90 * DAY)


def kyb(day: float, kind: str, *services: str, **fields: object) -> CaseEvent:
    """A KYB event of the case."""
    status = "pending" if kind == "service_initiated" else "resolved"
    values: dict[str, object] = {"type": kind, "status": status, "services": services or ("questionnaire",), **fields}
    return event(day, "kyb", **values)


def kyc(day: float, status: str, subject: str = "v1.anna", placement: str = "path_token") -> CaseEvent:
    """A KYC result of the case."""
    return event(day, "kyc", status=status, subject=subject, placement=placement, kyc_level="1", kyc_type="1")


def event(day: float, kind: str, **fields: object) -> CaseEvent:
    """An event of the case, `day` days after the start."""
    return CaseEvent(
        event_id=f"{kind}-{day}-{sorted(fields.items(), key=str)}",
        tenant="acme",
        case_id=SERVICE_ID,
        received_at=START + day * DAY,
        kind=kind,  # type: ignore[arg-type]  # one of the kinds
        **fields,  # type: ignore[arg-type]  # fields of the event
    )


def run(*events: CaseEvent, policy: CasePolicy = POLICY) -> tuple[CaseState, Case]:
    """State and snapshot after these events."""
    state, snapshot = None, None
    for one in events:
        state, snapshot = case(state, one, policy, nothing_aside())
    assert state is not None
    assert snapshot is not None
    return state, snapshot


def after(*events: CaseEvent) -> Case:
    """The snapshot after these events."""
    return run(*events)[1]


def at(day: float) -> datetime:
    """The time `day` days after the start."""
    return START + day * DAY


def test_a_second_initiation_after_the_resolution_reopens_until_it_is_resolved_again() -> None:
    """closed_at and kyb_resolved_at empty themselves, and come back with the second resolution."""
    first = kyb(0, "service_initiated"), kyb(1, "service_resolved")
    again = *first, kyb(2, "service_initiated")
    assert (after(*first).outcome, after(*first).closed_at, after(*first).kyb_resolved_at) == ("completed", at(1), at(1))
    assert (after(*again).outcome, after(*again).closed_at, after(*again).kyb_resolved_at) == ("open", None, None)
    assert after(*again).services[0].resolved_at is None
    done = after(*again, kyb(3, "service_resolved"))
    assert (done.outcome, done.closed_at, done.services[0].initiated_at, done.services[0].resolved_at) == (
        "completed",
        at(3),
        at(0),
        at(3),
    )


def test_the_only_initiation_after_the_resolution_is_disorder_and_changes_nothing() -> None:
    """The wire brought them in the wrong order: the service stays resolved."""
    late = after(kyb(0, "service_resolved"), kyb(1, "service_initiated"))
    assert (late.kyb_status, late.outcome, late.closed_at) == ("resolved", "completed", at(0))


def test_only_a_purchase_of_documents_is_resolved_by_its_own_type() -> None:
    """`document_purchase_request` resolves `documents` and no other service, and only with status resolved."""
    assert after(kyb(0, "document_purchase_request", "documents")).kyb_status == "resolved"
    assert after(kyb(0, "document_purchase_request", "documents", status="pending")).kyb_status == "pending"
    assert after(kyb(0, "document_purchase_request", "kyb_check")).kyb_status == "pending"


def test_kyb_waits_for_every_initiated_service_and_for_no_other() -> None:
    """Two initiated, one resolved: pending; a service that was only ever resolved does not keep the case waiting."""
    started = kyb(0, "service_initiated", "questionnaire", "kyc")
    assert after(started, kyb(1, "service_resolved", "kyc")).kyb_status == "pending"
    assert after(started, kyb(1, "service_resolved", "kyc", "questionnaire", "aml")).kyb_status == "resolved"


def test_an_ongoing_aml_alert_counts_and_changes_no_status() -> None:
    """It is the KYB half of a match, and nothing else."""
    alert = kyb(1, "ongoing_aml_webhook", "kyb_check")
    alone = after(alert)
    assert (alone.kyb_status, alone.aml_alerts, alone.outcome, alone.services) == ("none", 1, "open", ())
    assert after(alert, kyc(2, "success")).match_state == "matched"
    assert after(kyb(0, "service_resolved"), alert).closed_at == at(0)


@pytest.mark.parametrize(
    ("results", "status", "anomalies"),
    [
        (["temporary_rejection", "success"], "success", ()),
        (["success", "temporary_rejection"], "success", ("kyc_regression",)),
        (["permanent_rejection", "temporary_rejection"], "permanent_rejection", ("kyc_regression",)),
        (["success", "permanent_rejection"], "permanent_rejection", ("kyc_reversal",)),
        (["permanent_rejection", "success"], "success", ("kyc_reversal",)),
        (["success", "success"], "success", ()),
        (["9"], "pending", ("kyc_unknown_status",)),
        (["success", "9"], "success", ("kyc_unknown_status",)),
    ],
)
def test_a_final_result_is_never_overwritten_in_silence(results: list[str], status: str, anomalies: tuple[str, ...]) -> None:
    """A later 3 changes nothing and is flagged; 2 after 1 and 1 after 2 replace it and are flagged."""
    snapshot = after(*(kyc(day, result) for day, result in enumerate(results)))
    assert (snapshot.subjects[0].status, snapshot.anomalies) == (status, anomalies)
    assert snapshot.subjects[0].attempts == len(results)


def test_the_worst_subject_decides() -> None:
    """One director rejected is a rejected case, whatever the others are; a temporary rejection awaits resubmission."""
    resolved, good = kyb(0, "service_resolved"), kyc(1, "success", "v1.anna")
    temporary = after(resolved, good, kyc(2, "temporary_rejection", "v1.bert"))
    assert (temporary.kyc_status, temporary.outcome) == ("temporary_rejection", "awaiting_resubmission")
    rejected = after(resolved, good, kyc(2, "permanent_rejection", "v1.bert"))
    assert (rejected.kyc_status, rejected.outcome, rejected.closed_at) == ("permanent_rejection", "rejected", at(2))


def test_a_tenant_whose_cases_always_wait_for_kyc_completes_none_without_it() -> None:
    """The same events, other rules; a provisional case is not meant: it has no KYB half to complete."""
    always = case_policy(deadline=90 * DAY, kyc_always=True, case_id=SERVICE_ID)
    waiting = run(kyb(0, "service_resolved"), policy=always)[1]
    assert (waiting.kyc_status, waiting.outcome) == ("pending", "open")
    assert not case_policy(deadline=DAY, kyc_always=True, case_id="kyc:v1.anna").kyc_always


def test_a_case_expires_once_at_its_deadline() -> None:
    """Before the deadline nothing; at it one event, always the same; after it nothing more is due."""
    state, open_case = run(kyb(0, "service_initiated"))
    assert open_case.deadline_at == at(90)
    assert expiry(state, at(90) - timedelta(microseconds=1)) is None
    due = expiry(state, at(90))
    assert due is not None
    assert due == expiry(state, at(400))
    assert due.received_at == at(90)
    state, expired = run(kyb(0, "service_initiated"), due)
    assert (expired.outcome, expired.closed_at, expired.version) == ("expired", None, 2)
    assert expiry(state, at(400)) is None


def test_what_comes_after_the_expiry_still_closes_the_case() -> None:
    """The other half, months late: completed, and flagged."""
    state, _ = run(kyb(0, "service_initiated"))
    due = expiry(state, at(90))
    assert due is not None
    late = after(kyb(0, "service_initiated"), due, kyb(120, "service_resolved"))
    assert (late.outcome, late.closed_at, late.anomalies) == ("completed", at(120), ("closed_after_expiry",))


def test_an_expiry_that_a_closing_event_preceded_is_nothing() -> None:
    """The resolution was received in time and only read late: the fold sorts by receipt."""
    state, _ = run(kyb(0, "service_initiated"))
    due = expiry(state, at(90))
    assert due is not None
    assert after(kyb(0, "service_initiated"), due, kyb(80, "service_resolved")).outcome == "completed"


def test_an_expiry_of_a_closed_case_leaves_no_trace() -> None:
    """What was completed in time and is rejected later was never expired."""
    state, _ = run(kyb(0, "service_initiated"))
    due = expiry(state, at(90))
    assert due is not None
    resolved = kyb(0, "service_initiated"), kyb(80, "service_resolved")
    rejected = after(*resolved, due, kyc(100, "permanent_rejection"))
    assert (rejected.outcome, rejected.closed_at, rejected.anomalies) == ("rejected", at(100), ())


def test_a_case_that_reopens_has_a_new_deadline_from_its_reopening() -> None:
    """Not the old one, which may be long past; closed cases have none."""
    events = kyb(0, "service_initiated"), kyb(1, "service_resolved")
    closed, _ = run(*events)
    assert expiry(closed, at(1000)) is None
    state, reopened = run(*events, kyb(200, "service_initiated"))
    assert (reopened.outcome, reopened.deadline_at) == ("open", at(290))
    assert expiry(state, at(289)) is None
    due = expiry(state, at(290))
    assert due is not None
    assert after(*events, kyb(200, "service_initiated"), due).outcome == "expired"


def test_a_case_begins_with_the_earliest_that_is_known() -> None:
    """An initiation or a registered link says so; else a time embedded in the id, else the first receipt."""
    embedded = {"id_embedded_at": at(-30)}
    initiated, resolved = kyb(0, "service_initiated", **embedded), kyb(1, "service_resolved", **embedded)
    registered = event(-1, "link", placement="registered", subject="v1.anna")
    assert opening(initiated, resolved) == (at(0), "event")
    assert opening(initiated, registered) == (at(-1), "link")
    assert opening(resolved) == (at(-30), "id_embedded")
    assert opening(kyb(-2, "service_resolved", **embedded), initiated) == (at(-2), "first_receipt")
    assert opening(kyb(1, "service_resolved", id_embedded_at=at(1.5))) == (at(1), "first_receipt")
    assert opening(kyc(0, "success")) == (at(0), "first_receipt")


def test_an_embedded_time_does_not_let_a_case_expire() -> None:
    """It is never truth: the deadline counts from the first receipt."""
    snapshot = after(kyb(0, "service_resolved", "kyc", status="pending", id_embedded_at=at(-300)))
    assert (snapshot.opened_at, snapshot.deadline_at) == (at(-300), at(90))


def opening(*events: CaseEvent) -> tuple[datetime, str]:
    """When the case began, and what says so."""
    snapshot = after(*events)
    return snapshot.opened_at, snapshot.opened_at_source


def test_times_of_change_are_receipts() -> None:
    """First result, final result and last update are receipts of events, in UTC with microseconds."""
    snapshot = after(kyb(0, "service_initiated"), kyc(1, "temporary_rejection"), kyc(2, "success"), kyb(3, "service_resolved"))
    assert (snapshot.kyb_initiated_at, snapshot.kyc_first_result_at, snapshot.kyc_final_at) == (at(0), at(1), at(2))
    assert (snapshot.kyb_resolved_at, snapshot.closed_at, snapshot.updated_at) == (at(3), at(3), at(3))
    assert from_micros(0) < snapshot.opened_at

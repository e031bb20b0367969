"""Random histories of one case, for Hypothesis."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import get_args

import msgspec
from hypothesis import strategies as st

from schemas.records import CaseEvent, CaseEventKind

TENANT = "acme"
START = datetime(2026, 3, 1, 9, 0, tzinfo=UTC)
DEADLINE = timedelta(days=3)
_TARGETS = ("667ab56f0e4e6520880", "667c07eb4fca3a501e")
CASE_IDS = ("667ab56f0e4e6520880", "kyc:v1.subject")

_SUBJECTS = st.sampled_from([None, "v1.anna", "v1.bert", "v1.carl"])
_STATUSES = st.sampled_from(["success", "success", "permanent_rejection", "temporary_rejection", "9", None])
_PLACEMENTS = st.sampled_from(
    ["registered", "path_token", "remark_token", "learned", "unlinked", "conflict", "ambiguous", None]
)
_SERVICES = st.lists(st.sampled_from(["questionnaire", "kyc", "documents"]), max_size=2, unique=True).map(tuple)
_TYPES = st.sampled_from(
    [
        "service_initiated",
        "service_initiated",
        "service_resolved",
        "service_resolved",
        "document_purchase_request",
        "ongoing_aml_webhook",
        "unknown",
    ]
)
# Few distinct times make ties; days make deadlines pass.
_TIMES = st.builds(lambda days, seconds: START + timedelta(days=days, seconds=seconds), st.integers(0, 8), st.integers(0, 2))


@st.composite
def case_events(draw: st.DrawFn, case_id: str, event_id: str, known: list[str]) -> CaseEvent:
    """One event of any kind; merges and withdrawals name some of the `known` ids, a merge also one that never came."""
    kind = draw(st.sampled_from([*get_args(CaseEventKind), "kyb", "kyb", "kyb", "kyc", "kyc", "kyc", "link"]))
    fields: dict[str, object] = {}
    if kind == "kyb":
        fields = {
            "type": draw(_TYPES),
            "status": draw(st.sampled_from(["resolved", "resolved", "pending", None])),
            "services": draw(_SERVICES),
            "id_embedded_at": draw(st.none() | st.integers(-9, 9).map(lambda days: START + timedelta(days=days))),
            "anomalies": draw(st.sampled_from([(), ("link_service_id_mismatch",)])),
        }
    elif kind == "kyc":
        fields = {
            "subject": draw(_SUBJECTS),
            "status": draw(_STATUSES),
            "kyc_type": draw(st.sampled_from(["1", None])),
            "kyc_level": draw(st.sampled_from(["1", "2"])),
            "placement": draw(_PLACEMENTS),
        }
    elif kind == "link":
        fields = {
            "subject": draw(_SUBJECTS),
            "placement": draw(st.sampled_from(["registered", "path_token", "remark_token"])),
            "expected_subjects": draw(st.none() | st.integers(0, 3)),
            "moved_events": tuple(draw(st.lists(st.sampled_from(known), max_size=2, unique=True))),
        }
    elif kind == "merge":
        moved = draw(st.lists(st.sampled_from([*known, "never-came"]), min_size=1, max_size=4, unique=True))
        fields = {
            "subject": "v1.anna",
            "merged_into": draw(st.sampled_from(_TARGETS)),
            "moved_events": tuple(moved),
        }
    elif kind == "withdrawal":
        provisional = case_id.startswith("kyc:")
        fields = {
            "subject": "v1.anna" if provisional else draw(_SUBJECTS),
            "merged_into": draw(st.sampled_from(_TARGETS)) if provisional else None,
            "moved_events": tuple(draw(st.lists(st.sampled_from(known), max_size=4, unique=True))),
        }
    return CaseEvent(
        event_id=event_id,
        tenant=TENANT,
        case_id=case_id,
        received_at=draw(_TIMES),
        kind=kind,
        **fields,  # type: ignore[arg-type]  # as drawn above
    )


@st.composite
def histories(draw: st.DrawFn, max_size: int = 9) -> list[CaseEvent]:
    """Distinct events of one case, real or provisional; merges only where they can be, on a provisional case."""
    case_id = draw(st.sampled_from(CASE_IDS))
    ids = [f"e{number}" for number in range(draw(st.integers(1, max_size)))]
    events = [draw(case_events(case_id, event_id, ids)) for event_id in draw(st.permutations(ids))]
    results = {event.event_id for event in events if event.kind == "kyc"} | {"never-came"}
    kept: list[CaseEvent] = []
    for event in events:
        named = tuple(name for name in event.moved_events if name in results)
        if event.kind == "merge":
            if case_id.startswith("kyc:"):
                kept.append(msgspec.structs.replace(event, moved_events=named or ("never-came",)))
        else:
            kept.append(msgspec.structs.replace(event, moved_events=named))
    return kept or [CaseEvent(event_id="e0", tenant=TENANT, case_id=case_id, received_at=START, kind="other")]

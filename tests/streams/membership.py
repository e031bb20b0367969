"""What of the events told to a case belongs to it: links in force, results that moved, and their order. Part of the model."""

from __future__ import annotations

from collections.abc import Sequence

from schemas.records import CaseEvent


def precedence(event: CaseEvent) -> tuple[object, ...]:
    """What comes first: by receipt, then as cases.md argues, then by all that the event says, its id last."""
    kinds = ["link", "withdrawal", "kyb", "kyc", "merge", "other", "expiry"]
    ranks: dict[str | None, int] = {}
    if event.kind == "kyb":
        ranks = {"service_initiated": -1, "document_purchase_request": 1, "service_resolved": 2}
    if event.kind == "kyc":
        ranks = {"temporary_rejection": 1, "success": 2, "permanent_rejection": 3}
    return (
        event.received_at,
        kinds.index(event.kind),
        ranks.get(event.type if event.kind == "kyb" else event.status, 0),
        -1 if event.expected_subjects is None else event.expected_subjects,
        *(event.type or "", event.status or "", event.services, event.subject or "", event.kyc_level or ""),
        *(event.kyc_type or "", event.placement or ""),
        *(event.merged_into or "", event.anomalies, event.event_id),
    )


def is_here(event_id: str, everything: Sequence[CaseEvent]) -> bool:
    """Whether an event has come back as often as it has left."""
    naming = [event for event in everything if event_id in event.moved_events]
    left = [event for event in naming if event.kind == "merge" or (event.kind == "withdrawal" and event.merged_into is None)]
    return len(left) <= len(naming) - len(left)


def is_merged(everything: Sequence[CaseEvent]) -> bool:
    """Whether a merge took something away for good, and no result is left."""
    taken = [name for event in everything if event.kind == "merge" for name in event.moved_events]
    results = [event.event_id for event in everything if event.kind == "kyc"]
    return any(not is_here(name, everything) for name in taken) and not any(is_here(name, everything) for name in results)


def stands(event: CaseEvent, everything: Sequence[CaseEvent]) -> bool:
    """Whether the event counts: a link that was not withdrawn, a withdrawal that no link has overtaken, all else."""
    if event.kind == "link":
        return not is_withdrawn(event, everything)
    if event.kind == "withdrawal" and event.merged_into is None:
        links = [other for other in everything if other.kind == "link" and other.subject == event.subject]
        return all(is_withdrawn(other, everything) for other in links)
    return True


def is_withdrawn(link: CaseEvent, everything: Sequence[CaseEvent]) -> bool:
    """Whether a link was registered, and taken back at its time or later."""
    return link.placement == "registered" and any(
        other.kind == "withdrawal"
        and other.merged_into is None
        and other.subject == link.subject
        and other.received_at >= link.received_at
        for other in everything
    )

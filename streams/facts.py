"""What a case is folded from: its events in compact form, and the rules that are settings."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

import msgspec

from kybstream.ids import to_micros
from schemas.records import CaseEvent


@dataclass(frozen=True)
class CasePolicy:
    """The rules of a case that are settings: its deadline after opening, and whether it always waits for KYC."""

    deadline: timedelta
    kyc_always: bool = False


class Fact(msgspec.Struct, array_like=True, frozen=True):
    """An event of a case, as small as the fold allows. Times in microseconds since the epoch."""

    event_id: str
    at: int
    kind: str
    type: str | None = None
    status: str | None = None
    services: tuple[str, ...] = ()
    id_embedded_at: int | None = None
    subject: str | None = None
    kyc_type: str | None = None
    kyc_level: str | None = None
    placement: str | None = None
    expected_subjects: int | None = None
    merged_into: str | None = None
    moved_events: tuple[str, ...] = ()
    anomalies: tuple[str, ...] = ()

    @classmethod
    def of(cls, event: CaseEvent) -> Fact:
        """The fact that an event states."""
        return cls(
            event_id=event.event_id,
            at=to_micros(event.received_at),
            kind=event.kind,
            type=event.type,
            status=event.status,
            services=event.services,
            id_embedded_at=None if event.id_embedded_at is None else to_micros(event.id_embedded_at),
            subject=event.subject,
            kyc_type=event.kyc_type,
            kyc_level=event.kyc_level,
            placement=event.placement,
            expected_subjects=event.expected_subjects,
            merged_into=event.merged_into,
            moved_events=event.moved_events,
            anomalies=event.anomalies,
        )

"""What a case is folded from: its events in compact form, and the rules that are settings."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

import msgspec

from kybstream.ids import to_micros
from schemas.providers import kyb, kyc
from schemas.providers.fields import MAX_NAME_BYTES, MAX_UNDOCUMENTED_NAMES, TOTALS, cut_code
from schemas.records import CaseEvent

UNKNOWN = "unknown"
"""A status that the provider's document does not list."""

KEPT_CODE_BYTES = 32
"""Bytes of a level or type in a case, as many as the longest that the provider's document allows has characters."""
KEPT_SUBJECT_BYTES = 64
"""Bytes of a person's name in a case; a pseudonym has 29, and only a link that another program wrote can have more."""

_STATUSES = kyb.STATUSES | frozenset(kyc.STATUSES.values())


@dataclass(frozen=True)
class CasePolicy:
    """The rules of a case that are settings: its deadline after opening, and whether it always waits for KYC."""

    deadline: timedelta
    kyc_always: bool = False


class Fact(msgspec.Struct, array_like=True, frozen=True):
    """An event of a case: what the fold needs of it, and no text of which the fold needs no more than whether it is known.

    Times in microseconds since the epoch.
    """

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
            type=_type(event.type),
            status=_status(event.status),
            services=_services(event.services),
            id_embedded_at=None if event.id_embedded_at is None else to_micros(event.id_embedded_at),
            subject=_cut(event.subject, KEPT_SUBJECT_BYTES),
            kyc_type=_cut(event.kyc_type, KEPT_CODE_BYTES),
            kyc_level=_cut(event.kyc_level, KEPT_CODE_BYTES),
            placement=event.placement,
            expected_subjects=event.expected_subjects,
            merged_into=event.merged_into,
            moved_events=event.moved_events,
            anomalies=event.anomalies,
        )

    def bounded(self) -> Fact:
        """The fact as `of` makes it now: of a state that was written before it had a bound."""
        return msgspec.structs.replace(
            self,
            type=_type(self.type),
            status=_status(self.status),
            services=_services(self.services),
            subject=_cut(self.subject, KEPT_SUBJECT_BYTES),
            kyc_type=_cut(self.kyc_type, KEPT_CODE_BYTES),
            kyc_level=_cut(self.kyc_level, KEPT_CODE_BYTES),
        )


def _type(type_: str | None) -> str | None:
    return type_ if type_ is None or type_ in kyb.TYPES else kyb.UNTYPED


def _status(status: str | None) -> str | None:
    return status if status is None or status in _STATUSES else UNKNOWN


def _cut(text: str | None, size: int) -> str | None:
    return text if text is None else cut_code(text, size)


def _services(names: tuple[str, ...]) -> tuple[str, ...]:
    """Services as `schemas.providers` reads them: older events and states may have more, and longer ones."""
    if kyb.SERVICES.issuperset(names):
        return names
    found, room = [], MAX_UNDOCUMENTED_NAMES
    for name in names:
        if name in kyb.SERVICES:
            found.append(name)
        elif room:
            room -= 1
            found.append(f"({TOTALS})" if name == TOTALS else cut_code(name, MAX_NAME_BYTES))
    return tuple(dict.fromkeys(found))

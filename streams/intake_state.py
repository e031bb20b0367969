"""What the intake remembers of one entity key: events it has seen, and, of a KYC subject, where it belongs."""

from __future__ import annotations

from datetime import timedelta

import msgspec

from streams.linking import Claim

MICROSECOND = timedelta(microseconds=1)


class Occurrence(msgspec.Struct, array_like=True):
    """An event that one fingerprint stands for, within its window. Times in microseconds since the epoch."""

    delivery_id: str
    event_id: str
    first_at: int
    last_at: int
    case_id: str
    placement: str
    window: int


class Parked(msgspec.Struct, array_like=True):
    """A callback on a provisional case, remembered so that a late link can take it to its case."""

    event_id: str
    at: int
    status: str | None
    kyc_type: str | None
    kyc_level: str | None
    placement: str
    moved_by: str | None = None


class IntakeState(msgspec.Struct):
    """State of one entity key.

    Attributes:
        seen: Fingerprint to the event it stands for.
        claims: What said that the subject belongs to a case; empty for KYB.
        parked: Callbacks that went to the provisional case; empty for KYB.
    """

    seen: dict[str, Occurrence] = {}
    claims: list[Claim] = []
    parked: list[Parked] = []

    def pruned(self, now: int, parked_for: timedelta) -> IntakeState:
        """A copy without what is past its time: fingerprints past their window, callbacks parked longer than allowed."""
        oldest_parked = now - parked_for // MICROSECOND
        return IntakeState(
            seen={print_: seen for print_, seen in self.seen.items() if now - seen.last_at <= seen.window},
            claims=list(self.claims),
            parked=[parked for parked in self.parked if parked.at >= oldest_parked],
        )

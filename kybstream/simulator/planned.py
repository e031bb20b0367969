"""A plan as values: what is sent when, which links are registered, and how every case must end."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from kybstream.settings import SourceKind

Verdict: TypeAlias = Literal["new", "duplicate", "quarantined"]
MatchState: TypeAlias = Literal["kyb_only", "kyc_only", "matched", "conflict"]
Outcome: TypeAlias = Literal["open", "completed", "rejected", "awaiting_resubmission", "merged"]
JoinRule: TypeAlias = Literal["path_token", "remark_token", "registered", "registered_late", "learned", "none", "conflict"]
"""How a callback finds its case: by a token, by a link registered before or after it, by what an earlier callback of the
subject taught, not at all, or not because its two tokens disagree."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PlannedDelivery:
    """One webhook that a provider sends.

    Attributes:
        at: Real seconds from the start.
        source_kind: Which provider's address it goes to.
        case_token: What follows the source's token in the path, if anything.
        body: The bytes sent.
        headers: The headers sent with it, signature headers excepted.
        label: Names the logical event. All deliveries of a label are copies of one event.
        case: The lane: deliveries of a lane are sent one after the other, so that the order the expectations rest on holds.
        verdict: What it must be judged if the copies arrive in the planned order. What is promised in any order: exactly one
            delivery of a label is `new`, all others are `duplicate`; or all are `quarantined`.
        attempt: Counts the deliveries of the label from 1.
        join: How a KYC callback finds its case; None for KYB and for malformed bodies.
        fault: Which misbehaviour this delivery shows, if any.
    """

    at: float
    source_kind: SourceKind
    case_token: str | None = field(default=None, repr=False)
    body: bytes = field(repr=False)
    headers: tuple[tuple[str, str], ...] = (("Content-Type", "application/json"),)
    label: str
    case: str
    verdict: Verdict
    attempt: int = 1
    join: JoinRule | None = None
    fault: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class PlannedLink:
    """One link that the integrator registers: this KYC subject belongs to that case.

    Attributes:
        at: Real seconds from the start.
        case: The lane, as of the deliveries.
        case_id: The KYB `service_id`.
        merchant_no: With the next two, the subject.
        sub_merchant_no: See above.
        user_no: See above; identifies a person, so it is not shown.
        expected_subjects: How many subjects the case waits for, if the integrator says so.
    """

    at: float
    case: str
    case_id: str
    merchant_no: str
    sub_merchant_no: str
    user_no: str = field(repr=False)
    expected_subjects: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class ExpectedCase:
    """How a case must stand when everything planned has been processed.

    Attributes:
        case_id: As in ClickHouse: the KYB `service_id`, or `kyc:<subject>`.
        case: The lane of its deliveries.
        required: False for the provisional case of a subject that is linked in the end. It exists only if the callback was
            processed before the link, which travels another way; if it exists, it must stand as said here.
        match_state: None where nothing is promised.
        outcome: Always promised.
        kyb_events: Distinct KYB events of the case; None where nothing is promised.
        kyc_events: The same for KYC.
    """

    case_id: str
    case: str
    required: bool = True
    match_state: MatchState | None
    outcome: Outcome
    kyb_events: int | None
    kyc_events: int | None


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A whole simulation.

    Attributes:
        deliveries: In the order they are sent.
        links: In the order they are registered.
        expected: One for each case that may exist at the end.
        scale_seconds_per_day: See `SimulationConfig`; a refused delivery is sent again on the schedule at this scale.
    """

    deliveries: tuple[PlannedDelivery, ...]
    links: tuple[PlannedLink, ...]
    expected: tuple[ExpectedCase, ...]
    scale_seconds_per_day: float

    @property
    def seconds(self) -> float:
        """Real seconds from the start to the last step."""
        return max(step.at for step in self.steps())

    def steps(self) -> tuple[PlannedDelivery | PlannedLink, ...]:
        """Deliveries and links in the order of time."""
        return tuple(sorted((*self.deliveries, *self.links), key=lambda step: step.at))

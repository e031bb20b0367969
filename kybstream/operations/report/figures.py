"""The figures of a report, as values. Durations are in seconds, times in UTC.

*Measured* is a case whose opening was received or registered (`opened_at_source` is `event` or `link`); of the others the true
opening is not known, so they are never mixed in.
"""

from __future__ import annotations

from datetime import date, datetime

import msgspec


class Spread(msgspec.Struct, frozen=True):
    """How long things took: exact percentiles."""

    count: int
    p50: float
    p90: float
    p99: float


class DaySpread(Spread, frozen=True):
    """Closed cases of one stretch of time, by its first day."""

    day: date


class PartSpread(Spread, frozen=True):
    """Closed cases, by one part of them: `case`, `kyb`, `kyc`, or `service` with its name."""

    part: str
    service: str
    measured: bool


class SurvivalStep(msgspec.Struct, frozen=True):
    """From `seconds` on, the share `survival` is estimated to be open still; `left` have been watched for longer."""

    seconds: float
    survival: float
    lower: float | None
    upper: float | None
    left: int


class Survival(msgspec.Struct, frozen=True):
    """Kaplan-Meier of cases opened in the period. A percentile is None while not so many have closed."""

    steps: list[SurvivalStep]
    cases: int
    closed: int
    p50: float | None
    p90: float | None

    def at(self, seconds: float) -> SurvivalStep | None:
        """The step that holds at a time; None when nobody has been watched for so long."""
        if not self.steps or seconds > self.steps[-1].seconds:
            return None
        before = [step for step in self.steps if step.seconds <= seconds]
        return before[-1] if before else SurvivalStep(0.0, 1.0, None, None, self.cases)


class Funnel(msgspec.Struct, frozen=True):
    """How far the cases of a service came, `(all)` the cases as a whole: those opened in the period, as they stand now."""

    service: str
    cases: int
    initiated: int
    resolved: int
    linked: int
    kyc_received: int
    kyc_final: int
    completed: int
    rejected: int
    expired: int
    still_open: int


class Age(msgspec.Struct, frozen=True):
    """Cases that are open now, by age in whole days. `oldest_opened_at` is None when there are none."""

    bucket: str
    open: int = 0
    awaiting_resubmission: int = 0
    past_deadline: int = 0
    embedded: int = 0
    oldest_opened_at: datetime | None = None

    @property
    def cases(self) -> int:
        """All of them."""
        return self.open + self.awaiting_resubmission


class Deliveries(msgspec.Struct, frozen=True):
    """Deliveries of one stretch of time."""

    start: datetime
    deliveries: int
    duplicates: int
    quarantined: int

    @property
    def new(self) -> int:
        """Those that made an event."""
        return self.deliveries - self.duplicates - self.quarantined


class StraightThrough(msgspec.Struct, frozen=True):
    """Cases that closed in the period, and those of them that needed no second look."""

    closed: int
    straight_through: int


class Tenant(msgspec.Struct, frozen=True):
    """One tenant in a line; the percentiles are None when no measured case closed."""

    tenant: str
    opened: int
    closed: int
    open: int
    p50: float | None
    p90: float | None
    p99: float | None


class Report(msgspec.Struct, frozen=True):
    """All of a report.

    Attributes:
        since: First day of the period, which ends at `made_at`.
        made_at: When the figures were asked for.
        tenant: Whose cases; None: everybody's.
        tenants: Each of them, the ones with most cases first; empty where one was named.
        bucket_days: Days that each of `latency` stands for.
        latency: Measured cases by when they closed.
        parts: All closed cases, by part.
        survival: Of measured cases.
        straight_through: Closed cases, and how many of them needed no second look.
        funnel: By service, `(all)` first, then those with most cases.
        services_left_out: Services that `funnel` has no room for.
        ageing: The four buckets, the youngest first.
        bucket_hours: Hours that each of `deliveries` stands for.
        deliveries: In order of time; a stretch without any has none.
    """

    since: date
    made_at: datetime
    tenant: str | None
    tenants: list[Tenant]
    bucket_days: int
    latency: list[DaySpread]
    parts: list[PartSpread]
    survival: Survival
    straight_through: StraightThrough
    funnel: list[Funnel]
    services_left_out: int
    ageing: list[Age]
    bucket_hours: int
    deliveries: list[Deliveries]

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing at all to tell."""
        return not (self.funnel or self.deliveries or self.parts or any(age.cases for age in self.ageing))

    def part(self, part: str, *, measured: bool = True) -> Spread | None:
        """The percentiles of a part that is no service."""
        return next((each for each in self.parts if (each.part, each.measured) == (part, measured)), None)

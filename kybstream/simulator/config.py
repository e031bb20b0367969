"""What a simulation is asked for."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from kybstream.errors import UsageError
from kybstream.privacy import Pseudonymiser

Faults = Literal["none", "documented", "all"]
"""How the simulated providers misbehave.

`none`: every event once, in order, well formed. `documented`: what their documents announce or show: KYC callbacks again and
again on the documented schedule, callbacks doubled without a failure, the one example that is no valid JSON, links that name
another service. `all`: moreover KYB repeats, events out of order, status regressions, every kind of malformed body.
"""

SECONDS_PER_DAY = 86_400
MAX_CASES = 100_000
DEFAULT_SCALE_SECONDS_PER_DAY = 1.0


@dataclass(frozen=True, kw_only=True)
class SimulationConfig:
    """Everything that decides a plan: equal configurations give equal plans, byte for byte.

    Attributes:
        case_token_key: The tenant's key that case tokens are made with.
        pseudonymiser: The tenant's, for the expected ids of cases that have only a KYC subject.
        started_at: Unix seconds at which the plan's second 0 is taken to be. Pass the current time: service ids carry their
            creation time, and the shown latency of a case without initiation starts there.
        cases: How many cases, those with only a KYB or only a KYC side included.
        seed: Chooses the histories. The same seed at another `started_at` gives the same histories under other ids.
        faults: See `Faults`.
        scale_seconds_per_day: Real seconds that stand for one day of the providers' time: case durations and retry
            schedules shrink alike. 1.0 plays about a month in about half a minute; 86400 is real time.
        opening_days: The cases open evenly over so many days of the providers' time.
        registered_links: Whether some subjects are joined by a registered link; False where nobody can register one.
    """

    case_token_key: bytes = field(repr=False)
    pseudonymiser: Pseudonymiser
    started_at: int
    cases: int = 200
    seed: int = 1
    faults: Faults = "all"
    scale_seconds_per_day: float = DEFAULT_SCALE_SECONDS_PER_DAY
    opening_days: float = 18.0
    registered_links: bool = True

    def __post_init__(self) -> None:
        if not 1 <= self.cases <= MAX_CASES:
            raise UsageError(f"the number of simulated cases must be between 1 and {MAX_CASES}, not {self.cases}")
        if self.faults not in {"none", "documented", "all"}:
            raise UsageError(f"faults must be none, documented or all, not {self.faults!r}")
        if not 0 < self.scale_seconds_per_day <= SECONDS_PER_DAY:
            raise UsageError(
                f"the time scale must be over 0 and at most {SECONDS_PER_DAY} seconds per day, "
                f"not {self.scale_seconds_per_day}",
                hint="1 plays a day in a second, 86400 is real time.",
            )
        if self.opening_days <= 0:
            raise UsageError(f"the cases must open over more than 0 days, not {self.opening_days}")

    def seconds(self, days: float) -> float:
        """Real seconds from the start of so many days of the providers' time."""
        return days * self.scale_seconds_per_day

    def unix_seconds(self, days: float) -> int:
        """The unix time at which that moment of the providers' time is played, rounded down."""
        return self.started_at + int(self.seconds(days))

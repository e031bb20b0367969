"""When a refused delivery is sent again, and when the provider gives up: the documented schedule at the plan's scale."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from kybstream.settings import SourceKind
from kybstream.simulator.config import SECONDS_PER_DAY
from kybstream.simulator.retries import GIVE_UP_SECONDS, KYB_ATTEMPTS, KYC_ATTEMPTS

SHORTEST_GAP_SECONDS = 0.05
LONGEST_FLOOR_SECONDS = 0.5
"""A compressed schedule must not become a flood: the gap is at least the first, doubled with each attempt up to the second."""

_GAPS: dict[SourceKind, tuple[int, ...]] = {
    "kyb-service": tuple(later - sooner for sooner, later in pairwise(KYB_ATTEMPTS)),
    "kyc-registration": tuple(later - sooner for sooner, later in pairwise(KYC_ATTEMPTS)),
}


@dataclass(frozen=True, kw_only=True)
class Resending:
    """The schedule of one run.

    Attributes:
        scale_seconds_per_day: Of the plan.
        patience_seconds: A delivery is never given up sooner, however far the scale shrinks the provider's 48 hours.
    """

    scale_seconds_per_day: float
    patience_seconds: float

    def gap(self, source_kind: SourceKind, attempt: int) -> float:
        """Real seconds to wait after that attempt, which was not answered with 200."""
        gaps = _GAPS[source_kind]
        documented = gaps[min(attempt, len(gaps)) - 1] * self.scale_seconds_per_day / SECONDS_PER_DAY
        return max(documented, min(SHORTEST_GAP_SECONDS * 2.0 ** min(attempt - 1, 10), LONGEST_FLOOR_SECONDS))

    @property
    def give_up_after(self) -> float:
        """Real seconds after the first attempt from which on a delivery is not sent again."""
        return max(GIVE_UP_SECONDS * self.scale_seconds_per_day / SECONDS_PER_DAY, self.patience_seconds)

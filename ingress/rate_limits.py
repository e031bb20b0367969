"""How many deliveries of a tenant are taken: a token bucket, so that a burst passes and a flood does not."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Bucket:
    """What a tenant has left.

    Attributes:
        tokens: Deliveries that may come at once.
        at: When that was so, in seconds of any clock that does not go back.
    """

    tokens: float
    at: float


def draw(bucket: Bucket, now: float, *, per_second: float, burst: float) -> tuple[Bucket, float]:
    """Takes one token if there is one; pure.

    Returns:
        The bucket after it, and the seconds until the next token: 0.0 when one was taken.
    """
    tokens = min(burst, bucket.tokens + max(0.0, now - bucket.at) * per_second)
    at = max(now, bucket.at)
    if tokens >= 1.0:
        return Bucket(tokens - 1.0, at), 0.0
    return Bucket(tokens, at), (1.0 - tokens) / per_second


class RateLimit:
    """The bucket of one tenant in this process; each process has its own.

    Args:
        per_second: Deliveries a second in the long run.
        burst: Deliveries at once; when None, what comes in a second, at least one.
    """

    __slots__ = ("_bucket", "_burst", "_per_second")

    def __init__(self, per_second: float, burst: int | None) -> None:
        self._per_second = per_second
        self._burst = float(burst if burst is not None else max(1, math.ceil(per_second)))
        self._bucket: Bucket | None = None

    def draw(self, now: float) -> float:
        """0.0 when the delivery is within the limit, else the seconds to wait."""
        before = self._bucket or Bucket(self._burst, now)
        self._bucket, wait = draw(before, now, per_second=self._per_second, burst=self._burst)
        return wait

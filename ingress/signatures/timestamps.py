"""Signed timestamps: unix time in seconds or milliseconds, held against a tolerance."""

from __future__ import annotations

from datetime import datetime

from ingress.signatures.verifier import Verdict

DEFAULT_TOLERANCE_SECONDS = 300.0

_MAX_DIGITS = 18
_MILLISECONDS_FROM = 10**11
"""As seconds this is the year 5138, as milliseconds 1973: the two cannot be confused."""


def timestamp_verdict(text: str, now: datetime, tolerance_seconds: float) -> Verdict:
    """VALID within the tolerance in both directions (the bound included), STALE_TIMESTAMP outside, else MALFORMED."""
    if not (text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS):
        return Verdict.MALFORMED
    value = int(text)
    seconds = value / 1000 if value >= _MILLISECONDS_FROM else value
    return Verdict.VALID if abs(now.timestamp() - seconds) <= tolerance_seconds else Verdict.STALE_TIMESTAMP

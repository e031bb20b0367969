"""When the providers send the same webhook again."""

from __future__ import annotations

_MINUTE = 60
_HOUR = 3600


def _kyc_attempts() -> tuple[int, ...]:
    every_10_seconds = range(10, 10 * _MINUTE + 1, 10)
    every_5_minutes = range(15 * _MINUTE, _HOUR + 1, 5 * _MINUTE)
    every_hour = range(2 * _HOUR, 48 * _HOUR + 1, _HOUR)
    return (0, *every_10_seconds, *every_5_minutes, *every_hour)


KYC_ATTEMPTS: tuple[int, ...] = _kyc_attempts()
"""Seconds after the first delivery at which a KYC callback is sent as long as no 200 was seen, the first (0) included.

The document says every 10 s within 10 minutes, every 5 minutes within 1 hour, every hour within 48 hours. With both ends of
each span counted once that is 1 + 60 + 10 + 47 = 118 deliveries.
"""

KYB_ATTEMPTS: tuple[int, ...] = (0, _MINUTE, 5 * _MINUTE, _HOUR, 6 * _HOUR, 24 * _HOUR)
"""The same for a KYB webhook. Nothing is documented: this is a plausible schedule, not a promise of the provider."""

GIVE_UP_SECONDS: int = 48 * _HOUR
"""After that the KYC provider never sends the callback again."""

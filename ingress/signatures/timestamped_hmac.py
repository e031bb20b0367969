"""Scheme `timestamped-hmac`: `t=…,v1=…` in one header, over timestamp and body (Stripe, Persona, Paddle)."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, field
from datetime import datetime

from ingress.signatures.compare import any_equal, from_hex, sent_bytes
from ingress.signatures.options import Options
from ingress.signatures.timestamps import DEFAULT_TOLERANCE_SECONDS, timestamp_verdict
from ingress.signatures.verifier import SignedRequest, Verdict

_MAX_SIGNATURES = 16
"""Signatures of one header that are tried: a key rotation sends two or three."""


@dataclass(frozen=True, slots=True)
class TimestampedHmac:
    """Hex HMAC-SHA256 of `<timestamp><joiner><body>`; during a key rotation the header holds several signatures."""

    secrets: tuple[bytes, ...] = field(repr=False)
    header: str
    separator: str
    timestamp_field: str
    signature_field: str
    joiner: bytes
    tolerance_seconds: float

    def verify(self, request: SignedRequest, now: datetime) -> Verdict:
        """The timestamp is part of what is signed, so a replay outside the tolerance is STALE_TIMESTAMP."""
        text = request.headers.get(self.header)
        if text is None:
            return Verdict.MISSING_HEADER
        pairs = [part.strip().partition("=") for part in text.split(self.separator)]
        timestamps = [value for name, _, value in pairs if name == self.timestamp_field]
        signatures = [from_hex(value) for name, _, value in pairs if name == self.signature_field]
        given = [signature for signature in signatures if signature]
        if len(timestamps) != 1 or not 0 < len(given) <= _MAX_SIGNATURES:
            return Verdict.MALFORMED
        verdict = timestamp_verdict(timestamps[0], now, self.tolerance_seconds)
        if not verdict.accepted:
            return verdict
        message = sent_bytes(timestamps[0]) + self.joiner + request.body
        expected = [hmac.digest(secret, message, hashlib.sha256) for secret in self.secrets]
        return max((any_equal(expected, signature) for signature in given), key=lambda each: each.accepted)


def build(options: Options) -> TimestampedHmac:
    """Settings: `header`; `separator` (,), `timestamp_field` (t), `signature_field` (v1), `joiner` (.), `tolerance_seconds`."""
    return TimestampedHmac(
        secrets=options.secrets,
        header=options.header("header"),
        separator=options.choice("separator", (",", ";"), ","),
        timestamp_field=options.text("timestamp_field", "t"),
        signature_field=options.text("signature_field", "v1"),
        joiner=options.choice("joiner", (".", ":"), ".").encode(),
        tolerance_seconds=options.seconds("tolerance_seconds", DEFAULT_TOLERANCE_SECONDS),
    )

"""Scheme `alchemy-raw`: HMAC over timestamp, method, path and the body as it is.

Not documented by the KYC provider; seen in a third-party client of its API. Timestamps are unix milliseconds there; seconds
are taken as well.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, field
from datetime import datetime

from ingress.signatures.compare import any_equal, from_base64, sent_bytes
from ingress.signatures.options import Options
from ingress.signatures.timestamps import DEFAULT_TOLERANCE_SECONDS, timestamp_verdict
from ingress.signatures.verifier import SignedRequest, Verdict

TIMESTAMP_HEADER = "ach-access-timestamp"
SIGNATURE_HEADER = "ach-access-sign"


@dataclass(frozen=True, slots=True)
class AlchemyRaw:
    """Base64 HMAC-SHA256 of `<timestamp>POST<path><body>`."""

    secrets: tuple[bytes, ...] = field(repr=False)
    timestamp_header: str
    signature_header: str
    path_prefix: str
    tolerance_seconds: float

    def verify(self, request: SignedRequest, now: datetime) -> Verdict:
        """The path is signed as the sender wrote it: `path_prefix` puts back what a proxy has taken off its front."""
        timestamp = request.headers.get(self.timestamp_header)
        signature = request.headers.get(self.signature_header)
        if timestamp is None or signature is None:
            return Verdict.MISSING_HEADER
        given = from_base64(signature)
        if given is None:
            return Verdict.MALFORMED
        verdict = timestamp_verdict(timestamp, now, self.tolerance_seconds)
        if not verdict.accepted:
            return verdict
        message = sent_bytes(timestamp + request.method + self.path_prefix + request.path) + request.body
        return any_equal((hmac.digest(secret, message, hashlib.sha256) for secret in self.secrets), given)


def build(options: Options) -> AlchemyRaw:
    """Settings: `timestamp_header`, `signature_header`, `path_prefix` (empty), `tolerance_seconds`."""
    return AlchemyRaw(
        secrets=options.secrets,
        timestamp_header=options.header("timestamp_header", TIMESTAMP_HEADER),
        signature_header=options.header("signature_header", SIGNATURE_HEADER),
        path_prefix=options.text("path_prefix", ""),
        tolerance_seconds=options.seconds("tolerance_seconds", DEFAULT_TOLERANCE_SECONDS),
    )

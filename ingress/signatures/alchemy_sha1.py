"""Scheme `alchemy-sha1`: SHA-1 over app id, secret and timestamp.

It does **not** cover the body: whoever has seen one request can send any body within the tolerance. It is here because a
product of the KYC provider uses it; prefer any other scheme.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import datetime

from ingress.signatures.compare import any_equal, from_hex, sent_bytes
from ingress.signatures.options import Options
from ingress.signatures.timestamps import DEFAULT_TOLERANCE_SECONDS, timestamp_verdict
from ingress.signatures.verifier import SignedRequest, Verdict


@dataclass(frozen=True, slots=True)
class AlchemySha1:
    """Hex `sha1(app_id + secret + timestamp)`; app id, timestamp and signature in a header each."""

    secrets: tuple[bytes, ...] = field(repr=False)
    app_id: str
    app_id_header: str
    timestamp_header: str
    signature_header: str
    tolerance_seconds: float

    def verify(self, request: SignedRequest, now: datetime) -> Verdict:
        """An app id other than the one that is set (if one is) is BAD_SIGNATURE."""
        app_id = request.headers.get(self.app_id_header)
        timestamp = request.headers.get(self.timestamp_header)
        signature = request.headers.get(self.signature_header)
        if app_id is None or timestamp is None or signature is None:
            return Verdict.MISSING_HEADER
        given = from_hex(signature)
        if given is None:
            return Verdict.MALFORMED
        verdict = timestamp_verdict(timestamp, now, self.tolerance_seconds)
        if not verdict.accepted:
            return verdict
        if self.app_id and app_id != self.app_id:
            return Verdict.BAD_SIGNATURE
        head, tail = sent_bytes(app_id), sent_bytes(timestamp)
        # SHA-1 is what the provider's scheme prescribes.
        return any_equal((hashlib.sha1(head + secret + tail).digest() for secret in self.secrets), given)  # noqa: S324


def build(options: Options) -> AlchemySha1:
    """Settings: `app_id` (empty: any), `app_id_header`, `timestamp_header`, `signature_header`, `tolerance_seconds`."""
    return AlchemySha1(
        secrets=options.secrets,
        app_id=options.text("app_id", ""),
        app_id_header=options.header("app_id_header", "appId"),
        timestamp_header=options.header("timestamp_header", "timestamp"),
        signature_header=options.header("signature_header", "sign"),
        tolerance_seconds=options.seconds("tolerance_seconds", DEFAULT_TOLERANCE_SECONDS),
    )

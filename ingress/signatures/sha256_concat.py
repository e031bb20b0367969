"""Scheme `sha256-concat`: a plain hash over body and secret (Shufti Pro)."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import datetime

from ingress.signatures.compare import any_equal, from_hex
from ingress.signatures.listed import MAX_SIGNATURES, header_lines, listed
from ingress.signatures.options import Options
from ingress.signatures.verifier import SignedRequest, Verdict


@dataclass(frozen=True, slots=True)
class Sha256Concat:
    """Hex `sha256(body + tail)` in one header; `tails` are the secrets, or the hex of their SHA-256."""

    tails: tuple[bytes, ...] = field(repr=False)
    header: str

    def verify(self, request: SignedRequest, now: datetime) -> Verdict:
        """The scheme has no timestamp."""
        del now
        lines = header_lines(request.headers, self.header)
        if not lines:
            return Verdict.MISSING_HEADER
        given = [signature for text in listed(lines) if (signature := from_hex(text))]
        if not 0 < len(given) <= MAX_SIGNATURES:
            return Verdict.MALFORMED
        digest = hashlib.sha256(request.body)
        return any_equal((_finished(digest, tail) for tail in self.tails), *given)


def _finished(digest: hashlib._Hash, tail: bytes) -> bytes:
    copy = digest.copy()
    copy.update(tail)
    return copy.digest()


def build(options: Options) -> Sha256Concat:
    """Settings: `header` (Signature), `hash_secret` (true)."""
    hashed = options.flag("hash_secret", default=True)
    return Sha256Concat(
        tails=tuple(hashlib.sha256(secret).hexdigest().encode() if hashed else secret for secret in options.secrets),
        header=options.header("header", "Signature"),
    )

"""Scheme `sha256-concat`: a plain hash over body and hashed secret (Shufti Pro)."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import datetime

from ingress.signatures.compare import any_equal, from_hex
from ingress.signatures.options import Options
from ingress.signatures.verifier import SignedRequest, Verdict


@dataclass(frozen=True, slots=True)
class Sha256Concat:
    """Hex `sha256(body + hex(sha256(secret)))` in one header; `tails` are the hashed secrets."""

    tails: tuple[bytes, ...] = field(repr=False)
    header: str

    def verify(self, request: SignedRequest, now: datetime) -> Verdict:
        """The scheme has no timestamp."""
        del now
        text = request.headers.get(self.header)
        if text is None:
            return Verdict.MISSING_HEADER
        given = from_hex(text)
        if given is None:
            return Verdict.MALFORMED
        digest = hashlib.sha256(request.body)
        return any_equal((_finished(digest, tail) for tail in self.tails), given)


def _finished(digest: hashlib._Hash, tail: bytes) -> bytes:
    copy = digest.copy()
    copy.update(tail)
    return copy.digest()


def build(options: Options) -> Sha256Concat:
    """Settings: `header` (Signature)."""
    return Sha256Concat(
        tails=tuple(hashlib.sha256(secret).hexdigest().encode() for secret in options.secrets),
        header=options.header("header", "Signature"),
    )

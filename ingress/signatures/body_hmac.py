"""Scheme `hmac`: an HMAC of the body in a header (GitHub, Shopify, Sumsub, Onfido, Veriff and many more)."""

from __future__ import annotations

import hmac
from dataclasses import dataclass, field
from datetime import datetime

from ingress.signatures.compare import any_equal, from_base64, from_hex
from ingress.signatures.listed import MAX_SIGNATURES, header_lines, listed
from ingress.signatures.options import Options
from ingress.signatures.verifier import SignedRequest, Verdict


@dataclass(frozen=True, slots=True)
class BodyHmac:
    """`<prefix><hex or base64 of HMAC(secret, body)>` in one header; any of several (`ingress.signatures.listed`) is enough."""

    secrets: tuple[bytes, ...] = field(repr=False)
    header: str
    hash: str
    encoding: str
    prefix: str

    def verify(self, request: SignedRequest, now: datetime) -> Verdict:
        """The scheme has no timestamp: a captured request stays valid, and the deduplication must catch it."""
        del now
        lines = header_lines(request.headers, self.header)
        if not lines:
            return Verdict.MISSING_HEADER
        read = from_hex if self.encoding == "hex" else from_base64
        given = [signature for text in listed(lines, self.prefix) if (signature := read(text))]
        if not 0 < len(given) <= MAX_SIGNATURES:
            return Verdict.MALFORMED
        return any_equal((hmac.digest(secret, request.body, self.hash) for secret in self.secrets), *given)


def build(options: Options) -> BodyHmac:
    """Settings: `header`; `hash` (sha256), `encoding` (hex), `prefix` (empty)."""
    return BodyHmac(
        secrets=options.secrets,
        header=options.header("header"),
        hash=options.choice("hash", ("sha256", "sha1", "sha512"), "sha256"),
        encoding=options.choice("encoding", ("hex", "base64"), "hex"),
        prefix=options.text("prefix", ""),
    )

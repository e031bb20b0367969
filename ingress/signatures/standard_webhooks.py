"""Scheme `standard-webhooks`: the Standard Webhooks specification, also as Svix sends it."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, field
from datetime import datetime

from ingress.signatures.compare import any_equal, from_base64, sent_bytes
from ingress.signatures.listed import MAX_SIGNATURES, header_lines
from ingress.signatures.options import Options
from ingress.signatures.timestamps import DEFAULT_TOLERANCE_SECONDS, timestamp_verdict
from ingress.signatures.verifier import SignedRequest, Verdict

_SECRET_PREFIX = b"whsec_"
_VERSION = "v1"


@dataclass(frozen=True, slots=True)
class StandardWebhooks:
    """Base64 HMAC-SHA256 of `<id>.<timestamp>.<body>`; the signature header is a list of `v1,<signature>` by spaces."""

    secrets: tuple[bytes, ...] = field(repr=False)
    header_prefix: str
    tolerance_seconds: float

    def verify(self, request: SignedRequest, now: datetime) -> Verdict:
        """Signatures of other versions than v1 are passed over."""
        message_id = request.headers.get(self.header_prefix + "id")
        timestamp = request.headers.get(self.header_prefix + "timestamp")
        lines = header_lines(request.headers, self.header_prefix + "signature")
        if message_id is None or timestamp is None or not lines:
            return Verdict.MISSING_HEADER
        # A comma that follows a signature comes from a proxy that has joined two lines, with a space or without.
        items = [item.strip(",").split(",") for line in lines for item in line.split()]
        pairs = [pair for item in items for pair in zip(item[::2], item[1::2], strict=False)]
        given = [digest for version, text in pairs if version == _VERSION and (digest := from_base64(text))]
        if not 0 < len(given) <= MAX_SIGNATURES:
            return Verdict.MALFORMED
        verdict = timestamp_verdict(timestamp, now, self.tolerance_seconds)
        if not verdict.accepted:
            return verdict
        message = b".".join((sent_bytes(message_id), sent_bytes(timestamp), request.body))
        expected = [hmac.digest(secret, message, hashlib.sha256) for secret in self.secrets]
        return any_equal(expected, *given)

    def message_id(self, request: SignedRequest) -> str:
        """The signed id, which the sender keeps over its retries; see `ingress.replays`."""
        return request.headers[self.header_prefix + "id"]


def build(options: Options) -> StandardWebhooks:
    """Settings: `header_prefix` (webhook-), `tolerance_seconds`. Secrets that begin with `whsec_` are base64 behind it."""
    return StandardWebhooks(
        secrets=tuple(_key(secret, options) for secret in options.secrets),
        header_prefix=options.choice("header_prefix", ("webhook-", "svix-"), "webhook-"),
        tolerance_seconds=options.seconds("tolerance_seconds", DEFAULT_TOLERANCE_SECONDS),
    )


def _key(secret: bytes, options: Options) -> bytes:
    if not secret.startswith(_SECRET_PREFIX):
        return secret
    key = from_base64(secret.removeprefix(_SECRET_PREFIX).decode("ascii", "replace"))
    if not key:
        raise options.error("secrets", "a secret begins with whsec_, but what follows is not base64")
    return key

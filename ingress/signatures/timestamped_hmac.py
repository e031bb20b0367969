"""Scheme `timestamped-hmac`: `t=…,v1=…` in one header, over timestamp and body (Stripe, Persona, Paddle)."""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise

from ingress.signatures.compare import any_equal, from_hex, sent_bytes
from ingress.signatures.listed import MAX_SIGNATURES, header_lines
from ingress.signatures.options import Options
from ingress.signatures.timestamps import DEFAULT_TOLERANCE_SECONDS, timestamp_verdict
from ingress.signatures.verifier import SignedRequest, Verdict

MAX_TIMESTAMPS = 4
"""Different timestamps of one request that are tried: each costs a hash of the body."""


@dataclass(frozen=True, slots=True)
class TimestampedHmac:
    """Hex HMAC-SHA256 of `<timestamp><joiner><body>`.

    During a key rotation there are several signatures for one timestamp (Stripe), or sets of a timestamp and a signature
    (Persona). Any signature that fits any recent timestamp is enough: who knows the secret has signed both.
    """

    secrets: tuple[bytes, ...] = field(repr=False)
    header: str
    separator: str
    timestamp_field: str
    signature_field: str
    joiner: bytes
    tolerance_seconds: float

    def verify(self, request: SignedRequest, now: datetime) -> Verdict:
        """The timestamp is part of what is signed, so a replay outside the tolerance is STALE_TIMESTAMP."""
        lines = header_lines(request.headers, self.header)
        if not lines:
            return Verdict.MISSING_HEADER
        of_lines = [parts(line, self.separator) for line in lines]
        pairs = [pair for line in of_lines for pair in line]
        timestamps = list(dict.fromkeys(value for name, value in pairs if name == self.timestamp_field))
        given = [digest for name, value in pairs if name == self.signature_field and (digest := from_hex(value))]
        if not (0 < len(timestamps) <= MAX_TIMESTAMPS and 0 < len(given) <= MAX_SIGNATURES):
            return Verdict.MALFORMED
        if any(self._is_ambiguous([name for name, _ in line]) for line in of_lines):
            return Verdict.MALFORMED
        verdicts = [timestamp_verdict(timestamp, now, self.tolerance_seconds) for timestamp in timestamps]
        recent = [timestamp for timestamp, verdict in zip(timestamps, verdicts, strict=True) if verdict.accepted]
        if not recent:
            return Verdict.STALE_TIMESTAMP if Verdict.STALE_TIMESTAMP in verdicts else Verdict.MALFORMED
        messages = [sent_bytes(timestamp) + self.joiner + request.body for timestamp in recent]
        expected = [hmac.digest(secret, message, hashlib.sha256) for message in messages for secret in self.secrets]
        return any_equal(expected, *given)

    def _is_ambiguous(self, names: list[str]) -> bool:
        """Whether two timestamps follow each other in a line, and which one is signed cannot be told.

        It can where a signature stands on both sides: a proxy has joined the lines of a set that ends with its timestamp and of
        one that begins with it.
        """
        joined = (self.signature_field, self.timestamp_field, self.timestamp_field, self.signature_field)
        return any(
            pair == joined[1:3] and tuple(names[max(0, at - 1) : at + 3]) != joined for at, pair in enumerate(pairwise(names))
        )


def parts(line: str, separator: str) -> list[tuple[str, str]]:
    """The `name=value` parts of a header line, in order. Sets of them may be separated by commas or white space."""
    pairs = [part.partition("=") for part in re.split(rf"[{separator},\s]+", line)]
    return [(name, value) for name, _, value in pairs]


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

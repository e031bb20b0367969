"""Scheme `alchemy-sorted`: HMAC over timestamp, method, path and the body written anew with sorted keys.

The KYC provider's family of products documents this for requests to it; for callbacks nothing is documented, so header names,
unsigned fields and the treatment of empty values are settings.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from ingress.signatures.alchemy_raw import SIGNATURE_HEADER, TIMESTAMP_HEADER
from ingress.signatures.compare import any_equal, from_base64, sent_bytes
from ingress.signatures.options import Options
from ingress.signatures.sorted_json import NotAnObjectError, Value, parse_object, write_sorted
from ingress.signatures.timestamps import DEFAULT_TOLERANCE_SECONDS, timestamp_verdict
from ingress.signatures.unreadable_json import parse_marked, written_forms
from ingress.signatures.verifier import SignedRequest, Verdict


@dataclass(frozen=True, slots=True)
class AlchemySorted:
    """Base64 HMAC-SHA256 of `<timestamp>POST<path><body>`, where path has no query and body is canonical JSON.

    Canonical: keys sorted on every level, no white space, without the signature's own field, the unsigned fields and (if
    `drop_empty`) the nulls and empty texts of the top level; nothing at all when no field is left.

    A body with values that cannot be read is accepted under any of the few forms in which they may have been signed: its
    result must not be lost for them.
    """

    secrets: tuple[bytes, ...] = field(repr=False)
    timestamp_header: str
    signature_header: str
    signature_field: str
    unsigned_fields: frozenset[str]
    drop_empty: bool
    path_prefix: str
    tolerance_seconds: float

    def verify(self, request: SignedRequest, now: datetime) -> Verdict:
        """The signature is taken from the header, else from its field in the body; MALFORMED when the body is no object."""
        timestamp = request.headers.get(self.timestamp_header)
        if timestamp is None:
            return Verdict.MISSING_HEADER
        # What costs little comes first: whoever sends this may be anybody.
        verdict = timestamp_verdict(timestamp, now, self.tolerance_seconds)
        if not verdict.accepted:
            return verdict
        try:
            body, signed = self._read(request.body)
        except NotAnObjectError:
            return Verdict.MALFORMED
        header = request.headers.get(self.signature_header)
        signature = body.get(self.signature_field) if header is None else header
        if not isinstance(signature, str):
            return Verdict.MISSING_HEADER
        given = from_base64(signature)
        if given is None:
            return Verdict.MALFORMED
        path = self.path_prefix + request.path.partition("?")[0]
        begin = sent_bytes(timestamp + request.method + path)
        expected = [hmac.digest(secret, begin + form, hashlib.sha256) for form in signed for secret in self.secrets]
        return any_equal(expected, given)

    def _read(self, sent: bytes) -> tuple[Mapping[str, Value], tuple[bytes, ...]]:
        """The body, and what may have been signed: one form, or a few where the body has something that cannot be read."""
        try:
            body = parse_object(sent)
            kept = self._signed_part(body)
            return body, (write_sorted(kept) if kept else b"",)
        except NotAnObjectError:
            body = parse_marked(sent)
            kept = self._signed_part(body)
            return body, written_forms(kept) if kept else (b"",)

    def _signed_part(self, body: Mapping[str, Value]) -> Mapping[str, Value]:
        return {
            name: value
            for name, value in body.items()
            if name not in self.unsigned_fields and not (self.drop_empty and (value is None or value == ""))
        }


def build(options: Options) -> AlchemySorted:
    """Settings: as `alchemy-raw`, and `signature_field` (signature), `unsigned_fields` (dob, number), `drop_empty` (true)."""
    signature_field = options.text("signature_field", "signature")
    return AlchemySorted(
        secrets=options.secrets,
        timestamp_header=options.header("timestamp_header", TIMESTAMP_HEADER),
        signature_header=options.header("signature_header", SIGNATURE_HEADER),
        signature_field=signature_field,
        unsigned_fields=frozenset((*options.texts("unsigned_fields", ("dob", "number")), signature_field)),
        drop_empty=options.flag("drop_empty", default=True),
        path_prefix=options.text("path_prefix", ""),
        tolerance_seconds=options.seconds("tolerance_seconds", DEFAULT_TOLERANCE_SECONDS),
    )

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
from ingress.signatures.verifier import SignedRequest, Verdict


@dataclass(frozen=True, slots=True)
class AlchemySorted:
    """Base64 HMAC-SHA256 of `<timestamp>POST<path><body>`, where path has no query and body is canonical JSON.

    Canonical: keys sorted on every level, no white space, without the signature's own field, the unsigned fields and (if
    `drop_empty`) the nulls and empty texts of the top level; nothing at all when no field is left.
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
            body = parse_object(request.body)
            signed = self._signed_part(body)
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
        message = sent_bytes(timestamp + request.method + path) + signed
        return any_equal((hmac.digest(secret, message, hashlib.sha256) for secret in self.secrets), given)

    def _signed_part(self, body: Mapping[str, Value]) -> bytes:
        kept = {
            name: value
            for name, value in body.items()
            if name not in self.unsigned_fields and not (self.drop_empty and (value is None or value == ""))
        }
        return write_sorted(kept) if kept else b""


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

"""Comparing signatures: in constant time, and with every secret, so that the time does not tell which one matched."""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Iterable

from ingress.signatures.verifier import Verdict


def any_equal(expected: Iterable[bytes], *given: bytes) -> Verdict:
    """VALID when one of the expected digests is one of the given ones, else BAD_SIGNATURE."""
    matches = [hmac.compare_digest(digest, signature) for digest in expected for signature in given]
    return Verdict.VALID if any(matches) else Verdict.BAD_SIGNATURE


def from_hex(text: str) -> bytes | None:
    """The bytes of hex digits of either case, or None."""
    try:
        return bytes.fromhex(text)
    except ValueError:
        return None


def from_base64(text: str) -> bytes | None:
    """The bytes of standard base64, or None."""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None


def sent_bytes(text: str) -> bytes:
    """A header's text or the request target as the bytes it came in as."""
    return text.encode("utf-8", "surrogateescape")

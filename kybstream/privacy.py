"""Pseudonyms and case tokens: what stands in for a person, and what lets a callback name its case.

A pseudonym is HMAC-SHA256 under the tenant's key, over the field's name and its values, with the key's version in front: it
cannot be reversed without the key, and equal values of different fields or tenants do not match.

A case token is `c1.<case_ref>.<mac>`: the integrator puts it into the callback URL or the `remark` of a KYC registration. The
MAC keeps anybody from attaching himself to another company's case.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re

import msgspec

from kybstream.errors import UsageError

CASE_TOKEN_MAX_LENGTH = 64
"""Longest case token in characters: it must fit a URL segment and the providers' 255-character fields many times over."""

_MAC_BYTES = 16
_CASE_REF = re.compile(r"[A-Za-z0-9_.~-]+")
_MAC_CHARACTERS = 22
_MAX_REF_CHARACTERS = CASE_TOKEN_MAX_LENGTH - len("c1.") - len(".") - _MAC_CHARACTERS
# The reference is bounded: unbounded, a long text of near-tokens would take quadratic time to search.
_CASE_TOKEN = re.compile(
    rf"c1\.(?P<ref>[A-Za-z0-9_.~-]{{1,{_MAX_REF_CHARACTERS}}})\.(?P<mac>[A-Za-z0-9_-]{{{_MAC_CHARACTERS}}})"
)


class Pseudonymiser:
    """Turns personal values of one tenant into pseudonyms.

    Args:
        key: The tenant's secret, at least 16 bytes.
        version: The key's version, which becomes part of every pseudonym.
    """

    __slots__ = ("_key", "_prefix")

    def __init__(self, key: bytes, version: int = 1) -> None:
        self._key = key
        self._prefix = f"v{version}."

    def __repr__(self) -> str:
        return f"Pseudonymiser({self._prefix!r})"

    def pseudonym(self, field: str, *values: str) -> str:
        """`v<version>.<26 base32 characters>`, 128 bits of the HMAC; the same values always give the same pseudonym."""
        message = msgspec.json.encode([field, *(value.encode("utf-8", "surrogatepass").hex() for value in values)])
        digest = hmac.digest(self._key, message, hashlib.sha256)[:_MAC_BYTES]
        return self._prefix + base64.b32encode(digest).decode().rstrip("=").lower()

    def subject(self, merchant_no: str, sub_merchant_no: str, user_no: str) -> str:
        """The pseudonym of a KYC subject: a user number is unique only within merchant and sub-merchant."""
        return self.pseudonym("subject", merchant_no, sub_merchant_no, user_no)


def make_case_token(case_ref: str, key: bytes) -> str:
    """The case token of a KYB `service_id`.

    Raises:
        UsageError: The reference has characters a URL segment cannot hold, or makes a token over 64 characters.
    """
    if not _CASE_REF.fullmatch(case_ref):
        raise UsageError(
            "a case reference may hold only letters, digits and '_', '.', '~', '-'",
            hint="It is the KYB service_id of the case.",
        )
    token = f"c1.{case_ref}.{_mac(case_ref, key)}"
    if len(token) > CASE_TOKEN_MAX_LENGTH:
        raise UsageError(
            f"the case reference has {len(case_ref)} characters; a case token holds at most {_MAX_REF_CHARACTERS} of them",
            hint="Register the link with `kyb-stream links add` instead.",
        )
    return token


def read_case_token(token: str, keys: tuple[bytes, ...]) -> str | None:
    """The case reference of a token made with one of the keys, or None when it is no valid token. Constant-time compare."""
    if len(token) > CASE_TOKEN_MAX_LENGTH:
        return None
    match = _CASE_TOKEN.fullmatch(token)
    if match is None:
        return None
    case_ref, mac = match["ref"], match["mac"]
    valid = [hmac.compare_digest(_mac(case_ref, key), mac) for key in keys]
    return case_ref if any(valid) else None


def find_case_tokens(text: str) -> tuple[str, ...]:
    """Everything in free text (a `remark`) that has the form of a case token, in order; not yet checked."""
    return tuple(match[0] for match in _CASE_TOKEN.finditer(text))


def _mac(case_ref: str, key: bytes) -> str:
    digest = hmac.digest(key, b"case-token\x00" + case_ref.encode(), hashlib.sha256)[:_MAC_BYTES]
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")

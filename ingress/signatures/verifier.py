"""What every signature scheme is given and answers."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol, runtime_checkable

from multidict import MultiMapping


class Verdict(StrEnum):
    """What a scheme says of a request."""

    VALID = "valid"
    MISSING_HEADER = "missing_header"
    """A header (or, where the scheme puts it there, a field of the body) that the scheme needs is not there."""
    MALFORMED = "malformed"
    """What the scheme needs is there, but is not of its form."""
    STALE_TIMESTAMP = "stale_timestamp"
    """The timestamp is further from now than the tolerance, in either direction."""
    BAD_SIGNATURE = "bad_signature"
    """No secret gives the signature that was sent."""

    @property
    def accepted(self) -> bool:
        """Whether the request is authentic."""
        return self is Verdict.VALID


@dataclass(frozen=True, slots=True)
class SignedRequest:
    """The parts of a request that a scheme may sign.

    Attributes:
        method: The HTTP method, upper case.
        path: The request target as it was sent, with its query; holds tokens, so it is left out of `repr`.
        headers: Case-insensitive; a name may have several lines.
        body: As sent, inflated.
    """

    method: str
    path: str
    headers: MultiMapping[str]
    body: bytes

    def __repr__(self) -> str:
        # Path and headers hold tokens, the body personal data.
        return f"SignedRequest({self.method}, body_size={len(self.body)})"


class Verifier(Protocol):
    """One scheme with the secrets of one source."""

    def verify(self, request: SignedRequest, now: datetime) -> Verdict:
        """Whether the request is authentic. Never raises, whatever the request holds; compares in constant time."""
        ...


@runtime_checkable
class IdentifyingVerifier(Verifier, Protocol):
    """A scheme that gives each message a signed id, the same over the sender's retries."""

    @property
    def tolerance_seconds(self) -> float:
        """How far the signed timestamp may be from now: a captured request is valid that long."""
        ...

    def message_id(self, request: SignedRequest) -> str:
        """The id of a request that `verify` has accepted."""
        ...

"""Which case a KYC callback belongs to: decided by what was said, never by what looks alike.

In this order: a registered link, the token in the path, the token in `remark` (if they name different cases: a conflict, never
a guess), what an earlier token of the same subject taught, otherwise unlinked. Names, emails and numbers are never compared.
docs/explanation/joining.md tells why.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from kybstream.privacy import read_case_token

OWN = "own"
REGISTERED = "registered"
PATH_TOKEN = "path_token"  # noqa: S105 (the name of a rule)
REMARK_TOKEN = "remark_token"  # noqa: S105 (the name of a rule)
LEARNED = "learned"
UNLINKED = "unlinked"
CONFLICT = "conflict"
AMBIGUOUS = "ambiguous"

LINKED = frozenset({REGISTERED, PATH_TOKEN, REMARK_TOKEN, LEARNED})
"""Placements that put a callback on a case of the KYB provider."""

PROVISIONAL_PREFIX = "kyc:"
TOKEN_DISAGREES_WITH_LINK = "token_disagrees_with_link"  # noqa: S105 (the name of an anomaly)


class Claim(msgspec.Struct, array_like=True):
    """Something that said: this subject belongs to this case.

    Attributes:
        case_id: The case.
        rule: registered, path_token or remark_token.
        source_id: The link or delivery that said it.
        at: When, in microseconds since the epoch.
        expected_subjects: Of a registered link.
    """

    case_id: str
    rule: str
    source_id: str
    at: int
    expected_subjects: int | None = None


@dataclass(frozen=True)
class Tokens:
    """The case tokens of one delivery, checked.

    Attributes:
        refs: Distinct cases that valid tokens name, the path's first.
        rule: By which rule the first was found; None without one.
        invalid: Where a token was that no key made: `case_token` (path), `remark`.
    """

    refs: tuple[str, ...]
    rule: str | None
    invalid: tuple[str, ...]


@dataclass(frozen=True)
class Placement:
    """Where a callback goes: a case, and by which rule."""

    case_id: str
    rule: str


def provisional_case_id(subject: str) -> str:
    """The case of a subject that no case claims yet."""
    return PROVISIONAL_PREFIX + subject


def read_tokens(path_token: str | None, remark_tokens: Sequence[str], keys: tuple[bytes, ...]) -> Tokens:
    """Checks the tokens of one delivery. A token that does not verify is reported and otherwise ignored."""
    refs: dict[str, str] = {}
    invalid: list[str] = []
    if path_token is not None:
        ref = read_case_token(path_token, keys)
        if ref is None:
            invalid.append("case_token")
        else:
            refs[ref] = PATH_TOKEN
    for token in remark_tokens:
        ref = read_case_token(token, keys)
        if ref is None:
            invalid.append("remark")
        else:
            refs.setdefault(ref, REMARK_TOKEN)
    return Tokens(tuple(refs), next(iter(refs.values()), None), tuple(dict.fromkeys(invalid)))


def place(subject: str, tokens: Tokens, claims: Sequence[Claim]) -> Placement:
    """Where a callback of this subject goes, given its own tokens and all that was said before."""
    provisional = provisional_case_id(subject)
    registered = registered_cases(claims)
    if len(registered) > 1:
        return Placement(provisional, AMBIGUOUS)
    if registered:
        # Whoever registers knows; that this also settles a conflict makes no difference to whether the link came first.
        return Placement(registered[0], REGISTERED)
    if len(tokens.refs) > 1:
        return Placement(provisional, CONFLICT)
    if tokens.refs and tokens.rule:
        return Placement(tokens.refs[0], tokens.rule)
    learned = learned_cases(claims)
    if len(learned) > 1:
        # The subject was named for several cases; a callback that names none could belong to any of them.
        return Placement(provisional, AMBIGUOUS)
    return Placement(learned[0], LEARNED) if learned else Placement(provisional, UNLINKED)


def registered_cases(claims: Sequence[Claim]) -> tuple[str, ...]:
    """Distinct cases that registered links name."""
    return tuple(dict.fromkeys(claim.case_id for claim in claims if claim.rule == REGISTERED))


def learned_cases(claims: Sequence[Claim]) -> tuple[str, ...]:
    """Distinct cases that tokens of earlier callbacks named."""
    return tuple(dict.fromkeys(claim.case_id for claim in claims if claim.rule != REGISTERED))

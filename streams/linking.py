"""Which case a KYC callback belongs to: decided by what was said, never by what looks alike.

In this order: a registered link that was not withdrawn, the token in the path, the token in `remark` (if they name different
cases: a conflict, never a guess), what an earlier token of the same subject taught, otherwise unlinked. Names, emails and
numbers are never compared. docs/explanation/joining.md tells why.
"""

from __future__ import annotations

from collections.abc import Sequence

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

WITHDRAWN = "withdrawn"
"""Not a placement: the rule of a claim that takes registrations back."""

CASES_NAMED = 32
"""Cases that may be named for one person, the first by id; a person of more is ambiguous."""
WITHDRAWALS_KEPT = 4
"""Withdrawals that are remembered of one person and case, the newest; all of them count."""
MORE_CASES = ""
"""In the place of a case in a claim: cases beyond `CASES_NAMED`."""

LINKED = frozenset({REGISTERED, PATH_TOKEN, REMARK_TOKEN, LEARNED})
"""Placements that put a callback on a case of the KYB provider."""

PROVISIONAL_PREFIX = "kyc:"
TOKEN_DISAGREES_WITH_LINK = "token_disagrees_with_link"  # noqa: S105 (the name of an anomaly)


class Claim(msgspec.Struct, array_like=True):
    """Something that said: this subject belongs to this case; or, of a withdrawal, that it does not.

    Attributes:
        case_id: The case.
        rule: registered, path_token, remark_token or withdrawn.
        source_id: The link, delivery or withdrawal that said it.
        at: When, in microseconds since the epoch.
        expected_subjects: Of a registered link.
        silenced: Of a token, that a registered link to another case was there: it is heard when that is withdrawn.
    """

    case_id: str
    rule: str
    source_id: str
    at: int
    expected_subjects: int | None = None
    silenced: bool = False
    since: int | None = None
    """Of a registered link, when it was registered first; `at` is when it was last. None: only once."""


class Tokens(msgspec.Struct, frozen=True):
    """The case tokens of one delivery, checked.

    Attributes:
        refs: Distinct cases that valid tokens name, the path's first.
        rule: By which rule the first was found; None without one.
        invalid: Where a token was that no key made: `case_token` (path), `remark`.
    """

    refs: tuple[str, ...]
    rule: str | None
    invalid: tuple[str, ...]


NO_TOKENS = Tokens((), None, ())
"""Of a delivery that cannot have any."""


class Placement(msgspec.Struct, frozen=True):
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
    if len(registered) > 1 or MORE_CASES in registered:
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
    """Distinct cases that registered links name, without those that were withdrawn."""
    until: dict[str, int] = {}
    for claim in claims:
        if claim.rule == WITHDRAWN:
            until[claim.case_id] = max(claim.at, until.get(claim.case_id, claim.at))
    return tuple(
        dict.fromkeys(
            claim.case_id
            for claim in claims
            if claim.rule == REGISTERED and (claim.case_id not in until or claim.at > until[claim.case_id])
        )
    )


def with_claim(claims: Sequence[Claim], new: Claim) -> list[Claim]:
    """The claims with one more, within their bounds, which depend on what was said and not on its order.

    A link that is registered again renews its time: one claim stands for all registrations of a case.
    """
    others = list(claims)
    if new.rule == REGISTERED:
        again = [claim for claim in claims if claim.rule == REGISTERED and claim.case_id == new.case_id]
        if again:
            newest = max((*again, new), key=lambda claim: claim.at)
            since = min(first_at(claim) for claim in (*again, new))
            new = msgspec.structs.replace(newest, since=since)
            others[others.index(again[0])] = new
            return [claim for claim in others if claim is new or claim not in again]
    others.append(new)
    if new.rule == WITHDRAWN:
        same = sorted((claim.at, claim.source_id) for claim in others if _same_kind(claim, new))
        others = [
            claim for claim in others if not _same_kind(claim, new) or (claim.at, claim.source_id) in same[-WITHDRAWALS_KEPT:]
        ]
    return _with_few_cases(others)


def _same_kind(claim: Claim, other: Claim) -> bool:
    return claim.rule == other.rule and claim.case_id == other.case_id


def _with_few_cases(claims: list[Claim]) -> list[Claim]:
    beyond = set(sorted({claim.case_id for claim in claims} - {MORE_CASES})[CASES_NAMED:])
    if not beyond:
        return claims
    kept = [claim for claim in claims if claim.case_id not in beyond]
    for claim in claims:
        more = Claim(MORE_CASES, claim.rule, MORE_CASES, 0)
        if claim.case_id in beyond and claim.rule != WITHDRAWN and not claim.silenced and more not in kept:
            kept.append(more)
    return kept


def first_at(link: Claim) -> int:
    """When a registered link was registered first."""
    return link.at if link.since is None else link.since


def named_at(claims: Sequence[Claim], case_id: str, *rules: str) -> int:
    """When a case was named last, by one of these rules or by a token that is heard; there must be such a claim.

    Of a case that is registered the newest link always counts.
    """
    wanted = rules or (PATH_TOKEN, REMARK_TOKEN)
    return max(claim.at for claim in claims if claim.case_id == case_id and claim.rule in wanted and not claim.silenced)


def withdrawals(claims: Sequence[Claim], link: Claim) -> list[Claim]:
    """What took a registered link back: the time that each states decides, not the order in which they were read."""
    return [claim for claim in claims if claim.rule == WITHDRAWN and claim.case_id == link.case_id and claim.at >= link.at]


def learned_cases(claims: Sequence[Claim]) -> tuple[str, ...]:
    """Distinct cases that tokens of earlier callbacks named, without those that no one hears."""
    return tuple(
        dict.fromkeys(claim.case_id for claim in claims if claim.rule not in {REGISTERED, WITHDRAWN} and not claim.silenced)
    )


def heard(claims: Sequence[Claim], case_id: str) -> bool:
    """Whether a token for this case is heard: where a link is registered it decides alone.

    The same case is heard, so that it makes no difference which of link and callback is read first.
    """
    return registered_cases(claims) in {(), (case_id,)}

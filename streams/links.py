"""What a link does, registered or brought by a token, and what its withdrawal undoes.

A link is told to its case and takes along the callbacks that waited; a withdrawal is told too, and takes back those that came
by the link. Everything told is derived from the state and from what brought the link, so that it can be told again after a
crash: the state keeps every move with its cause.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

import msgspec

from kybstream.ids import to_micros
from schemas.providers.identity import MAX_SERVICE_ID_LENGTH, is_case_id
from schemas.records import CaseEvent, Link, LinkWithdrawal, Record, WebhookDelivery
from streams import linking
from streams.intake_state import IntakeState, Move, Parked
from streams.linking import Claim, Tokens
from streams.telling import Teller

_TOKEN_RULES = frozenset({linking.PATH_TOKEN, linking.REMARK_TOKEN})
INVALID_LINK = "invalid_link"
MAX_SUBJECT_BYTES = 512
_EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)
_LATEST = datetime(2200, 1, 1, tzinfo=UTC)
"""Times that every table can hold, with a deadline after them."""

_WAITING = frozenset({linking.UNLINKED, linking.CONFLICT, linking.AMBIGUOUS})


def what_is_wrong(statement: Link | LinkWithdrawal) -> str | None:
    """Why a link or its withdrawal cannot be taken, whoever wrote it to the topic; None if it can."""
    at = statement.registered_at if isinstance(statement, Link) else statement.withdrawn_at
    if len(statement.case_id) > MAX_SERVICE_ID_LENGTH:
        return f"the case is longer than {MAX_SERVICE_ID_LENGTH} characters"
    if not is_case_id(statement.case_id):
        return "the case is none of the KYB provider's"
    if len(statement.subject.encode()) > MAX_SUBJECT_BYTES:
        return f"the subject is longer than {MAX_SUBJECT_BYTES} bytes"
    if not _EARLIEST <= at < _LATEST:
        return f"its time is not between {_EARLIEST.year} and {_LATEST.year}"
    if isinstance(statement, Link) and (statement.expected_subjects or 0) < 0:
        return "a number of subjects below 0"
    return None


def intake_link(state: IntakeState, link: Link) -> tuple[IntakeState, list[Record]]:
    """Takes a registered link: tells the case, and moves what waits on the provisional case if the link is the only one.

    The same link again gives the same outputs; links that claim the subject for several cases move nothing, nor does one that
    was withdrawn before it was read.
    """
    state = _copy(state)
    claim = Claim(link.case_id, linking.REGISTERED, link.link_id, to_micros(link.registered_at), link.expected_subjects)
    state.claims = linking.with_claim(state.claims, claim)
    # Of one that is read again nothing waits: it would move what the first time has moved.
    _follow_the_only_link(state, link.link_id)
    teller = Teller(link.tenant, link.subject, link.link_id)
    return state, [teller.link(claim), *_told_of_withdrawals(state, teller, claim), *_told_of_moves(state, teller)]


def intake_withdrawal(state: IntakeState, withdrawal: LinkWithdrawal) -> tuple[IntakeState, list[Record]]:
    """Takes back what was registered of a subject and a case until then; afterwards the remaining claims decide.

    1. Tokens that the link had silenced are heard, if no other link is registered.
    2. Callbacks that came to the case by registration leave it, unless a token names the subject for the same case.
    3. If one registered case remains, they and all that waits on the provisional case go there.
    4. If none remains, each goes where its own token or the subject's earlier ones say, else to the provisional case.

    The same withdrawal again gives the same outputs. Links registered later than it are not concerned.
    """
    state = _copy(state)
    source_id, at = withdrawal.withdrawal_id, to_micros(withdrawal.withdrawn_at)
    claim = Claim(withdrawal.case_id, linking.WITHDRAWN, source_id, at)
    if not _knows(state, source_id):
        state.claims = linking.with_claim(state.claims, claim)
        _hear(state, source_id)
        released = _release(state, withdrawal.case_id, source_id, at)
        if linking.registered_cases(state.claims):
            _follow_the_only_link(state, source_id)
        else:
            _follow_tokens(state, released, source_id, withdrawal.subject)
    teller = Teller(withdrawal.tenant, withdrawal.subject, source_id)
    heard = [each for each in state.claims if each.source_id == source_id and each.rule in _TOKEN_RULES]
    told: list[Record] = [*_withdrawn(state, teller, claim), *map(teller.link, heard), *_told_of_moves(state, teller)]
    return state, told


def token_claim(state: IntakeState, delivery: WebhookDelivery, subject: str, tokens: Tokens) -> list[Record]:
    """Remembers the case that this delivery's token names, and tells it if this delivery was the first to name it."""
    if len(tokens.refs) == 1 and tokens.rule:
        case_id, at = tokens.refs[0], to_micros(delivery.received_at)
        if not any(claim.case_id == case_id and claim.rule in _TOKEN_RULES for claim in state.claims):
            silenced = not linking.heard(state.claims, case_id)
            claim = Claim(case_id, tokens.rule, delivery.delivery_id, at, silenced=silenced)
            state.claims = linking.with_claim(state.claims, claim)
            if linking.learned_cases(state.claims) == (case_id,):
                # A conflict is for people to settle: only a registered link moves it.
                _move_waiting(state, {linking.UNLINKED}, Move(delivery.delivery_id, case_id, tokens.rule, at))
    teller = Teller(delivery.tenant, subject, delivery.delivery_id)
    named = [claim for claim in state.claims if claim.source_id == delivery.delivery_id and not claim.silenced]
    return [*map(teller.link, named), *_told_of_moves(state, teller)]


def _copy(state: IntakeState) -> IntakeState:
    return msgspec.structs.replace(state, claims=list(state.claims), parked=list(state.parked))


def _knows(state: IntakeState, source_id: str) -> bool:
    return any(claim.source_id == source_id for claim in state.claims)


def _follow_the_only_link(state: IntakeState, source_id: str) -> None:
    registered = linking.registered_cases(state.claims)
    if len(registered) == 1 and registered[0] != linking.MORE_CASES:
        at = linking.named_at(state.claims, registered[0], linking.REGISTERED)
        _move_waiting(state, _WAITING, Move(source_id, registered[0], linking.REGISTERED, at))


def _move_waiting(state: IntakeState, rules: Iterable[str], move: Move) -> None:
    for index, callback in enumerate(state.parked):
        if not callback.home and callback.rule in rules and state.may_move:
            state.parked[index] = callback.moved(move)


def _hear(state: IntakeState, source_id: str) -> None:
    known = linking.learned_cases(state.claims)
    for claim in tuple(state.claims):
        if claim.silenced and claim.case_id not in known and linking.heard(state.claims, claim.case_id):
            # A claim of its own: what was told of the silenced one, nothing, must not change.
            state.claims.append(Claim(claim.case_id, claim.rule, source_id, claim.at))


def _release(state: IntakeState, case_id: str, source_id: str, at: int) -> list[int]:
    """Sends callbacks that registration alone keeps on the case back to the provisional one; their places in `parked`."""
    if case_id in {*linking.registered_cases(state.claims), *linking.learned_cases(state.claims)}:
        return []
    released = [
        index for index, callback in enumerate(state.parked) if callback.home == case_id and callback.rule == linking.REGISTERED
    ]
    moved = []
    for index in released:
        if state.may_move:
            callback = state.parked[index]
            rule = linking.CONFLICT if len(callback.refs) > 1 else linking.UNLINKED
            state.parked[index] = callback.moved(Move(source_id, "", rule, at))
            moved.append(index)
    return moved


def _follow_tokens(state: IntakeState, released: list[int], source_id: str, subject: str) -> None:
    """Puts released callbacks where tokens say."""
    for index in released:
        callback = state.parked[index]
        place = linking.place(subject, Tokens(callback.refs, callback.token_rule, ()), state.claims)
        if place.rule in linking.LINKED and place.case_id != linking.MORE_CASES and state.may_move:
            at = linking.named_at(state.claims, place.case_id)
            state.parked[index] = callback.moved(Move(source_id, place.case_id, place.rule, at))


def _told_of_withdrawals(state: IntakeState, teller: Teller, link: Claim) -> Iterable[CaseEvent]:
    """Withdrawals that a link finds: it was withdrawn before it was read, so that nobody has told the case of them."""
    for withdrawal in linking.withdrawals(state.claims, link):
        yield teller.withdrawal(withdrawal, [parked for _, parked in _left(state, withdrawal)])


def _told_of_moves(state: IntakeState, teller: Teller) -> Iterable[CaseEvent]:
    """The callbacks that a link, a token's delivery or a withdrawal moved to a case."""
    moves = [
        (move, parked)
        for parked in state.parked
        for move in parked.moves
        if move.source_id == teller.source_id and move.case_id
    ]
    for target in dict.fromkeys(move.case_id for move, _ in moves):
        moved = [(move, parked) for move, parked in moves if move.case_id == target]
        returned = [parked for move, parked in moved if parked.returns(move)]
        if returned:
            yield teller.returned(moved[0][0], returned)
        for move, parked in moved:
            if not parked.returns(move):  # else the case has it
                yield teller.callback(parked, move)
        yield teller.merge(moved[0][0], [parked for _, parked in moved])


def _withdrawn(state: IntakeState, teller: Teller, withdrawal: Claim) -> Iterable[CaseEvent]:
    # A case that never was registered must not come into being by a withdrawal.
    links = [claim for claim in state.claims if claim.rule == linking.REGISTERED]
    unknown = any(claim.case_id == linking.MORE_CASES for claim in links) and all(
        claim.case_id != withdrawal.case_id for claim in state.claims if claim.rule != linking.WITHDRAWN
    )
    if unknown or any(claim.case_id == withdrawal.case_id and linking.first_at(claim) <= withdrawal.at for claim in links):
        left = _left(state, withdrawal)
        yield teller.withdrawal(withdrawal, [parked for _, parked in left])
        for move, parked in left:
            if not parked.returns(move):
                yield teller.callback(parked, move)
        if left:
            yield teller.back(withdrawal, [parked for move, parked in left if parked.returns(move)])


def _left(state: IntakeState, withdrawal: Claim) -> list[tuple[Move, Parked]]:
    """The callbacks that a withdrawal took back, each with its move to the provisional case."""
    return [
        (move, parked)
        for parked in state.parked
        for move in parked.moves
        if move.source_id == withdrawal.source_id and not move.case_id
    ]

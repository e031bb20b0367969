"""What a link does, registered or brought by a token, and what its withdrawal undoes.

A link is told to its case and takes along the callbacks that waited; a withdrawal is told too, and takes back those that came
by the link. Everything told is derived from the state and from what brought the link, so that it can be told again after a
crash: the state keeps every move with its cause.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from kybstream.ids import to_micros
from schemas.records import CaseEvent, Link, LinkWithdrawal, Record, WebhookDelivery
from streams import linking
from streams.intake_state import IntakeState, Move, Parked
from streams.linking import Claim, Tokens
from streams.telling import Teller

_TOKEN_RULES = frozenset({linking.PATH_TOKEN, linking.REMARK_TOKEN})
_WAITING = frozenset({linking.UNLINKED, linking.CONFLICT, linking.AMBIGUOUS})


def intake_link(state: IntakeState, link: Link) -> tuple[IntakeState, list[Record]]:
    """Takes a registered link: tells the case, and moves what waits on the provisional case if the link is the only one.

    The same link again gives the same outputs; links that claim the subject for several cases move nothing, nor does one that
    was withdrawn before it was read.
    """
    state = _copy(state)
    if not _knows(state, link.link_id):
        state.claims.append(
            Claim(link.case_id, linking.REGISTERED, link.link_id, to_micros(link.registered_at), link.expected_subjects)
        )
        _follow_the_only_link(state, link.link_id)
    return state, list(_told_by(state, link.link_id, link.tenant, link.subject))


def intake_withdrawal(state: IntakeState, withdrawal: LinkWithdrawal) -> tuple[IntakeState, list[Record]]:
    """Takes back what was registered of a subject and a case until then; afterwards the remaining claims decide.

    1. Tokens that the link had silenced are heard, if no other link is registered.
    2. Callbacks that came to the case by registration leave it, unless a token names the subject for the same case.
    3. If one registered case remains, they and all that waits on the provisional case go there.
    4. If none remains, each goes where its own token or the subject's earlier ones say, else to the provisional case.

    The same withdrawal again gives the same outputs. Links registered later than it are not concerned.
    """
    state = _copy(state)
    source_id = withdrawal.withdrawal_id
    if not _knows(state, source_id):
        at = to_micros(withdrawal.withdrawn_at)
        state.claims.append(Claim(withdrawal.case_id, linking.WITHDRAWN, source_id, at))
        _hear(state, source_id)
        released = _release(state, withdrawal.case_id, source_id, at)
        if linking.registered_cases(state.claims):
            _follow_the_only_link(state, source_id)
        else:
            _follow_tokens(state, released, source_id, withdrawal.subject)
    return state, list(_told_by(state, source_id, withdrawal.tenant, withdrawal.subject))


def token_claim(state: IntakeState, delivery: WebhookDelivery, subject: str, tokens: Tokens) -> list[Record]:
    """Remembers the case that this delivery's token names, and tells it if this delivery was the first to name it."""
    if len(tokens.refs) == 1 and tokens.rule:
        case_id, at = tokens.refs[0], to_micros(delivery.received_at)
        if not any(claim.case_id == case_id and claim.rule in _TOKEN_RULES for claim in state.claims):
            silenced = not linking.heard(state.claims, case_id)
            state.claims.append(Claim(case_id, tokens.rule, delivery.delivery_id, at, silenced=silenced))
            if linking.learned_cases(state.claims) == (case_id,):
                # A conflict is for people to settle: only a registered link moves it.
                _move_waiting(state, {linking.UNLINKED}, Move(delivery.delivery_id, case_id, tokens.rule, at))
    return list(_told_by(state, delivery.delivery_id, delivery.tenant, subject))


def _copy(state: IntakeState) -> IntakeState:
    return msgspec.structs.replace(state, claims=list(state.claims), parked=list(state.parked))


def _knows(state: IntakeState, source_id: str) -> bool:
    return any(claim.source_id == source_id for claim in state.claims)


def _follow_the_only_link(state: IntakeState, source_id: str) -> None:
    registered = linking.registered_cases(state.claims)
    if len(registered) == 1:
        at = linking.named_at(state.claims, registered[0], linking.REGISTERED)
        _move_waiting(state, _WAITING, Move(source_id, registered[0], linking.REGISTERED, at))


def _move_waiting(state: IntakeState, rules: Iterable[str], move: Move) -> None:
    for index, callback in enumerate(state.parked):
        if not callback.home and callback.rule in rules:
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
    for index in released:
        callback = state.parked[index]
        rule = linking.CONFLICT if len(callback.refs) > 1 else linking.UNLINKED
        state.parked[index] = callback.moved(Move(source_id, "", rule, at))
    return released


def _follow_tokens(state: IntakeState, released: list[int], source_id: str, subject: str) -> None:
    """Puts released callbacks where tokens say."""
    for index in released:
        callback = state.parked[index]
        place = linking.place(subject, Tokens(callback.refs, callback.token_rule, ()), state.claims)
        if place.rule in linking.LINKED:
            at = linking.named_at(state.claims, place.case_id)
            state.parked[index] = callback.moved(Move(source_id, place.case_id, place.rule, at))


def _told_by(state: IntakeState, source_id: str, tenant: str, subject: str) -> Iterable[CaseEvent]:
    """What a link, a token's delivery or a withdrawal tells: itself, and the callbacks that it moved."""
    teller = Teller(tenant, subject, source_id)
    for claim in state.claims:
        if claim.source_id != source_id or claim.silenced:
            continue
        if claim.rule == linking.WITHDRAWN:
            yield from _withdrawn(state, teller, claim)
            continue
        yield teller.link(claim)
        if claim.rule == linking.REGISTERED:
            # Withdrawn before it was read: then nobody has told the case of the withdrawal.
            for withdrawal in linking.withdrawals(state.claims, claim):
                yield teller.withdrawal(withdrawal, [parked for _, parked in _left(state, withdrawal)])
    moves = [(move, parked) for parked in state.parked for move in parked.moves if move.source_id == source_id and move.case_id]
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
    if any(
        claim.rule == linking.REGISTERED and withdrawal in linking.withdrawals(state.claims, claim) for claim in state.claims
    ):
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

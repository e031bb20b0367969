"""Which deliveries repeat one event: what they have in common, and where that is remembered. Pure."""

from __future__ import annotations

import msgspec

from kybstream.ids import derived_id
from schemas.providers import kyb, kyc
from schemas.providers.body import JsonObject, canonical_digest
from schemas.records import WebhookDelivery
from streams import by_time
from streams.aside import Aside
from streams.intake_state import IntakeState, Occurrence, needed, occurrence_at
from streams.policy import TenantPolicy

OCCURRENCES_KEPT = 32
"""Events in the entry of one fingerprint; more of them have entries by time (`streams.by_time`)."""

_encoder = msgspec.msgpack.Encoder()
_aside_decoder = msgspec.msgpack.Decoder(list[Occurrence])


def fingerprints(
    delivery: WebhookDelivery, entity: str, facts: kyb.KybFacts | kyc.KycFacts, body: JsonObject, policy: TenantPolicy
) -> tuple[str, ...]:
    """What repeats of one event have in common: the last is the event's, those before are what it may be known under.

    Versions before volatile fields took the whole body. What they have judged must be found under that for as long as it can be
    judged again.
    """
    volatile = policy.volatile(delivery.source, delivery.source_kind)
    bodies = [body]
    if not volatile.isdisjoint(body):
        bodies.append({name: value for name, value in body.items() if name not in volatile})
    if isinstance(facts, kyb.KybFacts):
        kind, more = facts.type, facts.status
    else:
        kind, more = facts.kyc_type or "", facts.kyc_level
    return tuple(
        derived_id("fingerprint", delivery.tenant, entity, kind, more or "", canonical_digest(content)) for content in bodies
    )


def known_as(state: IntakeState, fingerprints: tuple[str, ...], now: int, aside: Aside) -> tuple[str, Occurrence | None]:
    """The event that a delivery repeats, and the fingerprint under which it is known; the last one is that of new events."""
    for fingerprint in fingerprints[:-1]:
        if not (state.seen or state.aside_until):
            break
        was_there = fingerprint in state.seen
        _take_from_aside(state, fingerprint, now, aside)
        occurrence = _known(state, fingerprint, now, aside)
        if occurrence is not None:
            return fingerprint, occurrence
        if not was_there:
            state.seen.pop(fingerprint, None)  # its own entry stays as it is
    _take_from_aside(state, fingerprints[-1], now, aside)
    return fingerprints[-1], _known(state, fingerprints[-1], now, aside)


def _known(state: IntakeState, fingerprint: str, now: int, aside: Aside) -> Occurrence | None:
    entry = state.seen.get(fingerprint)
    if not entry:
        return None
    if by_time.is_mark(entry[-1]):
        return occurrence_at(by_time.near(entry, fingerprint, now, aside), now)
    return occurrence_at(entry, now)


def remember(state: IntakeState, fingerprint: str, occurrence: Occurrence, at: int, aside: Aside) -> None:
    """Remembers that a delivery of this event was received `at`, in its entry or, without room, in one by time."""
    entry = state.seen.get(fingerprint)
    if entry is None or len(entry) < OCCURRENCES_KEPT or any(known.event_id == occurrence.event_id for known in entry):
        state.note(fingerprint, occurrence, at)
    else:
        state.seen[fingerprint] = by_time.put(entry, fingerprint, occurrence, at, aside)


def _take_from_aside(state: IntakeState, fingerprint: str, now: int, aside: Aside) -> None:
    """Puts the events of a fingerprint that has an entry of its own among the others.

    Where there is room again they stay there; the entry is outdated then, and expires before them.
    """
    found = aside.get(fingerprint) if state.aside_until and fingerprint not in state.seen else None
    occurrences = needed(read_aside(found), now) if found is not None else None
    if occurrences:
        state.seen[fingerprint] = occurrences


def put_aside(state: IntakeState, fingerprint: str, aside: Aside) -> None:
    """Gives the events of a fingerprint an entry of its own."""
    occurrences = state.seen.pop(fingerprint)
    state.aside_until = max(state.aside_until, *(known.needed_until for known in occurrences))
    aside.put(fingerprint, _encoder.encode(occurrences))


def read_aside(value: bytes) -> list[Occurrence]:
    """The events of a fingerprint that has an entry of its own.

    Raises:
        msgspec.MsgspecError: The value is of another version, or damaged.
    """
    return _aside_decoder.decode(value)

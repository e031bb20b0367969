"""When something of a table's entry expires, and what of it has not: what `streams.timer` and `streams.sweeping` go by.

What is said of cases and persons does not expire: a case's events, and the links of a person, live as long as the tables. A
forgotten case would begin again at version 1, below the versions that consumers have; a forgotten link would send the next
callback of its person to a provisional case. Both grow with cases, not with deliveries.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

import msgspec

from kybstream.settings import KafkaSettings
from streams.aside import is_aside
from streams.batching.due import Due
from streams.cases import absorbed_at
from streams.intake_state import MICROSECOND, REPLAY_MARGIN, IntakeState, needed
from streams.policy import TenantPolicy
from streams.repeats import read_aside

CASE_EXPIRES = 0
"""A case is past its deadline: `streams.timer` sends it its expiry."""

FORGOTTEN = 1
"""Something of an entry is of no use any more: `streams.sweeping` writes what remains of it."""

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(IntakeState)


class _Deadline(msgspec.Struct):
    """What of a case's state says when it expires: the rest is skipped, which takes a fifth of the time."""

    expires_at: int | None = None


_deadline_decoder = msgspec.msgpack.Decoder(_Deadline)


class IntakeRemains:
    """Of the intake's entries: fingerprints within their windows, callbacks that a link may move, and all links."""

    def __init__(self, policies: Mapping[str, TenantPolicy]) -> None:
        self._policies = policies

    def __call__(self, key: bytes, value: bytes, now: int) -> bytes | None:
        """What remains of an entry; one that cannot be read, or is of an unknown tenant, is left alone."""
        try:
            return self._aside(value, now) if is_aside(key) else self._main(key, value, now)
        except msgspec.MsgspecError:
            return value

    def _aside(self, value: bytes, now: int) -> bytes | None:
        occurrences = read_aside(value)
        left = needed(occurrences, now)
        if len(left) == len(occurrences):
            return value
        return _encoder.encode(left) if left else None

    def _main(self, key: bytes, value: bytes, now: int) -> bytes | None:
        policy = self._policies.get(key.partition(b"/")[0].decode(errors="replace"))
        if policy is None:
            return value
        state = _decoder.decode(value)
        left = state.pruned(now, policy.deadline)
        if left.empty:
            return None
        return value if left == state else _encoder.encode(left)


class IntakeDue:
    """When something of an intake's entry expires; never, of one that cannot be read, or is of an unknown tenant."""

    def __init__(self, policies: Mapping[str, TenantPolicy]) -> None:
        self._policies = policies

    def __call__(self, key: bytes, value: bytes) -> Due | None:
        """The first moment at which `IntakeRemains` leaves less of it."""
        try:
            ends = self._of_aside(value) if is_aside(key) else self._of_main(key, value)
        except msgspec.MsgspecError:
            return None
        return Due(FORGOTTEN, min(ends) + 1) if ends else None

    def _of_aside(self, value: bytes) -> list[int]:
        return [known.needed_until for known in read_aside(value)]

    def _of_main(self, key: bytes, value: bytes) -> list[int]:
        policy = self._policies.get(key.partition(b"/")[0].decode(errors="replace"))
        if policy is None:
            return []
        state = _decoder.decode(value)
        ends = [known.needed_until for occurrences in state.seen.values() for known in occurrences]
        parked_for = policy.deadline // MICROSECOND
        ends += [parked.at + parked_for for parked in state.parked if not (parked.moves or parked.case_id)]
        ends += [state.aside_until] if state.aside_until else []
        return [0] if state.empty else ends


class CaseDue:
    """When a case expires, and when the id of an absorbed event is forgotten.

    A state that cannot be read is due at once: the timer tells of it.

    Args:
        kept: How long after its receipt an event may be told again.
    """

    def __init__(self, kept: timedelta) -> None:
        self._kept = kept // MICROSECOND

    def __call__(self, key: bytes, value: bytes) -> Due | None:
        """The deadline of a case that waits, or the first moment at which `CaseRemains` leaves nothing."""
        if is_aside(key):
            at = absorbed_at(value)
            return None if at is None else Due(FORGOTTEN, at + self._kept + 1)
        try:
            deadline = _deadline_decoder.decode(value).expires_at
        except msgspec.MsgspecError:
            deadline = 0
        return None if deadline is None else Due(CASE_EXPIRES, deadline)


class CaseRemains:
    """Of the cases' entries: all but ids of absorbed events of which no topic holds a copy any more.

    Args:
        kept: How long after its receipt an event may be told again.
    """

    def __init__(self, kept: timedelta) -> None:
        self._kept = kept // MICROSECOND

    def __call__(self, key: bytes, value: bytes, now: int) -> bytes | None:
        """What remains of an entry."""
        if not is_aside(key) or (at := absorbed_at(value)) is None:
            return value
        return None if at + self._kept < now else value


def told_again_within(kafka: KafkaSettings) -> timedelta:
    """How long after its receipt an event may be told again: as long as a topic keeps what it was made from, and a margin."""
    kept = kafka.retention_hours
    return timedelta(hours=max(kept.raw, kept.case_events, kept.dead_letters)) + REPLAY_MARGIN

"""What of a table's entry has not expired: the rules by which `streams.sweeping` deletes.

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
from streams.cases import absorbed_at
from streams.intake_state import MICROSECOND, REPLAY_MARGIN, IntakeState, needed
from streams.policy import TenantPolicy
from streams.repeats import read_aside

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(IntakeState)


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

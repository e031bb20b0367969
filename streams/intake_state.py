"""What the intake remembers of one entity key: events it has seen, and, of a KYC subject, where it belongs."""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterable
from datetime import timedelta

import msgspec

from streams.linking import Claim

MICROSECOND = timedelta(microseconds=1)
REPLAY_MARGIN = timedelta(days=7)
"""How far back, by receipt, a delivery may be processed again after a crash and still be judged as it was."""

SEEN_KEPT = 64
"""Events in the state of one key by fingerprint; a case has some twenty, unless a provider has gone mad."""
PARKED_KEPT = 32
"""Callbacks of one subject that links can ever move; what comes after them stays where it is placed first."""
MOVES_KEPT = 128
"""Moves of all callbacks of one subject; after so many each stays where it is."""


class Occurrence(msgspec.Struct, array_like=True):
    """An event that one fingerprint stands for, within its window. Times in microseconds since the epoch.

    All its deliveries were received from `first_at` to `last_at`, and those of no other occurrence were.
    """

    delivery_id: str
    event_id: str
    first_at: int
    last_at: int
    case_id: str
    """Empty: the one of which the key is; older versions wrote that, too."""
    placement: str
    window: int
    flood: bool = False
    """Whether its callback came after so many that no link will move it."""

    @property
    def needed_until(self) -> int:
        """How long a delivery of it may be judged, or judged again."""
        return self.last_at + self.window + REPLAY_MARGIN // MICROSECOND


class Move(msgspec.Struct, array_like=True, frozen=True):
    """That a callback changed its case.

    Attributes:
        source_id: The link, delivery or withdrawal that moved it.
        case_id: Where it went to; empty: back to the provisional case.
        rule: By which rule it belongs there.
        at: When what moved it was said, in microseconds since the epoch.
    """

    source_id: str
    case_id: str
    rule: str
    at: int


class Parked(msgspec.Struct, array_like=True):
    """A callback that may change its case: a link takes it from the provisional case, a withdrawal from the registered one.

    Attributes:
        event_id: Its event.
        at: Its receipt, in microseconds since the epoch.
        status: As in the event.
        kyc_type: As in the event.
        kyc_level: As in the event.
        placement: By which rule it was placed first.
        moves: Where it went from there, in order.
        case_id: Where it was placed first; empty: on the provisional case.
        refs: Cases that its own tokens name.
        token_rule: By which rule the first of them was found.
    """

    event_id: str
    at: int
    status: str | None
    kyc_type: str | None
    kyc_level: str | None
    placement: str
    moves: tuple[Move, ...] = ()
    case_id: str = ""
    refs: tuple[str, ...] = ()
    token_rule: str | None = None

    @property
    def home(self) -> str:
        """Its case; empty: the provisional one."""
        return self.moves[-1].case_id if self.moves else self.case_id

    @property
    def rule(self) -> str:
        """By which rule it is there."""
        return self.moves[-1].rule if self.moves else self.placement

    def returns(self, move: Move) -> bool:
        """Whether it was on the case of this move of it before."""
        return move.case_id in {self.case_id, *(before.case_id for before in self.moves[: self.moves.index(move)])}

    def moved(self, move: Move) -> Parked:
        """The callback after one more move."""
        return msgspec.structs.replace(self, moves=(*self.moves, move))


class IntakeState(msgspec.Struct, omit_defaults=True):
    """State of one entity key.

    Attributes:
        seen: Fingerprint to the events it stands for, in order of receipt: one, unless it came again after its window.
        claims: What said that the subject belongs to a case; empty for KYB.
        parked: Callbacks that went to the provisional case or to a registered one; empty for KYB. At most `PARKED_KEPT`.
        aside_until: Until when some fingerprint has an entry of its own beside this one (`streams.aside`); 0 for none. Those of
            which `seen` has too many (`SEEN_KEPT`) have.
        let_go: Callbacks that `parked` had until nobody linked them in time. Their events are on the provisional case for good,
            so they leave no room for others: else the case would grow with each deadline.
    """

    seen: dict[str, list[Occurrence]] = {}
    claims: list[Claim] = []
    parked: list[Parked] = []
    aside_until: int = 0
    let_go: int = 0

    def pruned(self, now: int, parked_for: timedelta) -> IntakeState:
        """A copy without what is past its time: fingerprints past their window, callbacks parked longer than allowed.

        What may have to be told again after a crash outlasts its time: occurrences by `REPLAY_MARGIN`, and callbacks on a
        case, or moved by a link, as long as the link.
        """
        if not (self.seen or self.claims or self.parked):
            return IntakeState(aside_until=self.aside_until if self.aside_until >= now else 0, let_go=self.let_go)
        oldest_parked = now - parked_for // MICROSECOND
        seen = {print_: needed(occurrences, now) for print_, occurrences in self.seen.items()}
        parked = [parked for parked in self.parked if parked.moves or parked.case_id or parked.at >= oldest_parked]
        return IntakeState(
            seen={print_: occurrences for print_, occurrences in seen.items() if occurrences},
            claims=list(self.claims),
            parked=parked,
            aside_until=self.aside_until if self.aside_until >= now else 0,
            let_go=self.let_go + len(self.parked) - len(parked),
        )

    @property
    def seen_events(self) -> int:
        """How many events its fingerprints stand for: the same alert every quarter of an hour is hundreds in a week."""
        return sum(map(len, self.seen.values()))

    @property
    def may_park(self) -> bool:
        """Whether one more callback of the subject can be moved by links: when others were let go makes no difference."""
        return len(self.parked) + self.let_go < PARKED_KEPT

    @property
    def may_move(self) -> bool:
        """Whether callbacks of the subject may move once more."""
        return sum(len(callback.moves) for callback in self.parked) < MOVES_KEPT

    @property
    def empty(self) -> bool:
        """Whether it says no more than no state would."""
        return not (self.seen or self.claims or self.parked or self.aside_until or self.let_go)

    def note(self, fingerprint: str, occurrence: Occurrence, at: int) -> None:
        """Remembers that a delivery of this occurrence was received `at`."""
        if fingerprint not in self.seen and occurrence.first_at <= at <= occurrence.last_at:
            self.seen[fingerprint] = [occurrence]
            return
        noted = widened(occurrence, at, at)
        others = [known for known in self.seen.get(fingerprint, ()) if known.event_id != noted.event_id]
        insort(others, noted, key=lambda known: known.first_at)
        self.seen[fingerprint] = others


def needed(occurrences: list[Occurrence], now: int) -> list[Occurrence]:
    """Those of which a delivery may still come, or come again."""
    return [known for known in occurrences if known.needed_until >= now]


def occurrence_at(occurrences: Iterable[Occurrence], at: int) -> Occurrence | None:
    """The event of these that a delivery received `at` made or repeats; None when it makes a new one.

    Time alone decides, to both sides of receipt, because spools are emptied late. A delivery lies within the times of its
    occurrence for good: processed again, after later ones, it is judged as it was.

    Args:
        occurrences: In order of their first receipt.
        at: In microseconds since the epoch.
    """
    before: Occurrence | None = None
    after: Occurrence | None = None
    for known in occurrences:
        if known.first_at <= at:
            before = known
        elif after is None:
            after = known
    if before is not None and at - before.last_at <= before.window:
        return before
    return after if after is not None and after.first_at - at <= after.window else None


def widened(occurrence: Occurrence, first_at: int, last_at: int) -> Occurrence:
    """The occurrence with the times of more of its deliveries."""
    first_at, last_at = min(occurrence.first_at, first_at), max(occurrence.last_at, last_at)
    return msgspec.structs.replace(occurrence, first_at=first_at, last_at=last_at)

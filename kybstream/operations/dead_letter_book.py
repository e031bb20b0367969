"""What the topics of dead letters and of replays come to: which letters there are, and what happened to each. Pure.

A dead letter's id follows from what failed and why, so the same record that fails again for the same reason is the same letter,
and one that fails for another reason is another letter that names the first. A letter is *open* until it is replayed, and again
when a copy of its record comes back. Whether a copy succeeded is not known here: its verdict is in the table `deliveries`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime

import msgspec

from kybstream.ids import from_micros
from kybstream.operations.topic_reader import ReadRecord
from schemas.records import DeadLetter, Replay
from schemas.replays import ReplayMark, mark_of


class Failure(msgspec.Struct, frozen=True):
    """One time that a record failed: a dead letter as it lies in Kafka, without the record itself.

    Attributes:
        failed_at: When the dead letter was written, UTC, milliseconds.
        partition: Of the topic of dead letters.
        offset: Likewise.
        letter: Without headers and value.
        mark: What the failed record said of itself, if it was a copy.
    """

    failed_at: datetime
    partition: int
    offset: int
    letter: DeadLetter
    mark: ReplayMark | None

    @property
    def attempt(self) -> int:
        """How many times the record had been replayed as a dead letter when it failed."""
        return self.mark.attempt if self.mark else 0

    @property
    def root(self) -> str:
        """The dead letter with which the record failed for the first time."""
        return (self.mark and self.mark.first_dead_letter_id) or self.letter.dead_letter_id

    @property
    def age(self) -> tuple[str, datetime, int]:
        """Of two failures of one letter, the later one has the greater: originals come before copies."""
        return (self.mark.replay_id if self.mark else "", self.failed_at, self.offset)


class Step(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line of a letter's history: a failure has a stage and a reason, a replay somebody who did it."""

    at: datetime
    attempt: int
    what: str
    dead_letter_id: str
    stage: str | None = None
    reason: str | None = None
    replayed_by: str | None = None
    replay_id: str | None = None


@dataclass
class _Entry:
    failures: list[Failure] = field(default_factory=list)
    replays: dict[str, Replay] = field(default_factory=dict)


@dataclass(frozen=True)
class Letter:
    """A dead letter as it stands now.

    Attributes:
        newest: Its newest failure: what would be replayed.
        failed_at: When the newest failure was told, UTC.
        replays: How many times it was replayed, also under the earlier reasons.
        replayed: Its newest replay, if there was one.
        open: Whether it failed since it was last replayed.
    """

    newest: Failure
    replays: int
    replayed: Replay | None
    open: bool

    @property
    def failed_at(self) -> datetime:
        """When the newest failure was told, UTC."""
        return self.newest.failed_at

    @property
    def letter(self) -> DeadLetter:
        """The dead letter, without headers and value."""
        return self.newest.letter

    @property
    def dead_letter_id(self) -> str:
        """Its id."""
        return self.letter.dead_letter_id


@dataclass(frozen=True)
class Wanted:
    """Which letters are meant. What is None does not matter.

    Attributes:
        reason: The code.
        stage: intake, links, cases or sink.
        tenant: The tenant's name.
        source: The source's name.
        since: Failed at this time or later.
        until: Failed before this time.
        only_open: Failed since the last replay.
    """

    reason: str | None = None
    stage: str | None = None
    tenant: str | None = None
    source: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    only_open: bool = False

    def includes(self, one: Letter) -> bool:
        """Whether this letter is meant."""
        letter = one.letter
        return (
            self.reason in {None, letter.reason}
            and self.stage in {None, letter.stage}
            and self.tenant in {None, letter.tenant}
            and self.source in {None, letter.source}
            and (self.since is None or one.failed_at >= self.since)
            and (self.until is None or one.failed_at < self.until)
            and (one.open or not self.only_open)
        )


class DeadLetterBook:
    """Collects failures and replays, in any order; holds no record's content."""

    def __init__(self) -> None:
        self._entries: dict[str, _Entry] = {}

    def add_failure(self, record: ReadRecord, letter: DeadLetter) -> None:
        """Takes a dead letter as it was read."""
        bare = msgspec.structs.replace(letter, origin_headers={}, origin_value=None)
        mark = mark_of(letter.origin_headers.items())
        failure = Failure(from_micros(record.timestamp_ms * 1000), record.partition, record.offset, bare, mark)
        self._entry(letter.dead_letter_id).failures.append(failure)

    def add_replay(self, replay: Replay) -> None:
        """Takes what was recorded of a replay; of a range's nothing is kept."""
        if replay.dead_letter_id is not None:
            self._entry(replay.dead_letter_id).replays[replay.replay_id] = replay

    def letters(self, wanted: Wanted | None = None) -> list[Letter]:
        """The letters that are meant, the newest failure first."""
        found = [letter for name in self._entries if (letter := self.letter(name)) is not None]
        meant = [letter for letter in found if wanted is None or wanted.includes(letter)]
        return sorted(meant, key=lambda letter: (letter.failed_at, letter.dead_letter_id), reverse=True)

    def letter(self, dead_letter_id: str) -> Letter | None:
        """One letter; None where only its replay is known, since the topic has forgotten it."""
        entry = self._entries.get(dead_letter_id)
        if entry is None or not entry.failures:
            return None
        newest = max(entry.failures, key=lambda failure: failure.age)
        replayed = max(entry.replays.values(), key=lambda replay: replay.replay_id, default=None)
        came_back = newest.mark.replay_id if newest.mark else ""
        return Letter(
            newest=newest,
            replays=max(newest.attempt, (replayed and replayed.attempt) or 0),
            replayed=replayed,
            open=replayed is None or came_back >= replayed.replay_id,
        )

    def history(self, dead_letter_id: str) -> list[Step]:
        """All that is known to have happened to the letter's record, oldest first, also under other reasons."""
        one = self.letter(dead_letter_id)
        if one is None:
            return []
        root = one.newest.root
        steps: dict[tuple[str, str, str], Step] = {}
        for entry in self._entries.values():
            for failure in entry.failures:
                if root in {failure.root, failure.letter.dead_letter_id}:
                    # A worker that crashes may tell the same failure twice.
                    steps.setdefault(("failed", failure.letter.dead_letter_id, failure.age[0]), _failed(failure))
            for replay in entry.replays.values():
                if root in {replay.first_dead_letter_id, replay.dead_letter_id}:
                    steps["replayed", "", replay.replay_id] = _replayed(replay)
        return sorted(steps.values(), key=lambda step: (step.at, step.attempt))

    def _entry(self, dead_letter_id: str) -> _Entry:
        return self._entries.setdefault(dead_letter_id, _Entry())


def _failed(failure: Failure) -> Step:
    letter = failure.letter
    return Step(
        at=failure.failed_at,
        attempt=failure.attempt,
        what="failed",
        dead_letter_id=letter.dead_letter_id,
        stage=letter.stage,
        reason=letter.reason,
        replay_id=failure.mark.replay_id if failure.mark else None,
    )


def _replayed(replay: Replay) -> Step:
    return Step(
        at=replay.replayed_at,
        attempt=replay.attempt or 0,
        what="replayed",
        dead_letter_id=replay.dead_letter_id or "",
        replayed_by=replay.replayed_by,
        replay_id=replay.replay_id,
    )


def next_mark(one: Letter, *, replay_id: str, by: str, at: datetime) -> ReplayMark:
    """The mark of the copy that replays a letter."""
    mark = one.newest.mark
    return ReplayMark(
        replay_id=replay_id,
        replayed_at=at,
        replayed_by=by,
        dead_letter_id=one.dead_letter_id,
        first_dead_letter_id=one.newest.root,
        attempt=one.replays + 1,
        home_key=mark.home_key if mark else None,
    )


def by_position(letters: Iterable[Letter]) -> dict[tuple[int, int], Letter]:
    """The letters by partition and offset of their newest failure."""
    return {(letter.newest.partition, letter.newest.offset): letter for letter in letters}

"""The limit that keeps a bug, or a wrong configuration, from ending as thousands of dead letters.

A lone bad record is normal: it goes to the dead letters and its neighbours go on. When most of what an agent reads comes to
nothing, and no sender is to blame, then going on would be wrong: the worker stops before anything of that batch is told, and
its records are processed once the cause is mended. What counts is `DeadRecord.may_be_ours`; a provider that sends garbage
stops nobody.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from kybstream.errors import RunError
from schemas.providers.body import NO_ENTITY, NOT_AN_OBJECT, NOT_JSON
from streams.batching import BatchResult, DeadRecord, Process, Record, StateReader
from streams.intake import ENTITY_MISMATCH
from streams.rejecting import FAILED, KEY_MISMATCH, UNDECODABLE, UNDECRYPTABLE, UNKNOWN_TENANT

_READ_DIFFERENTLY = "the ingress reads such bodies and the worker does not: run the same version of both"
HINTS: Mapping[str, str] = {
    UNDECODABLE: "does another program write to this topic, or a newer version of ours than the worker's?",
    UNKNOWN_TENANT: "the ingress has a tenant that the worker's configuration lacks: give both the same file",
    KEY_MISMATCH: "does another program write to this topic, or another version of ours?",
    UNDECRYPTABLE: "is a key of encryption.keys another one than at the ingress, under the same id?",
    ENTITY_MISMATCH: "give ingress and worker the same tenants.pseudonym_key and pseudonym_key_version",
    FAILED: "a bug, or a state that another version wrote; a corrected version goes on where this one stopped",
    NOT_JSON: _READ_DIFFERENTLY,
    NOT_AN_OBJECT: _READ_DIFFERENTLY,
    NO_ENTITY: _READ_DIFFERENTLY,
}
"""What to do about a reason that stopped the worker."""


class DeadLetterLimitError(RunError):
    """Too many records cannot be processed for it to be their fault. Nothing of the batch was told, written or committed."""


class Offsets(NamedTuple):
    """A range of a partition's offsets, both ends included."""

    topic: str
    partition: int
    first: int
    last: int

    def overlaps(self, other: Offsets) -> bool:
        """Whether any offset is in both."""
        return self[:2] == other[:2] and self.first <= other.last and other.first <= self.last


class Tally:
    """How much of what was processed last came to nothing: whole batches, the newest ones that make up the window.

    Args:
        share: The share of records that is too much.
        window: Records; fewer than these are never too much.
    """

    def __init__(self, *, share: float, window: int) -> None:
        self._share = share
        self._window = window
        self._batches: OrderedDict[Offsets, tuple[int, Counter[str]]] = OrderedDict()
        self.records = 0
        self.reasons: Counter[str] = Counter()

    def add(self, batch: Offsets, records: int, reasons: Counter[str]) -> None:
        """Counts a batch; what is counted already, because it is processed again, counts once.

        Args:
            batch: Where it is.
            records: How many it has.
            reasons: Why some of them came to nothing.
        """
        for other in [each for each in self._batches if each.overlaps(batch)]:
            self._remove(other)
        self._batches[batch] = records, reasons
        self.records += records
        self.reasons += reasons
        while self.records - self._batches[oldest := next(iter(self._batches))][0] >= self._window:
            self._remove(oldest)

    def exceeded(self) -> bool:
        """Whether it is too much."""
        return self.records >= self._window and self.reasons.total() > self._share * self.records

    def _remove(self, batch: Offsets) -> None:
        records, reasons = self._batches.pop(batch)
        self.records -= records
        self.reasons -= reasons


class Limited:
    """A `Process` that raises instead of dead-lettering too much.

    Args:
        agent: Its name, for the error.
        process: What it runs.
        share: The share of records that is too much; 1 lets everything pass.
        window: Of how many records, the last ones of this agent; fewer never stop it.
    """

    def __init__(self, agent: str, process: Process, *, share: float, window: int) -> None:
        self._agent = agent
        self._process = process
        self._share = share
        self._tally = Tally(share=share, window=window)

    def __call__(self, partition: int, records: Sequence[Record], state: StateReader) -> BatchResult:
        """What `process` says.

        Raises:
            DeadLetterLimitError: With this batch it is too much.
        """
        result = self._process(partition, records, state)
        ours = [dead for dead in result.dead if dead.may_be_ours]
        topic, first, last = records[0].topic, records[0].offset, records[-1].offset
        self._tally.add(Offsets(topic, partition, first, last), len(records), Counter(dead.reason for dead in ours))
        if ours and self._tally.exceeded():
            raise self._error(f"topic {topic} partition {partition} offsets {first} to {last}", ours)
        return result

    def _error(self, where: str, ours: Sequence[DeadRecord]) -> DeadLetterLimitError:
        tally = self._tally
        dead = tally.reasons.total()
        reason, times = tally.reasons.most_common(1)[0]
        example = next((each for each in ours if each.reason == reason and each.detail), None)
        detail = f": {example.detail}" if example else ""
        return DeadLetterLimitError(
            f"the {self._agent} cannot process {dead} of the last {tally.records} records (a share of "
            f"{dead / tally.records:.2f}, the limit is {self._share:g}), {times} of them for {reason}{detail}; it stopped at "
            f"{where}, of which nothing is told or committed",
            hint=HINTS.get(reason),
        )

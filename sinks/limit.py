"""The limit that keeps a bug, or a table of another version, from ending as thousands of dead letters. Pure.

A lone record that ClickHouse rejects is normal: it goes to the dead letters and its neighbours land. When most are rejected it
is no record's fault, and the sink stops. The records are found one by one, in their order, and each is in the dead letters
before anything behind it lands: so at most `share` of one `window` get there before the stop, and then again at each start.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Mapping, Sequence

from kybstream.errors import RunError
from sinks.framing import Unframable

_ROUNDING = 1e-9  # 0.29 * 100 is a little less than 29
REJECTED = "rejected_by_clickhouse"
_STRANGER = "does another program write to this topic?"
HINTS: Mapping[str, str] = {
    REJECTED: "is the table another than this version makes it, or does it have a constraint or a view of yours that refuses? "
    "Mend it and start the sink again: it goes on where it stopped",
    "unknown_schema": "is the worker or the ingress of a newer version? Run the same version of all",
    "bad_body": "a bug, or a stranger: " + _STRANGER,
    "not_avro": _STRANGER,
    "wrong_record": _STRANGER,
    "no_value": _STRANGER,
}
"""What to do about a reason that stopped the sink."""


class RejectionLimitError(RunError):
    """Too many records cannot be rows for it to be their fault. The one it names, and all behind it, are still to be done."""


class RejectionLimit:
    """Counts the records of one table, in the order in which they are taken, and where among them the rejected ones are.

    Args:
        table: Its name, for the error.
        share: The share of rejected records that is too much; 1 lets everything pass.
        window: Of how many neighbours.
    """

    def __init__(self, table: str, *, share: float, window: int) -> None:
        self._table = table
        self._share = share
        self._window = window
        self._most = int(share * window + _ROUNDING)
        self._taken = 0
        self._rejected: list[int] = []

    def begin(self, records: int) -> int:
        """Takes a batch in; gives the number of its first record, counted from the start of the process."""
        first = self._taken
        self._taken += records
        del self._rejected[: bisect_left(self._rejected, first - self._window)]
        return first

    def reject(self, numbers: Sequence[int], why: Sequence[Unframable]) -> None:
        """Counts records of a batch that is taken in; to be called before they go to the dead letters.

        Args:
            numbers: Of the records: the batch's first number, and their places in it.
            why: The records.

        Raises:
            RejectionLimitError: Of some `window` neighbours more than the share is now rejected.
        """
        for number in numbers:
            insort(self._rejected, number)
            if self._exceeded_around(bisect_left(self._rejected, number)):
                raise self._error(why)

    def _exceeded_around(self, index: int) -> bool:
        """Whether any window that holds this rejected record holds too many."""
        spans = range(max(0, index - self._most), min(index, len(self._rejected) - 1 - self._most) + 1)
        return any(self._rejected[start + self._most] - self._rejected[start] < self._window for start in spans)

    def _error(self, why: Sequence[Unframable]) -> RejectionLimitError:
        reason, times = Counter(each.reason for each in why).most_common(1)[0]
        example = next(each for each in why if each.reason == reason)
        place = example.message
        return RejectionLimitError(
            f"more than {self._share:g} of {self._window} neighbouring records cannot become rows of {self._table}, "
            f"{times} of them just now for {reason}: {example.detail}; it stopped at topic {place.topic} partition "
            f"{place.partition} offset {place.offset}, which is still to be written",
            hint=HINTS.get(reason),
        )

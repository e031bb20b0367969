"""Events of one fingerprint beyond those that its entry holds: in entries of their own, each for a stretch of time. Pure.

The same alert may come again just after its window for as long as the intake remembers one. Events of one window lie further
apart than it, so a stretch of `STRETCH` windows has at most so many, however short the window is and however fast they come.
A delivery concerns the stretches within one window of its receipt: at most two entries are read, and at most two written.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta

import msgspec

from streams.aside import Aside
from streams.intake_state import MICROSECOND, Occurrence, needed, widened

STRETCH = 32
"""Windows in one entry."""

_BY_TIME = "by_time"
_NEVER = 2**62
_OUTLIVES = timedelta(days=1) // MICROSECOND
"""How much longer a mark is kept than what it stands for, so that not each event renews it."""

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(list[Occurrence])


def is_mark(occurrence: Occurrence) -> bool:
    """Whether this is no event, but says that there are stretches of its window. It sorts last and is repeated by nothing."""
    return occurrence.placement == _BY_TIME


def near(entry: Sequence[Occurrence], fingerprint: str, at: int, aside: Aside) -> list[Occurrence]:
    """The events of an entry and of its stretches that a delivery received `at` can repeat, in order of first receipt."""
    found = {known.event_id: known for known in entry if not is_mark(known)}
    for mark in filter(is_mark, entry):
        for stretch in _stretches(mark.window, at):
            for known in _read(aside, _name(fingerprint, mark.window, stretch)):
                # One that lies in several stretches grows only in those near to its deliveries.
                other = found.get(known.event_id, known)
                found[known.event_id] = widened(known, other.first_at, other.last_at)
    return sorted(found.values(), key=lambda known: known.first_at)


def put(entry: Iterable[Occurrence], fingerprint: str, occurrence: Occurrence, at: int, aside: Aside) -> list[Occurrence]:
    """Notes a delivery received `at` of an event in the stretches near it; returns the entry with the mark that it needs."""
    noted, window = widened(occurrence, at, at), occurrence.window
    length = _length(window)
    for stretch in _stretches(window, at):
        if noted.first_at < (stretch + 1) * length and noted.last_at >= stretch * length:
            name = _name(fingerprint, window, stretch)
            others = [known for known in _read(aside, name) if known.event_id != noted.event_id]
            aside.put(name, _encoder.encode([*needed(others, at), noted]))
    marks = [known for known in entry if is_mark(known) and known.window == window]
    if marks and marks[0].last_at >= noted.last_at:
        return list(entry)
    mark = Occurrence("", f"{_BY_TIME}:{window}", _NEVER, noted.last_at + _OUTLIVES, "", _BY_TIME, window)
    return [*(known for known in entry if known not in marks), mark]


def _read(aside: Aside, name: str) -> list[Occurrence]:
    value = aside.get(name)
    return [] if value is None else _decoder.decode(value)


def _length(window: int) -> int:
    return STRETCH * max(window, 1)


def _stretches(window: int, at: int) -> list[int]:
    length = _length(window)
    return sorted({(at - window) // length, at // length, (at + window) // length})


def _name(fingerprint: str, window: int, stretch: int) -> str:
    return f"{fingerprint}:{window}:{stretch}"

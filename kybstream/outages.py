"""One outage, few lines: when it begins, once a minute, and when it ends, instead of every failed attempt.

While Kafka is away its client logs some hundred lines a second. A component wraps its work in `telling_outages`. Meanwhile
the lines that belong to the outage are counted and not written: warnings and errors of the client's loggers, and events of
our own that say `outage=NAME`. At `--debug` all of them are written.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

import structlog

from kybstream.errors import KybStreamError

EVERY_SECONDS = 60.0
"""Between two lines of an outage that goes on."""

BRIEF_SECONDS = 1.0
"""Trouble that is over so soon is no outage: its first line is written, as it came, and no more."""

QUIET_SECONDS = 2.0
"""An outage has not ended before it was quiet for so long."""

_LOOK_SECONDS = 0.5
_ANSWER_SECONDS = 5.0
_TEXT = 200
_KINDS = 5

log = structlog.get_logger(__name__)

Answers = Callable[[], Awaitable[bool]]
"""Whether the service does what it is needed for; may raise errors of ours, of Kafka's and of the network."""


class Entry(NamedTuple):
    """A line to write.

    Attributes:
        event: `outage_began`, `outage_goes_on` or `outage_ended`.
        fields: What it says.
    """

    event: str
    fields: dict[str, object]


class Outage:
    """The outages of one service. Pure: it is told the time, in seconds of a monotonic clock."""

    def __init__(self) -> None:
        self._state: _State | None = None

    def symptom(self, now: float, kind: str, text: str, *, begins: bool = True) -> tuple[bool, Entry | None]:
        """Take note of a line.

        Args:
            now: The time.
            kind: Lines alike have the same.
            text: The line.
            begins: Whether it means trouble by itself; otherwise it belongs to an outage only while there is one.

        Returns:
            Whether the line is held back, and what to write instead, if anything. The first one is not held back.
        """
        state = self._state
        if state is None:
            if begins:
                self._state = _State(began=now, last=now)
            return False, None
        state.last = now
        state.held += 1
        if len(state.kinds) < _KINDS:
            state.kinds.add(kind)
        if state.said is None and now - state.began >= BRIEF_SECONDS:
            state.said = now
            return True, Entry("outage_began", {"reason": text[:_TEXT]})
        return True, None

    def turn(self, now: float) -> Entry | None:
        """Return what to write of an outage that goes on, when it is time."""
        state = self._state
        if state is None or state.said is None or now - state.said < EVERY_SECONDS:
            return None
        state.said = now
        return Entry("outage_goes_on", state.summary(now))

    def quiet(self, now: float) -> bool:
        """Tell whether an outage may have ended."""
        return self._state is not None and now - self._state.last >= QUIET_SECONDS

    def end(self, now: float) -> Entry | None:
        """End it: the service answers. Returns what to write; nothing of trouble that was brief."""
        state, self._state = self._state, None
        return None if state is None or state.said is None else Entry("outage_ended", state.summary(now))


@dataclass
class _State:
    began: float
    last: float
    said: float | None = None
    held: int = 0
    kinds: set[str] = field(default_factory=set)

    def summary(self, now: float) -> dict[str, object]:
        return {"seconds": round(now - self.began, 1), "lines_held_back": self.held, "kinds": sorted(self.kinds)}


class _Told(NamedTuple):
    outage: Outage
    begins: tuple[str, ...]
    belongs: tuple[str, ...]


class OutageFilter(logging.Filter):
    """Holds back the lines of outages that are being told; for a handler, since a logger's filter sees only its own lines."""

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()
        self._told: dict[str, _Told] = {}

    def tell(self, name: str, begins: Collection[str], belongs: Collection[str]) -> Outage:
        """Begin to hold back the lines of a service."""
        outage = Outage()
        self._told[name] = _Told(outage, tuple(begins), tuple(belongs))
        return outage

    def forget(self, name: str) -> None:
        """Let all lines pass again."""
        self._told.pop(name, None)

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a line is written."""
        if record.levelno not in (logging.WARNING, logging.ERROR):
            return True
        for name, told in tuple(self._told.items()):
            begins = _belongs(record, name, told)
            if begins is None:
                continue
            kind, text = _words(record)
            with self._lock:
                held, entry = told.outage.symptom(time.monotonic(), kind, text, begins=begins)
            if entry is not None:
                log.warning(entry.event, service=name, **entry.fields)
            if held:
                return False
        return True


FILTER = OutageFilter()
"""Of this process: `kybstream.telemetry` gives it to the log's handler."""


def _belongs(record: logging.LogRecord, name: str, told: _Told) -> bool | None:
    """Whether the line may begin an outage of this service; None when it is not about it."""
    if isinstance(record.msg, dict):  # an event of ours
        return True if record.msg.get("outage") == name else None
    error = record.exc_info[1] if record.exc_info else None
    if error is not None and not isinstance(error, OSError | TimeoutError) and not hasattr(error, "retriable"):
        return None  # nobody foresaw it: it is worth its traceback
    library = record.name.partition(".")[0]
    if library in told.begins:
        return "rebalanc" not in str(record.msg)
    return False if library in told.belongs else None


def _words(record: logging.LogRecord) -> tuple[str, str]:
    if isinstance(record.msg, dict):
        event = str(record.msg.get("event"))
        return event, f"{event}: {record.msg.get('error', '')}"
    return f"{record.name}: {record.msg}"[:_TEXT], record.getMessage()


@asynccontextmanager
async def telling_outages(
    name: str, answers: Answers, *, begins: Collection[str] = (), belongs: Collection[str] = ()
) -> AsyncIterator[None]:
    """Tell the outages of a service in a few lines while the block runs.

    Args:
        name: Of the service; events of ours that are about it say `outage=NAME`.
        answers: Asked when nothing was heard of an outage for a while: does the service work again?
        begins: Libraries, whose warnings and errors mean that there is an outage.
        belongs: Libraries whose warnings and errors are part of one, while there is one.
    """
    outage = FILTER.tell(name, begins, belongs)

    async def look() -> None:
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            entry = outage.turn(time.monotonic())
            if entry is None and outage.quiet(time.monotonic()) and await _well(answers) and outage.quiet(time.monotonic()):
                entry = outage.end(time.monotonic())
            if entry is not None:
                log.warning(entry.event, service=name, **entry.fields)

    looking = asyncio.create_task(look(), name=f"outages of {name}")
    try:
        yield
    finally:
        FILTER.forget(name)
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)


async def _well(answers: Answers) -> bool:
    try:
        async with asyncio.timeout(_ANSWER_SECONDS):
            return await answers()
    except (KybStreamError, OSError, TimeoutError):
        return False

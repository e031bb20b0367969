"""The stuck detector: a thread that sees when nothing goes on, says where everything stands, and in the end gives up.

A thread, because an event loop that is blocked cannot look at itself. It sees nothing only while native code holds Python's
lock; then the health pages do not answer either.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import NamedTuple

import structlog

from kybstream.stacks import task_stacks, thread_stacks

LOOK_SECONDS = 1.0

log = structlog.get_logger(__name__)


class Stall(NamedTuple):
    """Nothing goes on.

    Attributes:
        seconds: For how long.
        reason: What does not, for people; holds no value of a record.
    """

    seconds: float
    reason: str


class Watchdog:
    """Looks at `stall` until it is stopped. Logs all stacks once for each stall, and its end.

    Args:
        stall: What stalls for too long, if anything does; is called in the watchdog's thread.
        give_up_after: Seconds of one stall, after which `give_up` is called, once.
        give_up: Ends the process; is called in the watchdog's thread.
        look_seconds: Between two looks.
    """

    def __init__(
        self,
        stall: Callable[[], Stall | None],
        *,
        give_up_after: float,
        give_up: Callable[[Stall], None],
        look_seconds: float = LOOK_SECONDS,
    ) -> None:
        self._stall = stall
        self._give_up_after = give_up_after
        self._give_up = give_up
        self._look_seconds = look_seconds
        self._stopped = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def start(self) -> None:
        """Begins; to be called in the event loop that is watched."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    def stop(self) -> None:
        """Ends; returns at once."""
        self._stopped.set()

    def _watch(self) -> None:
        worst: Stall | None = None
        gave_up = False
        while not self._stopped.wait(self._look_seconds):
            stall = self._stall()
            if stall is None:
                if worst is not None:
                    log.warning("stall_ended", seconds=round(worst.seconds, 1), reason=worst.reason)
                worst, gave_up = None, False
                continue
            if worst is None:
                self._log_stacks(stall)
            worst = stall
            if stall.seconds >= self._give_up_after and not gave_up:
                gave_up = True
                log.error("giving_up", seconds=round(stall.seconds, 1), reason=stall.reason)
                self._give_up(stall)

    def _log_stacks(self, stall: Stall) -> None:
        tasks = task_stacks(self._loop) if self._loop is not None else []
        log.error("stalled", seconds=round(stall.seconds, 1), reason=stall.reason, threads=thread_stacks(), tasks=tasks)

"""Starts the processes of the embedded stack in order, watches them, and ends them in reverse order, all of them.

Each child leads a session of its own, so a terminal's Ctrl-C reaches only the parent, which then stops the children in the
right order. On Linux they end with the parent even when it is SIGKILLed (`tether.py`).

A child's own children are its own to end; whatever is left of its process group when it has ended is SIGKILLed.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import structlog

from deploy.embedded.child_log import describe_exit, open_log, telling_line_of
from deploy.embedded.memory import groups_rss_bytes
from deploy.embedded.tether import tethered
from kybstream.errors import RunError

_log = structlog.get_logger(__name__)

STOP_SECONDS = 9.0
"""What stopping everything takes at most, SIGKILLs included: a container gets 10 s from `docker stop`."""

_PROBE_INTERVAL_SECONDS = 0.05
_SAMPLE_INTERVAL_SECONDS = 0.5
_REAP_SECONDS = 0.5  # kept back of STOP_SECONDS for the exits that follow SIGKILLs


@dataclass(frozen=True, slots=True, kw_only=True)
class Child:
    """A process to run.

    Attributes:
        name: What people call it, as in "the broker".
        argv: The command.
        ready: Whether it serves; asked again and again until it says yes. May raise OSError for "not yet".
        log_path: Where its output is appended.
        env: Its whole environment; None for the parent's.
        cwd: Its working directory; None for the parent's.
        ready_seconds: How long it may take to become ready.
        grace_seconds: How long it may take to end after SIGTERM (less if all children together exceed the stop budget).
        orphan_signal: What it gets when the parent ends without stopping it (Linux).
    """

    name: str
    argv: Sequence[str]
    ready: Callable[[], Awaitable[bool]]
    log_path: Path
    env: Mapping[str, str] | None = field(default=None, repr=False)  # may hold secrets
    cwd: Path | None = None
    ready_seconds: float = 60.0
    grace_seconds: float = 5.0
    orphan_signal: signal.Signals = signal.SIGKILL


@dataclass(frozen=True, slots=True)
class _Running:
    child: Child
    process: asyncio.subprocess.Process
    log_start: int
    exited: asyncio.Task[int]


class Supervisor:
    """A set of running children. Use it as `async with Supervisor() as stack:`; leaving the block stops all.

    Belongs to one event loop, and is used once: after `stop` nothing more can be started.
    """

    def __init__(self, *, stop_seconds: float = STOP_SECONDS) -> None:
        self._stop_seconds = stop_seconds
        self._running: list[_Running] = []
        self._stopping = False
        self._stop_lock = asyncio.Lock()
        self._first_exit: asyncio.Future[tuple[str, int]] | None = None
        self._sampler: asyncio.Task[None] | None = None
        self._peak_rss_bytes = 0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    @property
    def peak_rss_bytes(self) -> int:
        """The highest resident memory, in bytes, of all children (and theirs) together, sampled twice a second."""
        return self._peak_rss_bytes

    @property
    def pids(self) -> dict[str, int]:
        """The process ids of the children that run now, by name."""
        return {running.child.name: running.process.pid for running in self._running if not running.exited.done()}

    async def start(self, *children: Child) -> None:
        """Starts children together and returns when all are ready.

        On any failure, cancellation included, everything is stopped first, in reverse order.

        Raises:
            RunError: One cannot be run, ended, or was not ready in time; or an earlier child ended meanwhile. The message
                names the child, how it ended, and the line of its log that explains it.
        """
        try:
            # The time of each begins when those before it are ready: they share the cores while they start.
            for running in [await self._spawn(child) for child in children]:
                await self._until_ready(running)
                _log.info("child_ready", child=running.child.name, pid=running.process.pid)
        except BaseException:
            await self.stop()
            raise

    async def wait_any_exit(self) -> tuple[str, int]:
        """Waits until a child ends unasked, and returns its name and exit code (negative: the signal that ended it)."""
        return await asyncio.shield(self._exit_future())

    async def stop(self) -> None:
        """Ends all children in reverse order: SIGTERM, then SIGKILL when the grace is over. In all at most `stop_seconds`.

        Idempotent, and safe to call from several tasks. If it is cancelled, what still runs is SIGKILLed at once.
        """
        self._stopping = True
        async with self._stop_lock:
            self._sample()
            if self._sampler is not None:
                self._sampler.cancel()
            loop = asyncio.get_running_loop()
            deadline = loop.time() + self._stop_seconds - _REAP_SECONDS
            try:
                while self._running:
                    grace = _fair_share([each.child.grace_seconds for each in self._running], deadline - loop.time())
                    await _end(self._running[-1], grace)
                    self._running.pop()
            except BaseException:
                for running in self._running:
                    _signal_group(running.process.pid, signal.SIGKILL)
                raise

    async def _spawn(self, child: Child) -> _Running:
        if self._stopping:
            raise RunError(f"{child.name} was not started: everything is being stopped")
        log, log_start = open_log(child.log_path)
        with log:
            try:
                process = await asyncio.create_subprocess_exec(
                    *tethered(child.argv, orphan_signal=child.orphan_signal),
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env=None if child.env is None else dict(child.env),
                    cwd=child.cwd,
                    start_new_session=True,
                )
            except OSError as error:
                raise RunError(f"{child.name} cannot be run: {error.strerror} ({error.filename})") from None
        running = _Running(child, process, log_start, asyncio.create_task(self._watch(child, process)))
        self._running.append(running)
        if self._sampler is None:
            self._sampler = asyncio.create_task(self._sample_often())
        _log.debug("child_started", child=child.name, pid=process.pid)
        return running

    async def _watch(self, child: Child, process: asyncio.subprocess.Process) -> int:
        code = await process.wait()
        # At once, as long as nobody else can have been given the process id.
        _signal_group(process.pid, signal.SIGKILL)
        if not self._stopping:
            _log.info("child_ended", child=child.name, pid=process.pid, code=code)
            if not self._exit_future().done():
                self._exit_future().set_result((child.name, code))
        return code

    async def _until_ready(self, running: _Running) -> None:
        probe = asyncio.create_task(_poll(running.child.ready))
        try:
            awaited: list[asyncio.Future[Any]] = [probe, running.exited, self._exit_future()]
            await asyncio.wait(awaited, timeout=running.child.ready_seconds, return_when=asyncio.FIRST_COMPLETED)
            if self._exit_future().done():
                name, code = self._exit_future().result()
                raise self._failure(name, f"ended with {describe_exit(code)}")
            if self._stopping:
                raise RunError(f"{running.child.name} was stopped while it started")
            if not probe.done():
                raise self._failure(running.child.name, f"was not ready after {running.child.ready_seconds:.0f} s")
            probe.result()  # raises what the probe raised
        finally:
            probe.cancel()

    def _failure(self, name: str, what: str) -> RunError:
        running = next(each for each in reversed(self._running) if each.child.name == name)
        reason = telling_line_of(running.child.log_path, since=running.log_start)
        return RunError(f"{name} {what}{f': {reason}' if reason else ''}", hint=f"its log is {running.child.log_path}")

    def _exit_future(self) -> asyncio.Future[tuple[str, int]]:
        if self._first_exit is None:  # made late, so that a Supervisor can be made outside a running loop
            self._first_exit = asyncio.get_running_loop().create_future()
        return self._first_exit

    async def _sample_often(self) -> None:
        while True:
            self._sample()
            await asyncio.sleep(_SAMPLE_INTERVAL_SECONDS)

    def _sample(self) -> None:
        groups = {running.process.pid for running in self._running if not running.exited.done()}
        self._peak_rss_bytes = max(self._peak_rss_bytes, groups_rss_bytes(groups))


async def _poll(ready: Callable[[], Awaitable[bool]]) -> None:
    while True:
        with suppress(OSError):
            if await ready():
                return
        await asyncio.sleep(_PROBE_INTERVAL_SECONDS)


def _fair_share(graces: Sequence[float], seconds_left: float) -> float:
    """The grace of the last of `graces`: what it asks for, or less, so that each of the others gets its proportion too.

    The broker is stopped last and saves its data then: slow children before it must not eat up its time.
    """
    return min(graces[-1], max(0.0, seconds_left) * graces[-1] / (sum(graces) or 1.0))


async def _end(running: _Running, grace_seconds: float) -> None:
    if not running.exited.done():
        _signal(running.process.pid, signal.SIGTERM)
        _signal(running.process.pid, signal.SIGCONT)  # a stopped process would not see it
        await asyncio.wait({running.exited}, timeout=grace_seconds)
    if not running.exited.done():
        _log.warning("child_killed", child=running.child.name, grace_seconds=round(grace_seconds, 1))
        _signal_group(running.process.pid, signal.SIGKILL)
        await running.exited


def _signal(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def _signal_group(group: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):  # macOS: "not permitted" for a group of zombies
        os.killpg(group, number)

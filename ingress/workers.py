"""Several ingress processes on one port, started and watched by a small parent that takes no request itself.

The parent holds a listening socket for each worker for as long as it lives itself, so a worker that ends, in whatever way,
takes no connection with it: those that wait at its door are let in by another worker, which the parent tells to stand in, and
then by its successor.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import structlog

from ingress import seat as lines
from ingress.seat import Seat
from ingress.sockets import Door, close, port_of, take_port, url_of
from kybstream.errors import ConfigurationError
from kybstream.settings import IngressSettings

LAST_PORT = 65535

STOP_MARGIN_SECONDS = 20.0
"""What a worker may need to end besides `ingress.shutdown_seconds`; then it is killed."""

START_SECONDS = 60.0
"""How long a process may take until it serves, and the check before a restart until it ends; then it is killed."""

FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 10.0
"""Between the end of a worker and its next start; doubled each time it ends within this time."""

_log = structlog.get_logger(__name__)

Command = Callable[[Seat], Sequence[str]]


@dataclass(slots=True, eq=False)
class _Worker:
    """One of them, through all its processes.

    Attributes:
        index: Its number.
        process: The present one.
        line: To the present one.
        serving: Whether it lets in whoever comes to its door.
        stand_in: Who does when it does not.
        renewal: Set while it is being renewed; tells whether its successor serves.
    """

    index: int
    process: asyncio.subprocess.Process | None = None
    line: asyncio.StreamWriter | None = None
    serving: bool = False
    stand_in: _Worker | None = field(default=None, repr=False)
    renewal: asyncio.Future[bool] | None = None

    def tell(self, message: bytes) -> None:
        if self.line is not None:
            self.line.write(message)


class Workers:
    """The workers of one ingress. Used once.

    Args:
        ingress: Where to listen, and how long a graceful end takes.
        count: How many; at least 2.
        command: What starts the worker of a seat: it is to `serve` there.
        check: A command that fails when new processes would not start as things are; run before any is renewed. A process of
            its own, because the program may have been replaced by a newer version since the parent has started.
    """

    def __init__(self, ingress: IngressSettings, count: int, *, command: Command, check: Sequence[str]) -> None:
        if ingress.metrics_port is not None and ingress.metrics_port + count - 1 > LAST_PORT:
            raise ConfigurationError(f"ingress.metrics_port: there are no {count} ports from {ingress.metrics_port} on")
        self._ingress = ingress
        self._command = command
        self._check = check
        self._doors: list[Door] = []
        self._workers = [_Worker(index) for index in range(count)]
        self._stopping = False

    async def run(self, *, stop: asyncio.Event, renew: asyncio.Event, ready: Callable[[str], None]) -> int:
        """Runs them until `stop` is set; returns the exit code.

        A worker that ends is started again. The first is started alone, so that what is wrong with the configuration is said
        once: a worker that does not start at the beginning ends all, and its exit code is returned.

        Args:
            stop: Ends them gracefully.
            renew: When set, and cleared again, each is replaced by a new process, one after the other.
            ready: Called with the URL once all of them listen.

        Raises:
            RunError: The port is in use.
            OSError: A process cannot be made.
        """
        ingress = self._ingress
        self._doors = take_port(ingress.host, ingress.port, processes=len(self._workers), join=ingress.reuse_port)
        url = url_of(ingress.host, self._doors[0])
        running = asyncio.create_task(self._run(renew, lambda: ready(url)))
        stopping = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait({running, stopping}, return_when=asyncio.FIRST_COMPLETED)
            return running.result() if running.done() else 0
        finally:
            self._stopping = True
            for task in (running, stopping):
                task.cancel()
            await asyncio.gather(running, stopping, return_exceptions=True)
            await self._end_all()

    async def _run(self, renew: asyncio.Event, ready: Callable[[], None]) -> int:
        first, *others = self._workers
        codes = [await self._start(first)]
        if codes == [None]:
            codes += await asyncio.gather(*(self._start(worker) for worker in others))
        failed = next((code for code in codes if code is not None), None)
        if failed is not None:
            return failed or 1
        _log.info("ingress_workers_listening", workers=len(self._workers), port=port_of(self._doors[0]))
        ready()
        async with asyncio.TaskGroup() as tasks:
            for worker in self._workers:
                tasks.create_task(self._keep(worker))
            tasks.create_task(self._renew_when_asked(renew))
        return 0

    async def _start(self, worker: _Worker) -> int | None:
        """Starts a process and waits until it serves; its exit code if it ended instead."""
        ours, theirs = socket.socketpair()
        ours.settimeout(0)
        seat = Seat(
            worker.index,
            len(self._workers),
            tuple(tuple(each.fileno() for each in door) for door in self._doors),
            theirs.fileno(),
        )
        try:
            with theirs:
                worker.process = await asyncio.create_subprocess_exec(
                    *self._command(seat),
                    stdin=asyncio.subprocess.DEVNULL,
                    pass_fds=(*(descriptor for door in seat.doors for descriptor in door), seat.line),
                    start_new_session=True,  # a terminal's Ctrl-C is for the parent
                )
            reader, worker.line = await asyncio.open_unix_connection(sock=ours)
        except BaseException:
            ours.close()
            raise
        said = b""
        with suppress(ConnectionError, TimeoutError):
            async with asyncio.timeout(START_SECONDS):
                said = await reader.read(1)
        if said != lines.READY:
            return await self._not_started(worker.index, worker.process)
        self._set_serving(worker, serving=True)
        _log.info("ingress_worker_ready", worker=worker.index, pid=worker.process.pid)
        return None

    async def _not_started(self, index: int, process: asyncio.subprocess.Process) -> int:
        """The exit code of a process that has ended before it served, or hangs and is killed."""
        with suppress(TimeoutError):
            async with asyncio.timeout(FIRST_PAUSE_SECONDS):
                return await process.wait()
        _log.error("ingress_worker_hangs", worker=index, pid=process.pid, seconds=START_SECONDS)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        return await process.wait()

    async def _keep(self, worker: _Worker) -> None:
        """Starts the worker again whenever it has ended."""
        loop = asyncio.get_running_loop()
        pause, started = FIRST_PAUSE_SECONDS, loop.time()
        while worker.process is not None:
            code = await worker.process.wait()
            self._set_serving(worker, serving=False)
            if worker.renewal is None:
                if loop.time() - started > LONGEST_PAUSE_SECONDS:
                    pause = FIRST_PAUSE_SECONDS
                _log.warning("ingress_worker_ended", worker=worker.index, code=code, starts_again_in=round(pause, 1))
                await asyncio.sleep(pause)
                pause = min(pause * 2, LONGEST_PAUSE_SECONDS)
            if worker.line is not None:
                worker.line.close()
            started = loop.time()
            try:
                failed = await self._start(worker)
            except OSError as error:  # no process or no descriptor to be had; later perhaps
                _log.warning("ingress_worker_not_started", worker=worker.index, error=error.strerror)
                failed = 1
            renewal, worker.renewal = worker.renewal, None
            if renewal is not None:
                renewal.set_result(failed is None)

    async def _renew_when_asked(self, renew: asyncio.Event) -> None:
        while True:
            await renew.wait()
            renew.clear()
            if not await self._may_renew():
                _log.error("ingress_restart_refused")
                continue
            for worker in self._workers:
                if not await self._renew(worker):
                    _log.error("ingress_restart_given_up", worker=worker.index)
                    break
            else:
                _log.info("ingress_restarted", workers=len(self._workers))

    async def _may_renew(self) -> bool:
        try:
            checking = await asyncio.create_subprocess_exec(
                *self._check, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL
            )
        except OSError:
            return False
        try:
            async with asyncio.timeout(START_SECONDS):
                return await checking.wait() == 0
        except TimeoutError:
            _log.error("ingress_check_hangs", seconds=START_SECONDS)
            return False
        finally:
            if checking.returncode is None:
                checking.kill()

    async def _renew(self, worker: _Worker) -> bool:
        """Replaces a worker's process; whether its successor serves."""
        if not worker.serving or worker.process is None:
            return False
        process = worker.process
        renewal: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        worker.renewal = renewal
        # Before it is told to end: nobody is to wait at its door longer than it takes to tell another.
        self._set_serving(worker, serving=False)
        worker.tell(lines.relieve())
        await self._ended([process])
        return await renewal

    def _set_serving(self, worker: _Worker, *, serving: bool) -> None:
        """Notes it, and sees to it that somebody stands in for each worker that does not serve."""
        worker.serving = serving
        present = [each for each in self._workers if each.serving]
        for each in self._workers:
            stand_in = None if each.serving or not present else present[each.index % len(present)]
            if stand_in is each.stand_in:
                continue
            if each.stand_in is not None and each.stand_in.serving:
                each.stand_in.tell(lines.step_back(each.index))
            if stand_in is not None:
                stand_in.tell(lines.stand_in(each.index))
            each.stand_in = stand_in

    async def _end_all(self) -> None:
        """Parts from the workers: each lets in who waits at its door, and ends gracefully."""
        close(self._doors)
        for worker in self._workers:
            if worker.line is not None:
                worker.line.close()
        await self._ended([worker.process for worker in self._workers if worker.process is not None])

    async def _ended(self, processes: Sequence[asyncio.subprocess.Process]) -> None:
        """Returns when the processes have ended; kills those that take too long."""
        ends = [asyncio.create_task(process.wait()) for process in processes]
        if ends:
            await asyncio.wait(ends, timeout=self._ingress.shutdown_seconds + STOP_MARGIN_SECONDS)
        for process, end in zip(processes, ends, strict=True):
            if not end.done():
                _log.warning("ingress_worker_killed", pid=process.pid)
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
        await asyncio.gather(*ends)

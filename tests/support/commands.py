"""The public command in processes of its own, for tests."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from deploy.embedded.tether import tethered
from tests.support.waiting import wait_until

START_SECONDS = 90.0
STOP_SECONDS = 10.0


@dataclass(frozen=True)
class Finished:
    """A command that has ended."""

    exit_code: int
    out: str
    err: str


def command_line(*arguments: str) -> list[str]:
    """Our installed command."""
    return [str(Path(sys.executable).with_name("kyb-stream")), *arguments]


def environment(overrides: Mapping[str, str] | None = None) -> dict[str, str]:
    """This environment without settings of ours, and with the given ones."""
    return {name: value for name, value in os.environ.items() if not name.startswith("KYB_STREAM_")} | dict(overrides or {})


async def kyb_stream(
    *arguments: str, env: Mapping[str, str] | None = None, cwd: Path | None = None, seconds: float = 60.0
) -> Finished:
    """Runs one command to its end, as a process of its own."""

    def run() -> Finished:
        done = subprocess.run(
            command_line(*arguments),
            check=False,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            env=environment(env),
            cwd=cwd,
            timeout=seconds,
        )
        return Finished(done.returncode, done.stdout, done.stderr)

    return await asyncio.to_thread(run)


class Background:
    """A command that keeps running, in a process group of its own, as a shell starts one in the foreground.

    Args:
        arguments: After `kyb-stream`.
        log: Where standard output and standard error go.
        env: Settings in the environment.
        cwd: Where it runs.
    """

    def __init__(self, *arguments: str, log: Path, env: Mapping[str, str] | None = None, cwd: Path | None = None) -> None:
        self._log = log
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                tethered(command_line(*arguments), orphan_signal=signal.SIGTERM),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environment(env),
                cwd=cwd,
                process_group=0,
            )
        self.pid = self._process.pid

    @property
    def output(self) -> str:
        """What it has printed so far."""
        return self._log.read_text()

    @property
    def exit_code(self) -> int | None:
        """None while it runs; negative: the signal that ended it."""
        return self._process.poll()

    async def printed(self, text: str, deadline_seconds: float = START_SECONDS) -> str:
        """Waits until it has printed this, and returns all that it printed."""

        def there() -> bool:
            assert self.exit_code is None or text in self.output, f"it ended with {self.exit_code}: {self.output}"
            return text in self.output

        await wait_until(there, deadline_seconds, f"{text!r} is printed")
        return self.output

    def send(self, number: signal.Signals) -> None:
        """Signals its process group, as a terminal does with Ctrl-C."""
        os.killpg(self.pid, number)

    async def ended(self, deadline_seconds: float = STOP_SECONDS) -> int:
        """Waits until it has ended, and returns the exit code."""
        await wait_until(lambda: self.exit_code is not None, deadline_seconds, f"{self.pid} has ended: {self.output}")
        return self._process.returncode

    def children(self) -> list[psutil.Process]:
        """Its processes, and theirs."""
        return psutil.Process(self.pid).children(recursive=True)

    def child(self, component: str) -> psutil.Process:
        """The process of one component of the stack."""
        for child in self.children():
            argv = child.cmdline()
            if argv[0].endswith("noida-db") if component == "broker" else component in argv[4:6]:
                return child
        raise AssertionError(f"the {component} does not run")

    async def close(self) -> None:
        """Ends it, if it still runs."""
        if self.exit_code is None:
            self.send(signal.SIGCONT)
            self.send(signal.SIGTERM)
            try:
                await self.ended()
            except AssertionError:
                self.send(signal.SIGKILL)
                await self.ended()

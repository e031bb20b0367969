"""Runs `tests.support.provider_load` beside a test, and tells how far it is."""

from __future__ import annotations

import asyncio
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from deploy.embedded.tether import tethered
from tests.support.provider_load import Attempt, LoadPlan
from tests.support.waiting import wait_until

CONNECTIONS = 64
_PROGRESS_SECONDS = 180.0
_END_SECONDS = 30.0


class RunningLoad:
    """Webhooks that are being sent.

    Attributes:
        acknowledged: Answered with 200 so far.
        failed: Answered with anything else, or not at all, so far; each is sent again.
    """

    def __init__(self, process: asyncio.subprocess.Process, results: Path) -> None:
        self.acknowledged = 0
        self.failed = 0
        self._process = process
        self._results = results

    async def follow(self) -> None:
        """Takes in what the program says, until it ends."""
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            acknowledged, failed = line.split()
            self.acknowledged, self.failed = int(acknowledged), int(failed)

    async def reaches(self, acknowledged: int) -> None:
        """Waits until so many are acknowledged."""
        await self._wait_until(lambda: self.acknowledged >= acknowledged, f"{acknowledged} deliveries are acknowledged")

    async def gets_on(self, acknowledged: int) -> None:
        """Waits until so many more are acknowledged."""
        await self.reaches(self.acknowledged + acknowledged)

    async def fails(self, failed: int) -> None:
        """Waits until so many have failed."""
        await self._wait_until(lambda: self.failed >= failed, f"{failed} requests have failed")

    async def end(self) -> list[Attempt]:
        """Begins nothing new, waits until what was begun is acknowledged, and returns every request there was."""
        self._process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(_END_SECONDS):
            assert await self._process.wait() == 0
        return msgspec.msgpack.decode(await asyncio.to_thread(self._results.read_bytes), type=list[Attempt])

    async def _wait_until(self, condition: Callable[[], bool], what: str) -> None:
        def there() -> bool:
            assert self._process.returncode is None, "the load has ended by itself"
            return condition()

        await wait_until(there, _PROGRESS_SECONDS, what)


@asynccontextmanager
async def provider_load(
    *, port: int, path: str, secret: str, run: str, rate: float, connections: int = CONNECTIONS
) -> AsyncIterator[RunningLoad]:
    """A load on an ingress of this machine; it is ended with the block.

    Args:
        port: Where the ingress listens, or will.
        path: Of the source.
        secret: See `LoadPlan`.
        run: See `LoadPlan`.
        rate: See `LoadPlan`.
        connections: See `LoadPlan`.
    """
    with tempfile.TemporaryDirectory() as folder:
        results = Path(folder) / "attempts.msgpack"
        plan = LoadPlan(
            host="127.0.0.1",
            port=port,
            path=path,
            secret=secret,
            run=run,
            rate=rate,
            connections=connections,
            results=str(results),
        )
        process = await asyncio.create_subprocess_exec(
            *tethered([sys.executable, "-m", "tests.support.provider_load"]),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            cwd=Path(__file__).parents[2],
        )
        assert process.stdin is not None
        process.stdin.write(msgspec.json.encode(plan) + b"\n")
        load = RunningLoad(process, results)
        following = asyncio.create_task(load.follow())
        try:
            yield load
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
            await following

"""The embedded ClickHouse server as a process of a test's own: killed, frozen and started again at will."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from deploy.embedded.clickhouse.child import clickhouse_command, clickhouse_url
from deploy.embedded.pausing import pause_process
from deploy.embedded.ports import free_port
from deploy.embedded.readiness import http_ok
from deploy.embedded.tether import tethered
from tests.support.waiting import wait_until

READY_SECONDS = 60.0


class ClickHouseNode:
    """One server with its data in a folder, which it makes.

    Attributes:
        url: Of its HTTP interface; the same after a restart.
        starts: How often it was started.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._folder = folder
        self._port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self.url = clickhouse_url(self._port)
        self.starts = 0

    async def start(self) -> None:
        """Starts it, and waits until it answers."""
        self._spawn(clickhouse_command(self._folder / "data", self._port))
        await wait_until(self._answers, READY_SECONDS, "ClickHouse answers")

    def _spawn(self, command: list[str]) -> None:
        with (self._folder / "clickhouse.log").open("ab") as log:
            self._process = subprocess.Popen(tethered(command, orphan_signal=signal.SIGKILL), stdout=log, stderr=log)
        self.starts += 1

    def kill(self) -> None:
        """SIGKILL."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def freeze(self) -> None:
        """Connections stay, nothing is answered from now on."""
        assert self._process is not None
        pause_process(self._process.pid)

    def thaw(self) -> None:
        """Lets it go on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    async def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self._folder / "clickhouse.log").read_text()[-2000:]
        return await http_ok(f"{self.url}/ping")


@asynccontextmanager
async def clickhouse_node(folder: Path) -> AsyncIterator[ClickHouseNode]:
    """A running server; ended with SIGKILL, nobody needs its data."""
    node = ClickHouseNode(folder)
    await node.start()
    try:
        yield node
    finally:
        node.thaw()
        node.kill()

"""Workers that are stuck, as processes of their own: they end in time, with an error, and lose nothing."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from schemas.topics import DELIVERIES
from tests.streams.running import Lab, deliveries, lab, running_worker, write_config
from tests.support.commands import environment
from tests.support.waiting import wait_until

ROOT = Path(__file__).parents[2]


class StuckWorker:
    """A worker with a bug."""

    def __init__(self, bug: str, config: Path, folder: Path) -> None:
        self.log = folder / "stuck.log"
        self.ready_file = folder / "stuck.ready"
        arguments = [bug, "--config", str(config), "--ready-file", str(self.ready_file)]
        with self.log.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.streams.stuck_worker", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environment(),
                cwd=ROOT,
            )

    async def ended(self, seconds: float) -> int:
        """Waits for its end; the exit code."""
        await wait_until(lambda: self.process.poll() is not None, seconds, f"it ends: {self.log.read_text()[-2000:]}")
        return self.process.returncode

    def logged(self, event: str) -> dict[str, object]:
        """The first entry of an event in its log."""
        entries = (json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{"))
        return next((entry for entry in entries if entry["event"] == event), {})


@pytest_asyncio.fixture
async def given(noida_broker: str, topic_prefix: str, tmp_path: Path) -> AsyncIterator[Lab]:
    """Topics with some deliveries, for a worker that gives up after two seconds."""
    async with lab(noida_broker, topic_prefix, tmp_path, stalled_after_seconds=1, give_up_after_seconds=2) as made:
        await made.send(deliveries(6))
        yield made


async def nothing_is_lost(given: Lab) -> None:
    """A worker without the bug does all of it."""
    assert await given.committed() == 0
    async with running_worker(given.settings):
        await given.all_committed(6)
    assert len(await given.read(DELIVERIES)) == 6


async def test_a_blocked_event_loop_is_told_and_ended(given: Lab, tmp_path: Path) -> None:
    """It cannot answer, stop or raise: the watchdog logs where it is, and ends the process with an error."""
    worker = StuckWorker("blocks", write_config(given.settings, tmp_path), tmp_path)
    try:
        assert await worker.ended(30) == 1
    finally:
        worker.process.kill()
    stalled = worker.logged("stalled")
    assert str(stalled["reason"]).startswith("the event loop has not turned for ")
    threads = stalled["threads"]
    assert isinstance(threads, list)
    (main,) = [stack for stack in threads if stack.startswith("MainThread: ")]
    assert " block_for_ever > threading:" in main
    assert "error: nothing went on for " in worker.log.read_text()
    assert "acme" not in json.dumps(stalled)
    assert not worker.ready_file.exists()
    await nothing_is_lost(given)


async def test_a_stop_of_a_stuck_worker_is_bounded(given: Lab, tmp_path: Path) -> None:
    """SIGTERM ends it in less than ten seconds, with an error, though Faust would wait for its batches for ever."""
    patient = given.settings.worker.model_copy(update={"stalled_after_seconds": 60.0, "give_up_after_seconds": 300.0})
    config = write_config(given.settings.model_copy(update={"worker": patient}), tmp_path)
    worker = StuckWorker("waits", config, tmp_path)
    try:
        await wait_until(worker.ready_file.exists, 30, "it is ready")
        await asyncio.sleep(0.5)  # so that batches have begun: nothing outside tells
        began = time.monotonic()
        worker.process.send_signal(signal.SIGTERM)
        assert await worker.ended(15) == 1
    finally:
        worker.process.kill()
    assert time.monotonic() - began < 10
    assert "error: the worker did not stop within 6 seconds" in worker.log.read_text()
    assert not worker.ready_file.exists()
    await nothing_is_lost(given)

"""A restart of workers in turn whose successor, or whose check, never comes to an end."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, MutableMapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from ingress import workers as module
from ingress.seat import Seat
from ingress.workers import Workers
from kybstream.settings import IngressSettings
from tests.support.waiting import wait_until

SERVES = "import os, sys; f = int(sys.argv[1]); os.write(f, b'r'); all(line[0] != '.' for line in os.fdopen(f))"
HANGS = "import time; time.sleep(600)"


@pytest.mark.parametrize("hanging", ["check", "successor"])
async def test_a_restart_that_hangs_is_given_up_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hanging: str
) -> None:
    """It is told and killed; the workers whose turn did not come are the same processes, and another restart is possible."""
    monkeypatch.setattr(module, "START_SECONDS", 1.0)
    broken = tmp_path / "broken"

    def command(seat: Seat) -> list[str]:
        program = HANGS if broken.exists() and hanging == "successor" else SERVES
        return [sys.executable, "-c", program, str(seat.line)]

    check = f"import os, time; time.sleep(600) if os.path.exists({str(broken)!r}) else None" if hanging == "check" else ""
    workers = Workers(IngressSettings(port=0), 2, command=command, check=[sys.executable, "-c", check])
    stop, renew, ready = asyncio.Event(), asyncio.Event(), asyncio.Event()
    with capture_logs() as logs:
        running = asyncio.create_task(workers.run(stop=stop, renew=renew, ready=lambda _url: ready.set()))
        async with asyncio.timeout(30):
            await ready.wait()
        before = pids(workers)
        broken.touch()
        renew.set()
        refusal = "ingress_restart_refused" if hanging == "check" else "ingress_restart_given_up"
        await wait_until(lambda: refusal in events(logs), 20, "it is given up")
        assert ("ingress_check_hangs" if hanging == "check" else "ingress_worker_hangs") in events(logs)
        assert pids(workers)[1] == before[1]
        broken.unlink()
        await wait_until(all_serve(workers), 20, "both serve")
        renew.set()
        await wait_until(lambda: "ingress_restarted" in events(logs), 20, "it is restarted")
        assert not set(pids(workers)) & set(before)
        stop.set()
        async with asyncio.timeout(30):
            await running


def pids(workers: Workers) -> list[int]:
    """Of the present processes."""
    return [worker.process.pid for worker in workers._workers if worker.process is not None]


def all_serve(workers: Workers) -> Callable[[], bool]:
    """Whether each worker serves."""
    return lambda: all(worker.serving for worker in workers._workers)


def events(logs: Sequence[MutableMapping[str, Any]]) -> list[object]:
    """Their names."""
    return [line["event"] for line in logs]

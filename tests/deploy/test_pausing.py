from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.embedded.pausing import pause_process

# Two threads that are at work all the time, and one that waits, as in a broker.
WORKING = """
import threading, time
def work():
    while True:
        time.sleep(0.0002)
for _ in range(2):
    threading.Thread(target=work, daemon=True).start()
print("up", flush=True)
time.sleep(1000)
"""


@pytest.fixture
def working() -> Iterator[subprocess.Popen[str]]:
    """A process with three threads."""
    with subprocess.Popen([sys.executable, "-c", WORKING], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.skipif(sys.platform != "linux", reason="looks at the threads in /proc")
def test_paused_process_has_no_thread_that_goes_on(working: subprocess.Popen[str]) -> None:
    """The moment it is told, all of its threads have stopped; 50 times over."""
    for _ in range(50):
        pause_process(working.pid)
        states = [(task / "stat").read_text().rpartition(") ")[2][0] for task in Path(f"/proc/{working.pid}/task").iterdir()]
        assert states == ["T", "T", "T"]
        os.kill(working.pid, signal.SIGCONT)
    assert working.poll() is None


def test_process_that_has_ended_is_nothing_to_wait_for(working: subprocess.Popen[str]) -> None:
    """A killed one: no error, no hang."""
    working.kill()
    pause_process(working.pid)
    assert working.wait() == -signal.SIGKILL

"""Children for the supervisor to look after: programs, and what they note in a journal."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Awaitable, Callable
from pathlib import Path

import psutil

from deploy.embedded.supervisor import Child

# A child that writes "<name> up" when it serves and "<name> down" when SIGTERM has ended it, after `seconds` of tidying up.
OBEDIENT = """
    import signal, sys, time
    journal, name, seconds = sys.argv[1:]
    def note(what):
        with open(journal, "a") as file:
            file.write(f"{name} {what}\\n")
    def leave(*_):
        time.sleep(float(seconds))
        note("down")
        sys.exit(0)
    signal.signal(signal.SIGTERM, leave)
    note("up")
    while True:
        signal.pause()
"""
DEAF = """
    import signal, sys
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    open(sys.argv[1], "a").write(f"{sys.argv[2]} up\\n")
    while True:
        signal.pause()
"""


def lines(path: Path) -> list[str]:
    """What the journal says so far."""
    return path.read_text().splitlines()


def child(
    name: str,
    code: str,
    journal: Path,
    *arguments: str,
    ready: Callable[[], Awaitable[bool]] | None = None,
    ready_seconds: float = 20.0,
    grace_seconds: float = 5.0,
) -> Child:
    """A child that runs Python code and is ready when it has noted so in the journal."""

    async def noted() -> bool:
        return f"{name} up" in lines(journal)

    return Child(
        name=name,
        argv=[sys.executable, "-I", "-S", "-c", textwrap.dedent(code), str(journal), name, *arguments],
        ready=ready or noted,
        log_path=journal.with_name(f"{name}.log"),
        ready_seconds=ready_seconds,
        grace_seconds=grace_seconds,
    )


async def never() -> bool:
    """Not ready, whenever asked."""
    return False


def ended(pid: int) -> bool:
    """Whether the process is gone, or only waits for its parent to take note."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True

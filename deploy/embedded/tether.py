"""Ties a process to the life of the one that starts it, so that a killed parent leaves nothing behind.

On Linux a process can ask for a signal at the end of its parent (`prctl(PR_SET_PDEATHSIG)`), however the parent ends,
SIGKILL included. The request must be made in the child. Python's `preexec_fn` could, but runs Python code between fork and
exec, which can deadlock in a parent with threads (chDB and RocksDB have many). So this file is also a tiny program that
makes the request and then turns into the real command by `exec`: same process id, some 20 ms. Other systems have no such
request: there the command runs as it is, and children of a parent that was SIGKILLed stay.

The kernel watches the *thread* that forked: start tethered processes from a thread that lives as long as they should.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence

_PR_SET_PDEATHSIG = 1
_CANNOT_RUN = 127  # what a shell exits with when it cannot run a command


def tethered(argv: Sequence[str], *, orphan_signal: signal.Signals = signal.SIGKILL) -> list[str]:
    """The command that runs `argv` so that it gets `orphan_signal` when the calling process ends; Linux only.

    SIGKILL always works; a program that saves its data on SIGTERM, and surely ends, is better served with SIGTERM.
    """
    if sys.platform != "linux":
        return list(argv)
    # -I -S: no site-packages, no environment: as quick as Python starts. The command itself gets the environment unchanged.
    return [sys.executable, "-I", "-S", __file__, str(os.getpid()), str(int(orphan_signal)), *argv]


def _run(parent: int, orphan_signal: int, argv: list[str]) -> int:
    import ctypes  # noqa: PLC0415 - only needed here, and slow to import

    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, orphan_signal) != 0:
        sys.stderr.write(f"error: prctl failed: {os.strerror(ctypes.get_errno())}\n")
        return 1
    if os.getppid() != parent:  # it ended before the request: no signal will come
        return 1
    for ignored_by_python in (signal.SIGPIPE, signal.SIGXFSZ):  # what is ignored would stay ignored across exec
        signal.signal(ignored_by_python, signal.SIG_DFL)
    try:
        os.execvp(argv[0], argv)  # noqa: S606 - no shell is the point
    except OSError as error:
        sys.stderr.write(f"error: cannot run {argv[0]}: {error.strerror}\n")
        return _CANNOT_RUN


if __name__ == "__main__":
    sys.exit(_run(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]))

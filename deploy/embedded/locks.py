"""Locks between processes: a download is made once. A folder of one process alone: `kybstream.folder_lock`.

They are `flock`s: the kernel drops them when the holder ends in any way, so there are no stale locks. The file stays;
removing it would let two processes hold "the" lock on two different files.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kybstream.errors import RunError

_POLL_SECONDS = 0.1


@contextmanager
def wait_for_lock(path: Path, *, wait_seconds: float, purpose: str) -> Iterator[None]:
    """Waits until this process alone holds the lock file `path`, and holds it until the block ends.

    Blocks the calling thread. The file's folder must exist.

    Raises:
        RunError: Somebody else held it for all of `wait_seconds`; the message names `purpose`.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        deadline = time.monotonic() + wait_seconds
        while not _try_lock(descriptor):
            if time.monotonic() > deadline:
                raise RunError(f"another process has been busy with {purpose} for over {wait_seconds:.0f} s ({path})")
            time.sleep(_POLL_SECONDS)
        yield
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True

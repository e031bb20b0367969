"""Locks between processes: a data folder belongs to one process, a download is made once.

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

LOCK_NAME = ".lock"
_POLL_SECONDS = 0.1


@contextmanager
def lock_folder(path: Path) -> Iterator[None]:
    """Makes the folder if need be and keeps it for this process until the block ends.

    Raises:
        RunError: Another process, named by its id, holds it, or the folder cannot be made.
    """
    descriptor = take_folder(path)
    try:
        yield
    finally:
        os.close(descriptor)


def take_folder(path: Path, *, across_exec: bool = False) -> int:
    """As `lock_folder`, held until the returned descriptor is closed or the process ends.

    Args:
        path: The folder.
        across_exec: Keep it for the program this process turns into by `exec`.

    Raises:
        RunError: As `lock_folder`.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise RunError(f"the data folder {path} cannot be used: {error.strerror}") from None
    if not _try_lock(descriptor):
        holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip()
        os.close(descriptor)
        raise RunError(
            f"{path} is in use by {f'process {holder}' if holder else 'another process'}",
            hint="stop that process, or choose another data folder",
        )
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    os.set_inheritable(descriptor, across_exec)
    return descriptor


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

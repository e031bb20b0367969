"""A folder that belongs to one process at a time.

The lock is a `flock`: the kernel drops it when the holder ends in any way, so there are no stale locks. The lock's file stays;
removing it would let two processes hold "the" lock on two different files.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kybstream.errors import RunError
from kybstream.private_files import make_private_folder, tighten

LOCK_NAME = ".lock"


@contextmanager
def lock_folder(path: Path) -> Iterator[None]:
    """Makes the folder if need be and keeps it for this process until the block ends.

    Raises:
        RunError: As `take_folder`.
    """
    descriptor = take_folder(path)
    try:
        yield
    finally:
        os.close(descriptor)


def take_folder(path: Path, *, across_exec: bool = False) -> int:
    """Makes the folder, for its owner alone, and keeps it until the returned descriptor is closed or the process ends.

    Args:
        path: The folder.
        across_exec: Keep it for the program this process turns into by `exec`.

    Raises:
        RunError: Another process holds it (its id is named), or it cannot be made or written to.
    """
    try:
        make_private_folder(path)
        descriptor = os.open(path / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        tighten(path / LOCK_NAME)
    except OSError as error:
        raise RunError(f"the folder {path} cannot be used: {error.strerror}") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip()
        os.close(descriptor)
        raise RunError(
            f"{path} is in use by {f'process {holder}' if holder else 'another process'}",
            hint="stop that process, or choose another folder",
        ) from None
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    except OSError:
        # A full disk: the id only serves the message above, the lock holds without it.
        os.ftruncate(descriptor, 0)
    os.set_inheritable(descriptor, across_exec)
    return descriptor

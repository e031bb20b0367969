"""Folders and files that only their owner can read: they hold bodies, tokens or keys.

What is there already is tightened; where it is somebody else's, it is left as it is.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

_OWNER_ONLY = 0o700


def make_private_folder(path: Path) -> None:
    """Makes the folder, and the parents that are missing, for their owner alone.

    Raises:
        OSError: It cannot be made.
    """
    missing = [each for each in (path, *path.parents) if not each.exists()]
    for each in reversed(missing):
        each.mkdir(mode=_OWNER_ONLY, exist_ok=True)
    path.mkdir(exist_ok=True)  # a file of that name is an error
    tighten(path)


def make_private_file(path: Path) -> None:
    """Makes the file, empty, for its owner alone; one that is there keeps its content.

    Raises:
        OSError: It cannot be made.
    """
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    tighten(path)


def tighten(path: Path) -> None:
    """Takes the rights of everybody but the owner."""
    with suppress(OSError):
        mode = path.stat().st_mode & 0o7777
        if mode & ~_OWNER_ONLY:
            path.chmod(mode & _OWNER_ONLY)

"""Room that is kept free on the disk, so that a spool that has filled it can still be emptied.

SQLite needs room to delete: what it deletes goes to its log first. Without a reserve a disk that the spool itself has filled
would never become free again.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path


class Reserve:
    """A file of a fixed size that is given up when the disk is full and made again when there is room.

    Args:
        path: The file.
        size: Its size in bytes; 0 for none.
    """

    def __init__(self, path: Path, size: int) -> None:
        self._path = path
        self._size = size

    def keep(self) -> bool:
        """Makes the reserve if it is not there; False when the disk has no room for it."""
        if self._size == 0:
            return True
        try:
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError:
            return False
        try:
            os.posix_fallocate(descriptor, 0, self._size)
        except OSError:
            self.release()
            return False
        finally:
            os.close(descriptor)
        return True

    def release(self) -> None:
        """Gives the room to whoever writes next."""
        with suppress(OSError):
            os.truncate(self._path, 0)

"""Room that is kept free on the disk, so that a spool that has filled it can still be emptied.

SQLite needs room to delete: what it deletes goes to its log first. Without a reserve a disk that the spool itself has filled
would never become free again.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

_PIECE_BYTES = 1024 * 1024


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
            _allocate(descriptor, self._size)
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


def _allocate(descriptor: int, size: int) -> None:
    """Makes the file so large that the room is its own: a size alone would promise room that is not there.

    Raises:
        OSError: There is no room.
    """
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, size)
        return
    # macOS. Written anew only from where the file ends.
    written = os.fstat(descriptor).st_size
    os.lseek(descriptor, written, os.SEEK_SET)
    while written < size:
        written += os.write(descriptor, bytes(min(_PIECE_BYTES, size - written)))
    os.fsync(descriptor)

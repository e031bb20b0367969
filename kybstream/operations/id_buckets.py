"""Many ids in bounded memory, to be compared with many others.

They go into buckets by their last two characters, which in our ids are random, and from 32 MiB on to files of a folder. Two
collections are then compared bucket by bucket.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

HOLD_BYTES = 32 * 1024 * 1024
"""Ids that a process holds in memory before they go to files."""


class IdBuckets:
    """Ids, repeats included, by their last two characters.

    Args:
        folder: Where they go when there are many.
        hold_bytes: How many bytes stay in memory.
    """

    def __init__(self, folder: Path, hold_bytes: int = HOLD_BYTES) -> None:
        self._folder = folder
        self._hold_bytes = hold_bytes
        self._held: defaultdict[bytes, bytearray] = defaultdict(bytearray)
        self._bytes = 0
        self._spilled: set[bytes] = set()
        self._others: list[Path] = []

    def add(self, ids: Iterable[bytes]) -> None:
        """Takes ids in."""
        held = self._held
        size = 0
        for each in ids:
            held[each[-2:]] += each + b"\n"
            size += len(each) + 1
        self._bytes += size
        if self._bytes >= self._hold_bytes:
            self.write_out()

    def keys(self) -> Iterator[str]:
        """The last two characters of all ids, each once, sorted."""
        elsewhere = {bytes.fromhex(file.name) for folder in self._others for file in folder.iterdir()}
        return iter(sorted(key.decode() for key in self._spilled | self._held.keys() | elsewhere))

    def take(self, key: str) -> list[str]:
        """The ids that end in these characters."""
        end = key.encode()
        folders = [*self._others, *([self._folder] if end in self._spilled else [])]
        files = [folder / end.hex() for folder in folders]
        text = b"".join([file.read_bytes() for file in files if file.exists()])
        return (text + self._held.get(end, b"")).decode().split("\n")[:-1]

    def join(self, folder: Path) -> None:
        """Takes in what others have written out to a folder; it stays there."""
        self._others.append(folder)

    def write_out(self) -> None:
        """Puts all that is in memory into files, to make room or for `join` of others."""
        for key, text in self._held.items():
            with self._path(key).open("ab") as file:
                file.write(text)
        self._spilled |= self._held.keys()
        self._held.clear()
        self._bytes = 0

    def _path(self, key: bytes) -> Path:
        return self._folder / key.hex()

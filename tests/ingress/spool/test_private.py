"""Who can read a spool, and what keeps its room where the system has no call for it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ingress.spool.reserve import Reserve
from tests.ingress.spool.spools import delivery_ids, fill, opened


def open_to_others(folder: Path) -> list[str]:
    """What in the folder, itself included, anybody but its owner may use."""
    return [each.name for each in (folder, *folder.rglob("*")) if each.stat().st_mode & 0o077]


async def test_a_spool_is_its_owners_alone(tmp_path: Path) -> None:
    """Folder, parents that are made, and each file, whatever the process' umask lets through."""
    before = os.umask(0)
    try:
        async with opened(tmp_path / "new" / "spool") as spool:
            await fill(spool, range(10))
            assert open_to_others(tmp_path / "new") == []
            assert len(list((tmp_path / "new" / "spool").iterdir())) >= 4
    finally:
        os.umask(before)
    assert open_to_others(tmp_path / "new") == []


async def test_what_is_there_is_tightened(tmp_path: Path) -> None:
    """A spool of an earlier version is readable by all, and what was kept of a damaged file: not after the next start."""
    folder = tmp_path / "spool"
    async with opened(folder) as spool:
        await fill(spool, range(10))
    (folder / "spool.sqlite3.damaged-20260101T000000.000000Z").write_bytes(b"kept")
    for each in (folder, *folder.iterdir()):
        each.chmod(0o755)
    async with opened(folder) as spool:
        assert open_to_others(folder) == []
        assert len(await delivery_ids(spool)) == 10


async def test_without_posix_fallocate_room_is_reserved_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on macOS: a spool opens and takes entries, and the reserve has its blocks on the disk, not only its size."""
    monkeypatch.delattr(os, "posix_fallocate")
    async with opened(tmp_path / "spool") as spool:
        await fill(spool, range(10))
        assert spool.unavailable is None
    reserve = Reserve(tmp_path / "reserve", 3 * 1024**2 + 17)
    for _ in range(2):
        assert reserve.keep()
        found = (tmp_path / "reserve").stat()
        assert found.st_size == 3 * 1024**2 + 17
        assert found.st_blocks * 512 >= found.st_size
    reserve.release()
    assert (tmp_path / "reserve").stat().st_blocks == 0
    assert not Reserve(Path("/dev/full"), 1024).keep()

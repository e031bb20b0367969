"""What the spool may use of its host, and what happens beyond."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from threading import Event
from time import monotonic

import pytest

from ingress.spool import Spool, SpoolFailedError, SpoolFullError, SpoolLimits
from ingress.spool.store import Store
from tests.ingress.spool.spools import delivery_ids, entry, fill, opened, until
from tests.support.small_disk import small_disk as mounted_disk

MIB = 1024 * 1024


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MiB."""
    with mounted_disk(tmp_path / "disk", 4) as folder:
        yield folder


async def put_until_refused(spool: Spool, *, size: int = 2000) -> tuple[list[str], Exception]:
    """Puts one after the other; those that were taken, and why the first that was not was refused."""
    taken: list[str] = []
    start = spool.stats().depth
    for number in count(start):
        new = entry(number, size=size)
        try:
            await spool.put(new)
        except (SpoolFullError, SpoolFailedError) as error:
            return taken, error
        taken.append(new.delivery_id)
    raise AssertionError


async def test_the_size_limit_is_an_error_that_ends_when_there_is_room(tmp_path: Path) -> None:
    """At `max_bytes` puts are refused, retriably; what was taken stays, and after a removal there is room again."""
    async with opened(tmp_path, SpoolLimits(max_bytes=MIB, reserve_bytes=0)) as spool:
        taken, error = await put_until_refused(spool, size=900)
        assert isinstance(error, SpoolFullError)
        assert error.retriable
        assert 0.6 * MIB < spool.stats().bytes <= MIB
        # The file counts as well; the log beside it is bounded on its own.
        assert (tmp_path / "spool.sqlite3").stat().st_size <= MIB
        assert await delivery_ids(spool) == taken
        await spool.remove([one.id for one in await spool.oldest(20, MIB)])
        assert spool.unavailable is None
        await spool.put(entry(1_000_000, size=2000))


async def test_a_full_spool_says_so(tmp_path: Path) -> None:
    """When the entries' bytes reach the limit before the file does, that is the limit."""
    limits = SpoolLimits(max_bytes=MIB, reserve_bytes=0)
    async with opened(tmp_path, limits) as spool:
        await fill(spool, range(300))
    async with opened(tmp_path, SpoolLimits(max_bytes=100_000, reserve_bytes=0)) as spool:
        assert spool.unavailable == "the spool is full"
        with pytest.raises(SpoolFullError, match="the spool has reached"):
            await spool.put(entry(301))
        await spool.remove([one.id for one in await spool.oldest(290, MIB)])
        assert spool.unavailable is None


async def test_what_waits_for_the_disk_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the disk does not answer, memory is bounded: puts beyond it fail at once, the others when their time is up."""
    release, insert = Event(), Store.insert

    def slow(store: Store, entries: object) -> None:
        release.wait(20)
        insert(store, entries)  # type: ignore[arg-type]

    monkeypatch.setattr(Store, "insert", slow)
    limits = SpoolLimits(max_pending_bytes=100_000, write_timeout_seconds=0.5, reserve_bytes=0)
    async with opened(tmp_path, limits) as spool:
        started = monotonic()
        puts = [asyncio.create_task(spool.put(entry(number, size=1000))) for number in range(200)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        refused = [put for put in puts if put.done()]
        assert 100 <= len(refused) < 120
        assert all(isinstance(put.exception(), SpoolFullError) for put in refused)
        assert spool.stats().pending_bytes <= 100_000
        results = await asyncio.gather(*puts, return_exceptions=True)
        assert sum(isinstance(result, SpoolFailedError) for result in results) == 200 - len(refused)
        assert monotonic() - started < 5
        release.set()
        await until(lambda: spool.stats().pending_bytes == 0)


async def test_space_is_given_back(tmp_path: Path) -> None:
    """The file does not stay at its largest: emptied, it takes little, and half emptied, not all."""
    async with opened(tmp_path) as spool:
        await fill(spool, range(8000), size=1500)
        largest = spool.stats().file_bytes
        assert largest > 12 * MIB
        while spool.stats().depth > 1000:
            await spool.remove([one.id for one in await spool.oldest(200, MIB)])
        await until(lambda: spool.stats().file_bytes < 0.7 * largest)
        while spool.stats().depth:
            await spool.remove([one.id for one in await spool.oldest(500, MIB)])
        await until(lambda: spool.stats().file_bytes < 4 * MIB)


async def test_a_disk_that_others_filled_is_an_error_until_there_is_room(small_disk: Path) -> None:
    """A full disk: a retriable error, nothing lost, and it goes on by itself when somebody makes room."""
    folder = small_disk / "spool"
    async with opened(folder, SpoolLimits(reserve_bytes=256 * 1024)) as spool:
        await fill(spool, range(200))
        ballast = small_disk / "ballast"
        with ballast.open("wb", buffering=0) as file:
            try:
                while file.write(bytes(4096)):
                    pass
            except OSError:
                pass
        taken, error = await put_until_refused(spool)
        assert isinstance(error, SpoolFailedError)
        assert error.retriable
        assert spool.unavailable is not None
        assert set(await delivery_ids(spool)) >= {entry(number).delivery_id for number in range(200)} | set(taken)
        ballast.unlink()
        await until(lambda: spool.unavailable is None)
        await spool.put(entry(5000))
    async with opened(folder) as spool:
        assert set(await delivery_ids(spool)) >= {entry(number).delivery_id for number in (*range(200), 5000)} | set(taken)


async def test_a_disk_that_the_spool_filled_can_be_drained(small_disk: Path) -> None:
    """Removing needs room too: the reserve gives it, so that the spool becomes free again without anybody's help."""
    folder = small_disk / "spool"
    async with opened(folder, SpoolLimits(reserve_bytes=512 * 1024)) as spool:
        taken, error = await put_until_refused(spool)
        assert isinstance(error, SpoolFailedError)
        assert len(taken) > 300
        left = list(taken)
        while left:
            batch = await spool.oldest(50, MIB)
            assert [one.entry.delivery_id for one in batch] == left[: len(batch)]
            await spool.remove([one.id for one in batch])
            left = left[len(batch) :]
        await until(lambda: spool.unavailable is None)
        again, _ = await put_until_refused(spool)
        assert len(again) > 0.8 * len(taken)


async def test_the_last_room_is_for_removing(small_disk: Path) -> None:
    """With less room than the reserve entries are refused, though they would fit; what is there can be sent and removed."""
    folder, limits = small_disk / "spool", SpoolLimits(reserve_bytes=512 * 1024)
    async with opened(folder, limits) as spool:
        await fill(spool, range(200))
    (folder / "spool.reserve").unlink()
    room = os.statvfs(small_disk).f_bavail * 4096
    (small_disk / "ballast").write_bytes(bytes(room - 384 * 1024))
    async with opened(folder, limits) as spool:
        assert spool.unavailable is not None
        with pytest.raises(SpoolFailedError):
            await spool.put(entry(200))
        await spool.remove([one.id for one in await spool.oldest(200, MIB)])
        assert spool.stats().depth == 0


async def test_a_start_on_a_full_disk_waits_for_room(small_disk: Path) -> None:
    """Nothing can be made: the spool opens and refuses, and works when there is room."""
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(4 * MIB - 4096))
    async with opened(small_disk / "spool", SpoolLimits(reserve_bytes=256 * 1024)) as spool:
        assert spool.unavailable is not None
        with pytest.raises(SpoolFailedError):
            await spool.put(entry(1))
        ballast.unlink()
        await until(lambda: spool.unavailable is None)
        await spool.put(entry(1))
        assert await delivery_ids(spool) == [entry(1).delivery_id]

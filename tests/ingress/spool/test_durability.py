"""What `put` returned for is on the disk."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
from collections import Counter
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from ingress.spool import Spool, SpoolFailedError
from ingress.spool.store import Store
from kybstream.errors import RunError
from tests.ingress.spool.spools import CONCURRENT, NOW, damaged_files, delivery_ids, entry, fill, opened


async def test_an_entry_comes_back_as_it_was_put(tmp_path: Path) -> None:
    """Every field is the same after the spool was closed and opened again, whatever the size."""
    put = [entry(number, size=size) for number, size in enumerate((0, 1, 3800, 3950, 4000, 5000, 70_000, 1_200_000))]
    async with opened(tmp_path) as spool:
        for one in put:
            await spool.put(one)
    async with opened(tmp_path) as spool:
        found = [one.entry for one in await spool.oldest(100, 2**30)]
    assert [(e.delivery_id, e.topic, e.key, e.value, tuple(e.headers), e.stored_at) for e in found] == [
        (e.delivery_id, e.topic, e.key, e.value, tuple(e.headers), e.stored_at) for e in put
    ]


async def test_entries_come_in_the_order_of_insertion_within_the_limits(tmp_path: Path) -> None:
    """`oldest` gives the first ones, no more rows and bytes than asked for, but always one."""
    async with opened(tmp_path) as spool:
        for number in range(10):
            await spool.put(entry(number, size=1000))
        assert [one.entry.delivery_id for one in await spool.oldest(3, 2**30)] == [entry(n).delivery_id for n in range(3)]
        assert len(await spool.oldest(10, 2500)) == 2
        assert len(await spool.oldest(10, 1)) == 1


async def test_a_delivery_is_kept_once(tmp_path: Path) -> None:
    """A delivery id that is there already is kept as it is, within a transaction and across a restart; counts agree."""
    async with opened(tmp_path) as spool:
        await asyncio.gather(*(spool.put(entry(1, size=size)) for size in (10, 20, 30)), spool.put(entry(2)))
        first = spool.stats()
        await spool.put(entry(1, size=40))
        assert spool.stats().depth == 2
        assert spool.stats().bytes == first.bytes
    async with opened(tmp_path) as spool:
        await spool.put(entry(2, size=50))
        assert [len(one.entry.value) for one in await spool.oldest(9, 2**30)] == [10, 600]
        assert spool.stats().bytes == first.bytes


async def test_what_was_removed_is_gone_at_the_next_start(tmp_path: Path) -> None:
    """Removing is durable too, and an id is not used again."""
    async with opened(tmp_path) as spool:
        await fill(spool, range(5))
        stored = await spool.oldest(5, 2**30)
        await spool.remove([one.id for one in stored[:2]])
        await spool.remove([one.id for one in stored[:2]])
        assert spool.stats().depth == 3
    async with opened(tmp_path) as spool:
        assert await delivery_ids(spool) == [one.entry.delivery_id for one in stored[2:]]
        await spool.remove([one.id for one in stored])
        await spool.put(entry(9))
        assert (await spool.oldest(1, 1))[0].id > stored[-1].id


async def test_many_at_once_share_transactions(tmp_path: Path) -> None:
    """Group commit: 2,000 entries put at the same time take few transactions; a lone one takes one."""
    async with opened(tmp_path) as spool:
        await spool.put(entry(0))
        assert spool.stats().transactions == 1
        await fill(spool, range(1, 2001))
        assert spool.stats().depth == 2001
        assert spool.stats().transactions < 100


def test_every_commit_is_synced(tmp_path: Path) -> None:
    """A write-ahead log that is synced with every commit: nothing less survives a power loss."""
    with closing(Store(tmp_path / "s.sqlite3", 2**30)) as store:
        run = store._connection.execute
        assert run("PRAGMA journal_mode").fetchone() == ("wal",)
        assert run("PRAGMA synchronous").fetchone() == (2,)


async def test_put_returns_after_the_disk_was_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The commit comes before the answer: when it fails, `put` fails, and nothing is counted."""

    def no_commit(*_: object) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    async with opened(tmp_path) as spool:
        with monkeypatch.context() as patch:
            patch.setattr(Store, "insert", no_commit)
            with pytest.raises(SpoolFailedError) as failure:
                await spool.put(entry(1))
            assert failure.value.retriable
            assert spool.unavailable is not None
        assert spool.stats().depth == 0


@pytest.mark.stack
async def test_sigkill_under_load_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    """Five processes are killed one after the other while 50 puts are under way: all that returned is there."""
    acknowledged: set[str] = set()
    for kills in range(5):
        with subprocess.Popen(  # noqa: ASYNC220 - killed, not waited for
            [sys.executable, "-m", "tests.ingress.spool.spools", "put", str(tmp_path)], stdout=subprocess.PIPE
        ) as child:
            assert child.stdout is not None
            lines = [child.stdout.readline() for _ in range(300 + 371 * kills)]
            child.kill()
            lines += child.stdout.readlines()
        acknowledged |= {line.decode().strip() for line in lines if line.endswith(b"\n")}
        assert all(lines[: 300 + 371 * kills]), "the process ended by itself"
    async with opened(tmp_path) as spool:
        found = Counter(await delivery_ids(spool))
        assert acknowledged <= set(found)
        # A put that was under way may be there as well.
        assert len(found) <= len(acknowledged) + 5 * CONCURRENT
        assert max(found.values()) == 1
        assert spool.stats().set_aside == 0
    assert not damaged_files(tmp_path)


@pytest.mark.stack
async def test_the_folder_belongs_to_one_process(tmp_path: Path) -> None:
    """A second process, and a second spool in the same one, get an error that names folder and holder; then it is free."""
    async with opened(tmp_path) as spool:
        await spool.put(entry(1))
        with pytest.raises(RunError, match=str(tmp_path)):
            await Spool.open(tmp_path)
        command = [sys.executable, "-m", "tests.ingress.spool.spools", "put", str(tmp_path)]
        other = subprocess.run(command, capture_output=True, check=False, timeout=60)  # noqa: ASYNC221 - nothing else is to go on
        assert other.returncode != 0
        assert f"{tmp_path} is in use by process" in other.stderr.decode()
    async with opened(tmp_path) as spool:
        assert spool.stats().depth == 1


async def test_closing_stores_what_was_put_and_takes_no_more(tmp_path: Path) -> None:
    """`close` finishes what is queued; later puts fail, and closing twice does no harm."""
    spool = await Spool.open(tmp_path)
    puts = [asyncio.create_task(spool.put(entry(number))) for number in range(500)]
    await asyncio.sleep(0)
    await spool.close()
    await asyncio.gather(*puts)
    with pytest.raises(SpoolFailedError):
        await spool.put(entry(501))
    with pytest.raises(SpoolFailedError):
        await spool.oldest(1, 1)
    await spool.close()
    async with opened(tmp_path) as again:
        assert again.stats().depth == 500


async def test_stats_say_how_full_and_how_old(tmp_path: Path) -> None:
    """Depth, bytes and the age of the oldest follow what is put and removed, also after a restart."""
    now = NOW + timedelta(seconds=90)
    async with opened(tmp_path, clock=lambda: now) as spool:
        empty = spool.stats()
        assert (empty.depth, empty.bytes, empty.oldest_seconds, empty.pending_bytes) == (0, 0, 0.0, 0)
        await fill(spool, range(3), size=1000)
        full = spool.stats()
        assert full.depth == 3
        assert 3000 < full.bytes < 3600
        assert full.oldest_seconds == 90
        assert full.file_bytes > full.bytes
    async with opened(tmp_path, clock=lambda: now) as spool:
        assert spool.stats()[:2] == full[:2]
        assert spool.stats().oldest_seconds == 90
        await spool.remove([one.id for one in await spool.oldest(3, 2**30)])
        assert (spool.stats().depth, spool.stats().bytes, spool.stats().oldest_seconds) == (0, 0, 0.0)

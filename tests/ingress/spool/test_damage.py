"""A damaged file does not keep the spool from starting: what is readable is recovered, the rest is kept for a person."""

from __future__ import annotations

import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from ingress.spool import SpoolFailedError
from ingress.spool.carving import local_bytes
from ingress.spool.entries import body_of, header_at, record_of
from ingress.spool.recovery import recover
from ingress.spool.store import PAGE_BYTES, NewEntry, Store
from tests.ingress.spool.damaging import ROWS, TURNS, everything, found_in, put_all, until_works
from tests.ingress.spool.spools import damaged_files, delivery_ids, entry, fill, opened, until


@pytest.fixture
async def closed(tmp_path: Path) -> Path:
    """A folder with a spool that was closed in order: all is in the file, there is no log."""
    folder = tmp_path / "closed"
    async with opened(folder) as spool:
        await put_all(spool)
    assert not (folder / "spool.sqlite3-wal").exists()
    return folder


@pytest.fixture
async def killed(tmp_path: Path) -> Path:
    """A folder as SIGKILL leaves it: some entries are in the file, the newest in its log only."""
    folder, copy = tmp_path / "running", tmp_path / "killed"
    async with opened(folder) as spool:
        await put_all(spool)
        await spool.oldest(1, 1)  # behind it the writer is idle
        shutil.copytree(folder, copy)
    assert (copy / "spool.sqlite3-wal").stat().st_size > 10 * PAGE_BYTES
    return copy


async def test_a_killed_spool_is_not_damaged(killed: Path) -> None:
    """A log that was left behind is read, and nobody is alarmed."""
    assert await found_in(killed) == (everything(), {})
    assert not damaged_files(killed)


@pytest.mark.parametrize("state", ["closed", "killed"])
async def test_a_garbage_header_loses_nothing(state: str, closed: Path, killed: Path) -> None:
    """When SQLite cannot read the file at all, the records are found without it, in file and log; the file is kept."""
    folder = closed if state == "closed" else killed
    damage(folder / "spool.sqlite3", 0, os.urandom(100))
    found, event = await found_in(folder)
    assert found == everything()
    assert (event["event"], event["recovered"], event["unreadable"], event["complete"]) == ("spool_damaged", ROWS, 0, True)
    assert (folder / str(event["kept_as"])).stat().st_size > 0
    assert len(damaged_files(folder)) == (2 if state == "killed" else 1)


async def test_a_file_that_was_emptied_is_recovered_from_its_log(killed: Path) -> None:
    """SQLite would throw the log of an empty file away; here it is read first."""
    (killed / "spool.sqlite3").write_bytes(b"")
    found, event = await found_in(killed)
    assert set(found) <= set(everything())
    assert entry(ROWS - 1).delivery_id in found
    assert event["event"] == "spool_damaged"


async def test_a_lost_file_is_recovered_from_its_log(killed: Path) -> None:
    """Likewise when the file is gone."""
    (killed / "spool.sqlite3").unlink()
    found, event = await found_in(killed)
    assert entry(ROWS - 1).delivery_id in found
    assert event["event"] == "spool_damaged"


async def test_a_truncated_file_keeps_what_is_left(closed: Path) -> None:
    """The first two thirds of the file give about two thirds of the entries."""
    path = closed / "spool.sqlite3"
    os.truncate(path, path.stat().st_size * 2 // 3)
    found, event = await found_in(closed)
    assert ROWS * 0.5 < len(found) < ROWS * 0.8
    assert event["event"] == "spool_damaged"
    assert event["recovered"] == len(found)
    assert found == sorted(found)


async def test_torn_pages_cost_only_what_was_on_them(closed: Path) -> None:
    """Half of three pages is overwritten: the entries elsewhere are all there."""
    path = closed / "spool.sqlite3"
    pages = path.stat().st_size // PAGE_BYTES
    for page in (pages // 4, pages // 2, pages - 3):
        damage(path, page * PAGE_BYTES, bytes(PAGE_BYTES // 2))
    found, event = await found_in(closed)
    assert ROWS - 3 * 7 <= len(found) < ROWS
    assert event["event"] == "spool_damaged"


async def test_a_damaged_index_is_found_at_the_start(closed: Path) -> None:
    """Reading the entries does not touch the index of delivery ids, storing does: it is looked at before anything is taken."""
    path = closed / "spool.sqlite3"
    data = path.read_bytes()
    index_pages = [at for at in range(PAGE_BYTES, len(data), PAGE_BYTES) if data[at] == 0x0A]
    damage(path, index_pages[1], bytes(8))
    found, event = await found_in(closed)
    assert found == everything()
    assert (event["event"], event["recovered"]) == ("spool_damaged", ROWS)


async def test_an_index_that_disagrees_with_its_table_is_recovered(closed: Path) -> None:
    """Nothing shows this before the entry is removed; then the file is recovered, and the entry can be removed."""
    path = closed / "spool.sqlite3"
    data, name = path.read_bytes(), entry(5).delivery_id.encode()
    # In a table's page, beside the record and not in it (there msgpack's mark stands before it).
    at = next(
        at
        for at in range(len(data))
        if data.startswith(name, at) and data[at - at % PAGE_BYTES] == 0x0D and data[at - 2 : at] != b"\xd9\x22"
    )
    damage(path, at, b"X")
    async with opened(closed) as spool:
        stored = await spool.oldest(ROWS, 2**40)
        assert [one.entry.delivery_id for one in stored] == everything()
        with pytest.raises(SpoolFailedError):
            await spool.remove([one.id for one in stored])
        await until_works(lambda: spool.remove([one.id for one in stored]))
        assert spool.stats().depth == 0
    assert damaged_files(closed)


async def test_a_flipped_bit_in_a_row_sets_that_row_aside(closed: Path) -> None:
    """What SQLite does not notice the checksum does: the row is not sent, and not thrown away."""
    path = closed / "spool.sqlite3"
    at = path.read_bytes().index(entry(6).value)
    damage(path, at + 10, b"\xff")
    with capture_logs() as logs:
        async with opened(closed) as spool:
            expected = [one for one in everything() if one != entry(6).delivery_id]
            assert await delivery_ids(spool) == expected
            assert (spool.stats().depth, spool.stats().set_aside) == (ROWS - 1, 1)
    assert [event["event"] for event in logs if event["log_level"] == "error"] == ["spool_entries_damaged"]
    with closing(sqlite3.connect(path)) as connection:
        kept = connection.execute("SELECT delivery_id, reason FROM set_aside").fetchall()
    assert kept == [(entry(6).delivery_id, "damaged")]


async def test_a_damaged_transaction_in_the_log_does_not_hide_those_after_it(killed: Path) -> None:
    """SQLite stops at the first bad frame, silently; the transactions after it were acknowledged and are stored again."""
    log = killed / "spool.sqlite3-wal"
    damage(log, 32 + 24 + 2 * (24 + PAGE_BYTES) + 100, b"\x55\xaa\x55\xaa")
    found, event = await found_in(killed)
    assert len(found) >= ROWS - 7
    assert entry(ROWS - 1).delivery_id in found
    assert event["event"] == "spool_log_damaged"
    assert (killed / str(event["kept_as"])).read_bytes()


async def test_a_garbage_log_header_does_not_hide_the_log(killed: Path) -> None:
    """SQLite takes a log without a sound header for empty."""
    damage(killed / "spool.sqlite3-wal", 0, os.urandom(32))
    found, event = await found_in(killed)
    assert sorted(found) == everything()
    assert event["event"] == "spool_log_damaged"


async def test_a_missing_log_is_told(killed: Path) -> None:
    """What was only in the log is lost, and nobody can say how much: it is said that it is so."""
    (killed / "spool.sqlite3-wal").unlink()
    found, event = await found_in(killed)
    assert set(found) < set(everything())
    assert event["event"] in {"spool_log_missing", "spool_damaged"}


@pytest.mark.parametrize("kept", [0, 1])
async def test_a_recovery_that_was_killed_is_finished(closed: Path, kept: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed before the files are exchanged, recovery begins anew; killed between the renames, it is finished."""
    path = closed / "spool.sqlite3"
    damage(path, 0, bytes(100))
    rename, calls = Path.rename, [0]

    def killed_at(self: Path, target: Path) -> Path:
        calls[0] += 1
        if calls[0] > kept:
            raise KeyboardInterrupt
        return rename(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", killed_at)
        with pytest.raises(KeyboardInterrupt):
            recover(path, b"", "test")
    assert path.exists() is (kept == 0)
    found, _ = await found_in(closed)
    assert found == everything()


async def test_damage_that_shows_while_running_is_recovered(tmp_path: Path) -> None:
    """A page goes bad under a running spool: puts fail for a moment, then what is readable is there and it goes on."""
    rows = 6000  # more than SQLite keeps in memory
    async with opened(tmp_path) as spool:
        await fill(spool, range(rows), size=900)
    path = tmp_path / "spool.sqlite3"
    async with opened(tmp_path) as spool:
        for page in range(9, path.stat().st_size // PAGE_BYTES, 9):
            damage(path, page * PAGE_BYTES, bytes([255]) * 64)
        with pytest.raises(SpoolFailedError):
            await spool.oldest(rows, 2**40)
        assert spool.unavailable is not None
        await until(lambda: spool.unavailable is None)
        # The heads of the pages are gone, which SQLite needs; the records are not.
        assert spool.stats().depth == rows
        await spool.put(entry(7777))
        assert (await delivery_ids(spool))[-1] == entry(7777).delivery_id
    assert damaged_files(tmp_path)


async def test_any_damage_leaves_a_spool_that_starts(closed: Path, killed: Path, tmp_path: Path) -> None:
    """Forty random damages to file, log or both: it starts, takes and gives entries, and what it gives is what was put.

    Garbage costs what is on the pages that it hits and no more; a truncation costs what it cuts off.
    """
    random = Random(4)  # noqa: S311 - repeatable, not secret
    for turn in range(TURNS):
        folder = tmp_path / f"turn{turn}"
        shutil.copytree(random.choice((closed, killed)), folder)
        damages = random.choice((1, 1, 3))
        truncated = [_damage_somewhere(random, folder) for _ in range(damages)]
        found, _ = await found_in(folder)
        assert set(found) <= set(everything())
        if not any(truncated):
            assert ROWS - len(found) <= 15 * damages
        shutil.rmtree(folder)


def _damage_somewhere(random: Random, folder: Path) -> bool:
    """Damages one of the spool's files; whether it was cut off."""
    path = random.choice(sorted(path for path in folder.iterdir() if path.name.startswith("spool.sqlite3")))
    size = path.stat().st_size
    kind = random.choice(("anywhere", "anywhere", "header", "schema", "cut"))
    if kind == "cut":
        os.truncate(path, random.randrange(size + 1))
    elif kind == "anywhere":
        damage(path, random.randrange(max(1, size)), random.randbytes(random.choice((1, 4, 512, 5000))))
    else:
        damage(path, random.randrange(100) + (0 if kind == "header" else 100), random.randbytes(2))
    return kind == "cut"


def damage(path: Path, at: int, garbage: bytes) -> None:
    """Overwrites a part of a file."""
    with path.open("r+b") as file:
        file.seek(at)
        file.write(garbage)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(size=st.integers(0, 30_000), id_size=st.integers(0, 200))
def test_where_a_record_goes_on_is_known(tmp_path: Path, size: int, id_size: int) -> None:
    """SQLite leaves as much of a record on its row's page as `local_bytes` says, for any size of record and id."""
    path = tmp_path / "sizes.sqlite3"
    path.unlink(missing_ok=True)
    new = NewEntry("i" * id_size, body_of(entry(1, size=size)))
    with closing(Store(path, 2**30)) as store:
        store.insert([new])
        number = store.oldest(1, 1)[0].id
    record = record_of(new.delivery_id, new.body, number)
    header = header_at(record)
    assert header is not None
    local = local_bytes(header)
    data = path.read_bytes()
    at = data.index(record[:local])
    if local < len(record):
        page = int.from_bytes(data[at + local : at + local + 4], "big")
        rest = record[local : local + PAGE_BYTES - 4]
        assert data[(page - 1) * PAGE_BYTES + 4 :].startswith(rest)
    path.unlink()

"""Spools of another number of processes are drained all the same."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ingress.spool import Spool, SpoolEntry, SpoolLimits, drain_left_behind, spool_folder
from ingress.spool import left_behind as module
from ingress.spool.left_behind import left_behind
from kybstream.errors import KybStreamError, UnavailableError
from kybstream.folder_lock import lock_folder
from tests.support.waiting import wait_until

SECONDS = 20


class NeverError(KybStreamError):
    """Kafka will never take it."""


async def leave(folder: Path, *delivery_ids: str) -> None:
    """A spool that a process has left there."""
    spool = await Spool.open(folder)
    for each in delivery_ids:
        await spool.put(SpoolEntry(each, "topic", b"key", b"value", [], datetime.now(UTC)))
    await spool.close()


async def entries_of(folder: Path) -> list[str]:
    """What is in it."""
    spool = await Spool.open(folder)
    found = [stored.entry.delivery_id for stored in await spool.oldest(100, 10**6)]
    await spool.close()
    return found


class Draining:
    """`drain_left_behind`, and what it has sent."""

    def __init__(self, spool_dir: Path, count: int) -> None:
        self.sent: list[str] = []
        self.watched: list[Spool] = []
        self.seen = 0
        self.fails = False
        self.stop = asyncio.Event()
        self.task = asyncio.create_task(
            drain_left_behind(
                spool_dir,
                count,
                self._send,
                self.stop,
                limits=SpoolLimits(),
                on_progress=lambda _: None,
                watch=self._watch,
            )
        )

    async def done(self) -> None:
        """Returns when it has ended by itself."""
        async with asyncio.timeout(SECONDS):
            await self.task

    async def _send(self, entry: SpoolEntry) -> None:
        if self.fails:
            raise UnavailableError("not now")
        if entry.delivery_id.startswith("never"):
            raise NeverError("never")
        self.sent.append(entry.delivery_id)

    def _watch(self, spool: Spool) -> Callable[[], None]:
        self.watched.append(spool)
        self.seen += 1
        return lambda: self.watched.remove(spool)


@pytest.mark.parametrize(
    ("count", "expected"), [(1, ["0", "1", "2", "11"]), (2, [".", "2", "11"]), (3, [".", "11"]), (12, ["."])]
)
async def test_folders_of_no_present_process_are_left_behind(tmp_path: Path, count: int, expected: list[str]) -> None:
    """All but those of the present number; what is no spool is not looked at."""
    for name in (".", "0", "1", "2", "11"):
        await leave(tmp_path / name)
    for name in ("3", "x", "04", "spool.sqlite3.damaged-x"):
        (tmp_path / name).mkdir()
    assert [str(each.relative_to(tmp_path)) for each in left_behind(tmp_path, count)] == expected
    assert not {spool_folder(tmp_path, index, count) for index in range(count)} & set(left_behind(tmp_path, count))


async def test_what_was_left_behind_is_sent_and_the_rest_left_alone(tmp_path: Path) -> None:
    """From several processes to two: the folders beyond, and the one process's own, are emptied; those in use are not."""
    await leave(tmp_path, "alone")
    await leave(tmp_path / "0", "zero")
    await leave(tmp_path / "2", "two", "never", "three")
    await leave(tmp_path / "3")
    draining = Draining(tmp_path, 2)
    await draining.done()
    assert sorted(draining.sent) == ["alone", "three", "two"]
    assert await entries_of(tmp_path / "0") == ["zero"]
    assert await entries_of(tmp_path / "2") == ["never"], "it is tried again at each start"
    assert (draining.seen, draining.watched) == (3, []), "each is in the metrics while it is drained"


async def test_a_folder_in_use_is_drained_when_it_is_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process of the former number may still be ending: its folder is tried again; the others do not wait for it."""
    monkeypatch.setattr(module, "RETRY_SECONDS", 0.05)
    await leave(tmp_path / "1", "one")
    await leave(tmp_path / "2", "two")
    with lock_folder(tmp_path / "1"):
        draining = Draining(tmp_path, 1)
        await wait_until(lambda: draining.sent == ["two"], SECONDS, "the free one is drained")
        assert not draining.task.done()
    await draining.done()
    assert draining.sent == ["two", "one"]


async def test_what_cannot_be_sent_stays(tmp_path: Path) -> None:
    """Without Kafka nothing is lost and nothing is given up: it ends when it is stopped, and the entries are there."""
    await leave(tmp_path / "1", "one")
    draining = Draining(tmp_path, 1)
    draining.fails = True
    await wait_until(lambda: draining.watched, SECONDS, "it has been opened")
    assert not draining.task.done()
    draining.stop.set()
    await draining.done()
    assert await entries_of(tmp_path / "1") == ["one"]


async def test_a_spool_that_cannot_be_opened_does_not_pass_for_empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file on a disk that fails shows no entries; it is tried again until it does."""
    monkeypatch.setattr(module, "RETRY_SECONDS", 0.05)
    await leave(tmp_path / "1", "one")
    file = tmp_path / "1" / "spool.sqlite3"
    moved = file.rename(tmp_path / "elsewhere")
    file.mkdir()  # cannot be read as a file, whoever one is
    draining = Draining(tmp_path, 1)
    await wait_until(lambda: draining.seen >= 2, SECONDS, "it is tried again")
    draining.stop.set()
    await draining.done()
    file.rmdir()
    moved.rename(file)
    draining = Draining(tmp_path, 1)
    await draining.done()
    assert draining.sent == ["one"]


async def test_a_bug_in_draining_it_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends with the error, and the folder is free again, so that it can be begun anew."""

    async def failing(*_given: object, **_named: object) -> None:
        raise KeyError

    await leave(tmp_path / "1", "a")
    monkeypatch.setattr(module, "drain", failing)
    draining = Draining(tmp_path, 1)
    with pytest.raises(KeyError):
        await draining.done()
    assert draining.watched == []
    assert await entries_of(tmp_path / "1") == ["a"]

"""The spool drains itself: oldest first, while Kafka takes it, and nothing is lost on the way."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from time import monotonic

import pytest
from structlog.testing import capture_logs

from ingress.spool import DrainLimits, Lanes, Spool, SpoolEntry, SpoolFailedError, drain
from ingress.spool.drainer import Produce
from ingress.spool.store import Store
from kybstream.errors import KybStreamError, UnavailableError
from tests.ingress.spool.spools import delivery_ids, entry, fill, opened, until

FAST = DrainLimits(batch_rows=50, concurrency=16, first_pause_seconds=0.01, longest_pause_seconds=0.05)


class RefusedForGoodError(KybStreamError):
    """As a record that is too large."""


@asynccontextmanager
async def draining(
    spool: Spool,
    produce: Produce,
    limits: DrainLimits = FAST,
    on_progress: Callable[[int], None] | None = None,
    lanes: Lanes | None = None,
) -> AsyncIterator[None]:
    """A drain that is stopped, and has ended by itself, at the end."""
    stop = asyncio.Event()
    task = asyncio.create_task(drain(spool, produce, stop, lanes=lanes, on_progress=on_progress, limits=limits))
    try:
        yield
    finally:
        stop.set()
        await asyncio.wait_for(task, 10)


async def test_everything_is_sent_oldest_first_and_then_gone(tmp_path: Path) -> None:
    """Each entry is sent once when nothing fails, batches in order, and progress is told."""
    sent: list[str] = []
    progress: list[int] = []

    async def produce(one: SpoolEntry) -> None:
        await asyncio.sleep(0)
        sent.append(one.delivery_id)

    async with opened(tmp_path) as spool:
        await fill(spool, range(1000))
        async with draining(spool, produce, on_progress=progress.append):
            await until(lambda: spool.stats().depth == 0)
            await until(lambda: sum(progress) == 1000)
            # What comes later is sent as well.
            await spool.put(entry(1000))
            await until(lambda: spool.stats().depth == 0)
    for start in range(0, 1000, 50):
        assert sorted(sent[start : start + 50]) == [entry(n).delivery_id for n in range(start, start + 50)]
    assert len(sent) == 1001


async def test_entries_of_a_key_are_sent_one_after_the_other(tmp_path: Path) -> None:
    """Also when some fail: none of a key is sent before the older one was acknowledged. Other keys do not wait for it."""
    attempts: dict[bytes, list[str]] = defaultdict(list)
    acknowledged: dict[bytes, list[str]] = defaultdict(list)
    under_way: Counter[bytes] = Counter()
    turns = 0

    async def produce(one: SpoolEntry) -> None:
        nonlocal turns
        turns += 1
        under_way[one.key] += 1
        assert under_way[one.key] == 1
        attempts[one.key].append(one.delivery_id)
        try:
            await asyncio.sleep(0.001)
            if turns % 7 == 0:
                raise UnavailableError("slow")
        finally:
            under_way[one.key] -= 1
        acknowledged[one.key].append(one.delivery_id)

    async with opened(tmp_path) as spool:
        for number in range(200):
            await spool.put(entry(number, key=b"acme/%d" % (number % 5)))
        async with draining(spool, produce):
            await until(lambda: spool.stats().depth == 0)
    for key in range(5):
        expected = [entry(number).delivery_id for number in range(key, 200, 5)]
        assert acknowledged[b"acme/%d" % key] == expected
        # An attempt that failed is followed by the same entry, never by the next.
        assert list(dict.fromkeys(attempts[b"acme/%d" % key])) == expected


async def test_it_backs_off_while_kafka_is_away_and_goes_on_when_it_is_back(tmp_path: Path) -> None:
    """No busy loop during an outage; afterwards everything is sent, and nothing was removed before."""
    away, attempts, sent = True, 0, set()

    async def produce(one: SpoolEntry) -> None:
        nonlocal attempts
        attempts += 1
        if away:
            raise UnavailableError("away")
        sent.add(one.delivery_id)

    async with opened(tmp_path) as spool:
        await fill(spool, range(300))
        async with draining(spool, produce, DrainLimits(concurrency=4, first_pause_seconds=0.05, longest_pause_seconds=0.2)):
            started = monotonic()
            await until(lambda: attempts >= 16)
            # Four at a time, and three pauses of at least half of 0.05, 0.1 and 0.2 seconds between them.
            assert monotonic() - started > 0.17
            assert spool.stats().depth == 300
            away = False
            await until(lambda: spool.stats().depth == 0)
    assert len(sent) == 300


async def test_live_traffic_has_room(tmp_path: Path) -> None:
    """No more than `concurrency` entries wait for Kafka at the same time."""
    under_way = most = 0

    async def produce(_: SpoolEntry) -> None:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0.002)
        under_way -= 1

    async with opened(tmp_path) as spool:
        await fill(spool, range(200))
        async with draining(spool, produce, DrainLimits(concurrency=8)):
            await until(lambda: spool.stats().depth == 0)
    assert most == 8


@pytest.mark.parametrize("problem", [RefusedForGoodError("too large"), RuntimeError("a bug")])
async def test_a_bad_entry_stops_nobody(tmp_path: Path, problem: Exception) -> None:
    """What Kafka refuses for good is set aside; what fails for an unknown reason stays, and the others pass it."""
    bad = entry(3).delivery_id

    async def produce(one: SpoolEntry) -> None:
        if one.delivery_id == bad:
            raise problem

    async with opened(tmp_path) as spool:
        await fill(spool, range(200))
        with capture_logs() as logs:
            async with draining(spool, produce):
                refused = isinstance(problem, RefusedForGoodError)
                await until(
                    lambda: spool.stats()[0] == (0 if refused else 1) and spool.stats().set_aside == (1 if refused else 0)
                )
        assert await delivery_ids(spool) == ([] if refused else [bad])
    assert any(event.get("delivery_id") == bad for event in logs)


async def test_what_cannot_be_removed_is_not_sent_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the disk refuses removals nothing more is sent; when it takes them, each entry was sent once."""
    sent: Counter[str] = Counter()
    broken, refusals, remove = True, 0, Store.remove

    async def produce(one: SpoolEntry) -> None:
        sent[one.delivery_id] += 1

    def failing(store: Store, ids: list[int]) -> None:
        nonlocal refusals
        if broken:
            refusals += 1
            raise SpoolFailedError("no room")
        remove(store, ids)

    monkeypatch.setattr(Store, "remove", failing)
    async with opened(tmp_path) as spool:
        await fill(spool, range(120))
        async with draining(spool, produce):
            await until(lambda: refusals > 5)
            assert len(sent) == 50
            broken = False
            await until(lambda: spool.stats().depth == 0)
    assert set(sent.values()) == {1}
    assert len(sent) == 120


async def test_stopping_waits_for_what_is_being_sent(tmp_path: Path) -> None:
    """What was acknowledged when it stops is removed; what was not begun stays."""
    acknowledge = asyncio.Event()
    begun = 0

    async def produce(_: SpoolEntry) -> None:
        nonlocal begun
        begun += 1
        await acknowledge.wait()

    async with opened(tmp_path) as spool:
        await fill(spool, range(100))
        stop = asyncio.Event()
        task = asyncio.create_task(drain(spool, produce, stop, limits=FAST))
        await until(lambda: begun == FAST.concurrency)
        stop.set()
        acknowledge.set()
        await asyncio.wait_for(task, 10)
        assert begun == FAST.concurrency
        assert spool.stats().depth == 100 - FAST.concurrency


@pytest.mark.stack
async def test_sigkill_while_draining_loses_nothing(tmp_path: Path) -> None:
    """A drain is killed four times: each entry was sent at least once, few twice, in the end the spool is empty."""
    folder, sent = tmp_path / "spool", tmp_path / "sent"
    expected = {entry(number).delivery_id for number in range(6000)}
    async with opened(folder) as spool:
        await fill(spool, range(6000))
    for kills in range(1, 5):
        with subprocess.Popen(  # noqa: ASYNC220 - killed, not waited for
            [sys.executable, "-m", "tests.ingress.spool.spools", "drain", str(folder), str(sent)], stdout=subprocess.PIPE
        ) as child:
            assert child.stdout is not None
            assert child.stdout.readline() == b"draining\n"
            goal = kills * 700 * 36
            await until(lambda goal=goal: sent.exists() and sent.stat().st_size > goal)  # type: ignore[misc]
            child.kill()
        done = set(sent.read_text().split())
        async with opened(folder) as spool:
            left = set(await delivery_ids(spool))
            assert done | left == expected
    assert left

    async def produce(one: SpoolEntry) -> None:
        with sent.open("a") as file:
            file.write(one.delivery_id + "\n")

    async with opened(folder) as spool, draining(spool, produce):
        await until(lambda: spool.stats().depth == 0)
    times = Counter(sent.read_text().split())
    assert set(times) == expected
    assert sum(times.values()) - len(times) <= 4 * DrainLimits().batch_rows


async def test_a_partition_that_takes_nothing_holds_up_no_other(tmp_path: Path) -> None:
    """The oldest entries, more than are read at once, are of a partition without a leader: those behind them are sent."""
    leader, sent, attempts = False, list[str](), 0

    async def produce(one: SpoolEntry) -> None:
        nonlocal attempts
        if one.key.startswith(b"stuck") and not leader:
            attempts += 1
            raise UnavailableError("no leader")
        sent.append(one.delivery_id)

    lanes = Lanes(lambda one: one.key.partition(b"/")[0], 8)
    async with opened(tmp_path) as spool:
        for number in range(300):
            await spool.put(entry(number, key=b"stuck/%d" % number))
        for number in range(300, 500):
            await spool.put(entry(number, key=b"other/%d" % (number % 7)))
        async with draining(spool, produce, lanes=lanes):
            await until(lambda: spool.stats().depth == 300)
            assert sorted(sent) == [entry(number).delivery_id for number in range(300, 500)]
            await spool.put(entry(500, key=b"other/late"))
            await until(lambda: spool.stats().depth == 300)
            assert attempts < 300
            leader = True
            await until(lambda: spool.stats().depth == 0)
    assert len(sent) == len(set(sent)) == 501


async def test_what_kafka_refused_is_sent_again_after_a_restart(tmp_path: Path) -> None:
    """A limit was too low, and was raised: what was set aside for it is taken up at the next start, and nothing else."""
    limit, sent = 10, list[str]()

    async def produce(one: SpoolEntry) -> None:
        if limit < 100:
            raise RefusedForGoodError("too large")
        sent.append(one.delivery_id)

    async with opened(tmp_path) as spool:
        await fill(spool, range(3))
        async with draining(spool, produce):
            await until(lambda: spool.stats().set_aside == 3)
        assert spool.stats().depth == 0
    limit = 100
    async with opened(tmp_path) as spool:
        assert (spool.stats().depth, spool.stats().set_aside) == (3, 0)
        async with draining(spool, produce):
            await until(lambda: spool.stats().depth == 0)
    assert sent == [entry(number).delivery_id for number in range(3)]

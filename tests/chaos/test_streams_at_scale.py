"""The worker under load, on a real Kafka, while things break: every delivery, event and case comes out once, and right."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from deploy.embedded.apache_kafka import KafkaNode
from tests.chaos.failures import LONG
from tests.chaos.fleet import Fleet, fleet
from tests.chaos.streams_counting import Count, count

DELIVERIES, RATE = (200_000, 2_500.0) if LONG else (8_000, 250.0)
"""How many, and how many a second are written at most: so that what breaks, breaks while more comes."""

KILLS, JOINS, RESTARTS = 10, 5, 3
"""Of one test of the long form."""

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(1_800 if LONG else 360)]

only_long = pytest.mark.skipif(not LONG, reason="the long form alone; set KYB_STREAM_CHAOS=long")

Breaking = Callable[[Fleet], Awaitable[None]]


class Chaos:
    """What breaks, at moments that the dice choose.

    Args:
        running: The workers.
        broker: The node under them.
        dice: Chooses the moments.
        times: How often in all; spreads them over the load.
    """

    def __init__(self, running: Fleet, broker: KafkaNode, dice: random.Random, times: int) -> None:
        self._running = running
        self._broker = broker
        self._dice = dice
        self._left = times

    async def kill(self) -> None:
        """SIGKILL of the first worker; one time of three again while it starts."""
        await self._moment()
        await self._kill_and_start()
        if self._dice.random() < 1 / 3:
            await asyncio.sleep(self._dice.uniform(0.1, 4.0))
            await self._kill_and_start()

    async def lose_store(self) -> None:
        """SIGKILL of the first worker; its local state is gone when it starts again."""
        await self._moment()
        await self._running.first.worker.kill()
        self._running.first.delete_store()
        self._running.first.worker.start()

    async def join(self) -> None:
        """A second worker comes."""
        await self._moment()
        await self._running.first.worker.ready()
        await self._running.second.start()

    async def leave(self) -> None:
        """The second worker goes, at SIGTERM."""
        await self._moment()
        await self._running.second.stop()

    async def restart_broker(self) -> None:
        """SIGKILL of the broker, and a start."""
        await self._moment()
        await self._running.first.worker.ready()  # a worker that starts without a broker ends: its supervisor's business
        await self._broker.kill()
        await self._broker.start()

    async def _kill_and_start(self) -> None:
        await self._running.first.worker.kill()
        self._running.first.worker.start()

    async def _moment(self) -> None:
        """Waits for a random share of what is still to do, and for any moment between two commits."""
        to_do = self._running.load.deliveries - await self._running.committed()
        self._left -= 1
        await self._running.gets_on(self._dice.randint(1, max(1, to_do // (self._left + 2))))
        await asyncio.sleep(self._dice.random())


@pytest.fixture
def run(
    breakable_kafka: KafkaNode, topic_prefix: str, tmp_path: Path, dice: random.Random
) -> Callable[[list[str]], Awaitable[Count]]:
    """Runs a load while these things break, in this order; then counts."""

    async def run(breaking: list[str]) -> Count:
        began = time.monotonic()
        servers = breakable_kafka.bootstrap_servers
        async with fleet(
            tmp_path, bootstrap_servers=servers, topic_prefix=topic_prefix, deliveries=DELIVERIES, rate=RATE, dice=dice
        ) as running:
            await running.first.start()
            writing = asyncio.create_task(running.write())
            chaos = Chaos(running, breakable_kafka, dice, len(breaking))
            for each in breaking:
                await getattr(chaos, each)()
            broken = time.monotonic() - began
            still_writing = not writing.done()
            await writing
            await running.drained()
            worked = time.monotonic() - began
            for station in (running.first, running.second):
                if station.worker.process and station.worker.running.exit_code is None:
                    await station.worker.ready()  # it may have been killed a moment ago
                    await station.stop()
            found = await count(running.settings, running.load.expected)
            print(  # noqa: T201
                f"{running.written} records written; {found}; {running.first.worker.starts} and {running.second.worker.starts} "
                f"starts; {broken:.0f} s of breaking{'' if still_writing else ' (longer than the load)'}, "
                f"{worked:.0f} s until drained, {time.monotonic() - began:.0f} s with the count"
            )
            assert len(found.deliveries.records) >= DELIVERIES
        return found

    return run


Run = Callable[[list[str]], Awaitable[Count]]


@only_long
async def test_kills_at_random_moments_lose_and_double_nothing(run: Run) -> None:
    """The worker is SIGKILLed again and again, also while it starts."""
    assert (await run(["kill"] * KILLS)).deliveries.copies > 0


@only_long
async def test_workers_that_join_and_leave_lose_and_double_nothing(run: Run) -> None:
    """A second worker comes and goes under load: partitions move, and with them their state."""
    await run(["join", "leave"] * JOINS)


@only_long
async def test_a_restarted_broker_loses_and_doubles_nothing(run: Run) -> None:
    """The broker is SIGKILLed and started again under the worker."""
    await run(["restart_broker"] * RESTARTS)


@only_long
async def test_a_deleted_store_loses_and_doubles_nothing(run: Run) -> None:
    """The worker is SIGKILLed and its local state deleted: it is read back from the changelog, and the worker goes on."""
    await run(["lose_store"] * RESTARTS)


async def test_all_at_once_loses_and_doubles_nothing(run: Run, dice: random.Random) -> None:
    """Kills, a worker that comes and goes, a lost store and a restarted broker, in one run."""
    if LONG:
        single = ["kill"] * KILLS + ["lose_store"] * RESTARTS + ["restart_broker"] * RESTARTS
        dice.shuffle(single)
        places = sorted(dice.sample(range(len(single)), 2 * JOINS))
        for number, place in reversed(list(enumerate(places))):
            single.insert(place, "leave" if number % 2 else "join")
    else:
        single = ["kill", "join", "kill", "restart_broker", "leave", "lose_store", "kill"]
    await run(single)

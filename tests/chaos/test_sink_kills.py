"""The sink between a real Kafka and a ClickHouse server while things break: each offset is a row, once."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from deploy.embedded.apache_kafka import KafkaNode
from deploy.embedded.configuration import new_configuration, write_configuration
from kybstream.errors import KybStreamError
from kybstream.settings import load_settings
from sinks.query import query
from tests.chaos.clickhouse_node import ClickHouseNode, clickhouse_node
from tests.chaos.failures import LONG
from tests.chaos.production import Component
from tests.chaos.sink_load import SinkLoad
from tests.support.commands import kyb_stream
from tests.support.waiting import wait_until

RECORDS, RATE = (500_000, 2_500.0) if LONG else (12_000, 1_000.0)
"""How many, and how many a second are written at most: so that what breaks, breaks while more comes."""

KILLS, SERVER_KILLS, FREEZES, JOINS = (20, 4, 2, 3) if LONG else (2, 1, 1, 1)
FROZEN_SECONDS = 10.0 if LONG else 2.0
MOVED_SECONDS = 60.0
DRAINED_SECONDS = 300.0 if LONG else 60.0
STOP_SECONDS = 20.0

_NO_MERGES = (
    "ALTER TABLE deliveries MODIFY SETTING max_bytes_to_merge_at_max_space_in_pool = 1, "
    "max_bytes_to_merge_at_min_space_in_pool = 1, parts_to_delay_insert = 100000, parts_to_throw_insert = 100000"
)
"""A merge would hide what landed twice; unlike SYSTEM STOP MERGES this lasts over a restart of the server."""

pytestmark = [pytest.mark.kafka, pytest.mark.stack, pytest.mark.timeout(1_200 if LONG else 180)]


@dataclass
class Chaos:
    """What breaks, each to its end before the next.

    Attributes:
        server: ClickHouse.
        first: The sink that runs from the beginning.
        second: One that comes and goes.
        load: What is written meanwhile.
        dice: Chooses the moments.
    """

    server: ClickHouseNode
    first: Component
    second: Component
    load: SinkLoad
    dice: random.Random

    async def kill_sink(self) -> None:
        """SIGKILL; one time of three again while it starts."""
        await self.first.kill()
        self.first.start()
        if self.dice.random() < 1 / 3:
            await asyncio.sleep(self.dice.uniform(0.1, 3.0))
            await self.first.kill()
            self.first.start()

    async def kill_server(self) -> None:
        """SIGKILL of ClickHouse, inserts under way included, and a start."""
        self.server.kill()
        await asyncio.sleep(self.dice.random())
        await self.server.start()

    async def freeze_server(self) -> None:
        """It answers nothing for a while; connections stay open."""
        self.server.freeze()
        await asyncio.sleep(FROZEN_SECONDS)
        self.server.thaw()

    async def join(self) -> None:
        """A second sink takes half of the partitions."""
        await self.first.ready()
        self.second.start()
        await self.second.ready()

    async def leave(self) -> None:
        """It goes, at SIGTERM; the first takes its partitions."""
        self.second.running.send(signal.SIGTERM)
        assert await self.second.running.ended(STOP_SECONDS) == 0, self.second.running.output

    async def moment(self) -> None:
        """Waits until rows land again, and then for any moment between two inserts."""
        before = await self._landed() or 0

        async def moved() -> bool:
            for sink in (self.first, self.second):
                assert sink.process is None or sink.process.exit_code in {None, 0}, sink.process.output
            return (await self._landed() or 0) > before or self.load.written == self.load.records

        await wait_until(moved, MOVED_SECONDS, "rows land again")
        await asyncio.sleep(self.dice.random())

    async def _landed(self) -> int | None:
        try:
            return await self.load.landed()
        except KybStreamError:
            return None


@asynccontextmanager
async def chaos(folder: Path, kafka: KafkaNode, name: str, dice: random.Random) -> AsyncIterator[Chaos]:
    """A server, topics and tables of this name's own, and a sink that runs."""
    async with clickhouse_node(folder / "clickhouse") as server:
        sinks = []
        for which in ("sink", "sink-2"):
            values = new_configuration(bootstrap_servers=kafka.bootstrap_servers, clickhouse_port=1, ingress_port=1)
            values["kafka"] = {"bootstrap_servers": kafka.bootstrap_servers, "topic_prefix": f"{name}."}
            values["clickhouse"] = {"url": server.url, "database": name}
            values["sink"] = {"group": f"{name}-sink", "flush_seconds": 0.5, "dead_letter_share": 1.0}
            place = folder / which
            place.mkdir()
            write_configuration(place / "kyb-stream.toml", values, comment="Made by the tests.")
            sinks.append(Component("sink", place / "kyb-stream.toml", place))
        first, second = sinks
        migrated = await kyb_stream("migrate", "--config", str(first.config_path))
        assert migrated.exit_code == 0, migrated
        settings = load_settings(first.config_path, {})
        await query(settings.clickhouse, _NO_MERGES)
        try:
            first.start()
            await first.ready()
            yield Chaos(server, first, second, SinkLoad(settings, RECORDS, RATE, dice), dice)
        finally:
            server.thaw()
            await asyncio.gather(*(sink.process.close() for sink in sinks if sink.process))


async def drained(running: Chaos) -> None:
    """Waits until all that was written is in the tables."""

    async def complete() -> bool:
        for sink in (running.first, running.second):
            assert sink.process is None or sink.process.exit_code in {None, 0}, sink.process.output
        return await running.load.complete()

    await wait_until(complete, DRAINED_SECONDS, "all rows and dead letters are there")


async def test_whatever_is_killed_each_offset_is_a_row_once(
    apache_kafka: KafkaNode, database_name: str, tmp_path: Path, dice: random.Random
) -> None:
    """Sink and server are SIGKILLed, the server is frozen, a second sink takes partitions and gives them back, with poison.

    Each offset is one row, also without FINAL: whoever goes on asks the table where, and repeats have their token.
    """
    breaking = ["kill_sink"] * KILLS + ["kill_server"] * SERVER_KILLS + ["freeze_server"] * FREEZES
    dice.shuffle(breaking)
    places = sorted(dice.sample(range(len(breaking) + 1), 2 * JOINS))
    for number, place in reversed(list(enumerate(places))):
        breaking.insert(place, "leave" if number % 2 else "join")
    began = time.monotonic()
    async with chaos(tmp_path, apache_kafka, database_name, dice) as running:
        writing = asyncio.create_task(running.load.write())
        for each in breaking:
            await running.moment()
            step: Callable[[], Awaitable[None]] = getattr(running, each)
            await step()
        broken = time.monotonic() - began
        still_writing = not writing.done()
        await writing
        await drained(running)
        raw = await running.load.check(token_suffices=True)
        print(  # noqa: T201
            f"{sum(raw.rows.values())} rows and {running.load.poison} dead letters of {running.load.written} records, "
            f"{raw.doubled} rows doubled without FINAL; {running.first.starts} and {running.second.starts} starts of the "
            f"sinks, {running.server.starts} of the server; {broken:.0f} s of breaking"
            f"{'' if still_writing else ' (longer than the load)'}, {time.monotonic() - began:.0f} s in all"
        )


async def test_a_sink_killed_before_a_frozen_server_doubles_nothing_with_final(
    apache_kafka: KafkaNode, database_name: str, tmp_path: Path, dice: random.Random
) -> None:
    """What a killed sink left in a frozen server may land behind its successor's back: with FINAL each row is once."""
    async with chaos(tmp_path, apache_kafka, database_name, dice) as running:
        running.load.records = RECORDS // 10
        writing = asyncio.create_task(running.load.write())
        for _ in range(FREEZES):
            await running.moment()
            running.server.freeze()
            await asyncio.sleep(dice.uniform(0.5, 1.5))
            await running.kill_sink()
            await asyncio.sleep(dice.uniform(0.5, FROZEN_SECONDS))
            running.server.thaw()
        await writing
        await drained(running)
        raw = await running.load.check(token_suffices=False)
        print(f"{raw.doubled} of {sum(raw.rows.values())} rows doubled without FINAL, none with it")  # noqa: T201

"""The ingress under load, on a real Kafka, while things break: a 200 means that the delivery is in the raw topic."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

from deploy.embedded.apache_kafka import KafkaNode
from tests.chaos.door import MakeDoor
from tests.chaos.failures import DELIVERIES, ROUNDS, TIMEOUT_SECONDS, account_of
from tests.support.load_process import RunningLoad
from tests.support.small_disk import small_disk

FROZEN_SECONDS = 10.0
DISK_MEBIBYTES = 20
"""Eight of them are the spool's reserve."""

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(TIMEOUT_SECONDS)]


@pytest.mark.parametrize("spooling", [True, False], ids=["spool", "no-spool"])
async def test_a_killed_broker_under_load_loses_nothing(
    open_door: MakeDoor, breakable_kafka: KafkaNode, tmp_path: Path, dice: random.Random, *, spooling: bool
) -> None:
    """The broker is SIGKILLed and restarted: with a spool nobody gets an error, without one 503 until it is back."""

    async def breaking(load: RunningLoad) -> None:
        for _ in range(ROUNDS):
            await load.gets_on(dice.randint(1_000, 6_000))
            await breakable_kafka.kill()
            if spooling:
                await load.gets_on(dice.randint(1_000, 3_000))
            else:
                await load.fails(load.failed + 500)
            await breakable_kafka.start()
            await load.gets_on(DELIVERIES // ROUNDS // 4)

    async with open_door(spool_dir=tmp_path / "spool" if spooling else None) as opened:
        found = await account_of(opened, breaking)
        if spooling:
            assert not found.failures
            assert opened.counted["kyb_ingress_spooled_total"] > 1_000
        else:
            assert found.failures.keys() == {"503"}


async def test_a_frozen_broker_under_load_goes_unnoticed(
    open_door: MakeDoor, breakable_kafka: KafkaNode, tmp_path: Path
) -> None:
    """The broker is SIGSTOPped for 10 s: no provider notices, neither by an error nor by a long wait."""

    async def breaking(load: RunningLoad) -> None:
        for _ in range(ROUNDS):
            await load.gets_on(2_000)
            breakable_kafka.pause()
            await asyncio.sleep(FROZEN_SECONDS)
            breakable_kafka.resume()
            await load.gets_on(2_000)

    async with open_door(spool_dir=tmp_path / "spool") as opened:
        found = await account_of(opened, breaking)
        assert not found.failures
        assert found.slowest < 3.0
        assert opened.counted["kyb_ingress_spooled_total"] > 1_000


async def test_an_ingress_killed_under_load_loses_nothing(open_door: MakeDoor, tmp_path: Path, dice: random.Random) -> None:
    """The ingress is SIGKILLed at random moments under load, and once while it starts: what it had answered is in the topic."""
    async with open_door(spool_dir=tmp_path / "spool") as opened:

        async def breaking(load: RunningLoad) -> None:
            for _ in range(ROUNDS):
                for _ in range(5):
                    await load.gets_on(dice.randint(500, DELIVERIES // ROUNDS // 6))
                    await asyncio.sleep(dice.uniform(0.0, 0.1))
                    await opened.kill()
                    await opened.start()
                await opened.kill()
                opened.ingress.start()
                await asyncio.sleep(dice.uniform(0.1, 1.0))
                await opened.ingress.kill()
                await opened.start()

        found = await account_of(opened, breaking)
        assert opened.ingress.starts == 1 + 7 * ROUNDS
        assert found.failures.total() > 0


async def test_broker_and_ingress_killed_together_lose_nothing(
    open_door: MakeDoor, breakable_kafka: KafkaNode, tmp_path: Path, dice: random.Random
) -> None:
    """Both are SIGKILLed together; the ingress again while it spools, and again while it drains."""
    async with open_door(spool_dir=tmp_path / "spool") as opened:

        async def breaking(load: RunningLoad) -> None:
            for _ in range(ROUNDS):
                await load.gets_on(dice.randint(1_000, 5_000))
                await opened.count()
                await asyncio.gather(breakable_kafka.kill(), opened.ingress.kill())
                async with asyncio.TaskGroup() as starting:
                    starting.create_task(breakable_kafka.start())
                    # The broker takes seconds longer: the spool is all there is.
                    await opened.start()
                    await load.gets_on(dice.randint(500, 2_000))
                    await opened.kill()
                    await opened.start()
                await opened.draining()
                await opened.kill()
                await opened.start()
                await load.gets_on(DELIVERIES // ROUNDS // 4)

        found = await account_of(opened, breaking)
        assert opened.ingress.starts == 1 + 3 * ROUNDS
        assert found.failures.total() > 0
        assert opened.counted["kyb_ingress_spooled_total"] > 500


async def test_a_full_disk_claims_nothing(
    open_door: MakeDoor, breakable_kafka: KafkaNode, tmp_path: Path, dice: random.Random
) -> None:
    """Without a broker the disk fills: then 503, never 200. When the broker is back, the spool drains and all goes on."""
    with small_disk(tmp_path / "disk", DISK_MEBIBYTES) as disk:
        async with open_door(spool_dir=disk / "spool") as opened:

            async def breaking(load: RunningLoad) -> None:
                for _ in range(ROUNDS):
                    await load.gets_on(dice.randint(1_000, 4_000))
                    await breakable_kafka.kill()
                    await load.fails(load.failed + 500)
                    before = load.acknowledged
                    await load.fails(load.failed + 1_000)
                    assert load.acknowledged - before < 100  # SQLite may still find a page
                    await breakable_kafka.start()
                    await load.gets_on(DELIVERIES // ROUNDS // 4)

            found = await account_of(opened, breaking)
            assert found.failures.keys() == {"503"}
            assert opened.counted["kyb_ingress_spool_refused_total"] == found.failures["503"]

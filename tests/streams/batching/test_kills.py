"""Kills at random moments under load, on a real Kafka."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import msgspec
import pytest

from deploy.embedded.apache_kafka import KafkaNode
from streams.batching.rocks import RocksState
from tests.streams.batching.dedupe_worker import WorkerConfig
from tests.streams.batching.harness import LONG, Lab, Worker, first_places
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(600 if LONG else 120)]

RECORDS = 200_000 if LONG else 24_000
KILLS = 10 if LONG else 4


async def forwarded_up_to(lab: Lab, config: WorkerConfig, worker: Worker, goal: int) -> None:
    """Wait until the worker has forwarded so many records."""

    async def reached() -> bool:
        assert worker.exit_code is None, worker.log.read_text()[-3000:]
        return await lab.end(config.target) >= goal

    await wait_until(reached, 60, f"{goal} outputs")


async def all_committed(lab: Lab, config: WorkerConfig, worker: Worker) -> None:
    """Wait until the worker has committed all there is."""
    total = await lab.end(config.sources[0])

    async def caught_up() -> bool:
        assert worker.exit_code is None, worker.log.read_text()[-3000:]
        return await lab.committed(config.app_id) == total

    await wait_until(caught_up, 60, "all committed")


async def run_with_kills(lab: Lab, config: WorkerConfig, kills: int, distinct: int) -> None:
    """Kill the worker whenever it has forwarded a random share more, then let it finish."""
    worker = lab.start(config)
    for left in range(kills, 0, -1):
        done = await lab.end(config.target)
        share = max(2, (distinct - done) // (left + 1))
        await forwarded_up_to(lab, config, worker, done + random.randint(1, share))  # noqa: S311
        await worker.kill()
        worker = lab.start(config)
    await all_committed(lab, config, worker)
    assert await worker.stop() == 0


async def lost_after_kills(lab: Lab, config: WorkerConfig, kills: int) -> tuple[int, bool]:
    """Return how many outputs are missing after kills, and whether changelog and local state are exact."""
    expected = first_places(await lab.read(config.sources[0]))
    await run_with_kills(lab, config, kills, len(expected))
    return await compare(lab, config, expected)


async def compare(lab: Lab, config: WorkerConfig, expected: dict[bytes, bytes]) -> tuple[int, bool]:
    """Return how many outputs are missing, and whether changelog and local state are exact."""
    outputs = await lab.read(config.target)
    forwarded = {record.value: dict(record.headers)["first"] for record in outputs}
    lost = sum(forwarded.get(value) != place for value, place in expected.items())
    exact = await lab.state(config) == expected
    folder = Path(config.datadir) / "v1/tables/seen"
    if config.store.startswith("rocksdb"):
        disk = RocksState(folder)
        on_disk = {key: value for number in range(lab.partitions) for key, value in disk.scan(number)}
        exact = exact and on_disk == expected
        disk.close()
    return lost, exact


async def filled(lab: Lab, records: int) -> None:
    """Fill the source topic; every tenth id is one seen before."""
    await lab.create("in", "out")
    await lab.produce("in", (b"id-%d" % (i if i % 10 else i // 2) for i in range(records)))


async def test_nothing_is_lost_when_the_worker_is_killed_under_load(apache_kafka: KafkaNode, tmp_path: Path) -> None:
    """However often it is killed: no output missing, and the state in changelog and on disk exactly as without a kill."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    async with (
        Lab(apache_kafka.bootstrap_servers, tmp_path / "a") as disk,
        Lab(apache_kafka.bootstrap_servers, tmp_path / "b") as memory,
    ):
        await asyncio.gather(filled(disk, RECORDS), filled(memory, RECORDS))
        on_disk = disk.config("in", store="rocksdb://", instance_id="w0", pause_ms=20, batch_records=200)
        in_memory = memory.config("in", store="memory://", instance_id="w0", pause_ms=20, batch_records=200)
        results = await asyncio.gather(lost_after_kills(disk, on_disk, KILLS), lost_after_kills(memory, in_memory, KILLS))
    assert list(results) == [(0, True), (0, True)]


async def test_nothing_is_lost_when_workers_join_leave_and_die(apache_kafka: KafkaNode, tmp_path: Path) -> None:
    """Partitions move under load, by a join, a clean leave and a kill, and whoever has them goes on where the other was."""
    async with Lab(apache_kafka.bootstrap_servers, tmp_path) as lab:
        await filled(lab, 24_000)
        expected = first_places(await lab.read(lab.topic("in")))

        def config(number: int) -> WorkerConfig:
            return msgspec.structs.replace(
                lab.config("in", store="memory://", pause_ms=120, batch_records=100),
                datadir=str(tmp_path / f"worker{number}"),
            )

        first = lab.start(config(1))
        await forwarded_up_to(lab, config(1), first, 500)
        second = lab.start(config(2))
        await wait_until(lambda: second.log.read_text().count("worker_ready") > 1, 30, "both workers have partitions")
        assert await first.stop() == 0
        third = lab.start(config(3))
        await forwarded_up_to(lab, config(3), third, min(len(expected), await lab.end(lab.topic("out")) + 500))
        await third.kill()  # its session runs out, then the second worker has all partitions
        await all_committed(lab, config(2), second)
        assert await second.stop() == 0
        assert await compare(lab, config(2), expected) == (0, True)


@pytest.mark.skipif(not LONG, reason="the control of the kill test; set KYB_STREAM_LONG_TESTS=1")
async def test_the_kill_test_notices_outputs_sent_after_the_acknowledgement(apache_kafka: KafkaNode, tmp_path: Path) -> None:
    """The same kills lose outputs as soon as the steps are in another order, so the test above can fail."""
    async with Lab(apache_kafka.bootstrap_servers, tmp_path) as lab:
        await filled(lab, 20_000)
        config = lab.config("in", instance_id="w0", pause_ms=200, batch_records=200, outputs_last=True)
        lost, _ = await lost_after_kills(lab, config, 3)
    assert lost > 0

"""A worker as a process of its own, on the embedded broker."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
import pytest_asyncio

from deploy.embedded.apache_kafka import KafkaNode
from tests.streams.batching.dedupe_worker import WorkerConfig
from tests.streams.batching.harness import LONG, Lab, Worker, first_places
from tests.support.waiting import wait_until


@pytest_asyncio.fixture
async def lab(noida_broker: str, tmp_path: Path) -> AsyncIterator[Lab]:
    """Topics `in`, `marks` and `out` on the embedded broker."""
    async with Lab(noida_broker, tmp_path) as lab:
        await lab.create("in", "marks", "out")
        yield lab


async def committed(lab: Lab, config: WorkerConfig, worker: Worker) -> None:
    """Wait until everything in the source topics is committed."""

    async def caught_up() -> bool:
        assert worker.exit_code is None, worker.log.read_text()[-3000:]
        return await lab.committed(config.app_id) == sum([await lab.end(topic) for topic in config.sources])

    await wait_until(caught_up, 60, "all committed")


async def values(lab: Lab) -> list[bytes]:
    """Return what has been forwarded, sorted."""
    return sorted(record.value or b"" for record in await lab.read(lab.topic("out")))


@pytest.mark.parametrize("store", ["rocksdb://", *(["memory://"] if LONG else [])])
async def test_each_id_is_forwarded_once_also_after_a_restart(lab: Lab, store: str) -> None:
    """A clean stop exits 0 with all committed; the next worker knows the ids and forwards nothing twice."""
    config = lab.config("in", store=store)
    ids = [b"id-%d" % i for i in range(2_000)]
    await lab.produce("in", ids + ids[::3], [("trace", b"t1")])
    worker = lab.start(config)
    await committed(lab, config, worker)
    assert await worker.stop() == 0
    await lab.produce("in", [*ids[::2], b"new"])
    worker = lab.start(config)
    await committed(lab, config, worker)
    assert await worker.stop() == 0
    assert await values(lab) == sorted([*ids, b"new"])
    record = (await lab.read(lab.topic("out")))[0]
    assert (record.key, dict(record.headers)["trace"]) == (record.value, b"t1")


async def test_a_killed_static_member_goes_on_at_once(lab: Lab) -> None:
    """On the embedded broker, too, where a killed dynamic member would block its partitions for half a minute."""
    config = lab.config("in", instance_id="w1", pause_ms=50, batch_records=50)
    await lab.produce("in", (b"id-%d" % i for i in range(2_000)))
    worker = lab.start(config)

    async def half_done() -> bool:
        return await lab.end(config.target) > 500

    await wait_until(half_done, 20, "some outputs")
    await worker.kill()
    worker = lab.start(config)
    await committed(lab, config, worker)
    assert await worker.stop() == 0
    assert len(set(await values(lab))) == 2_000
    assert await lab.state(config) == first_places(await lab.read(lab.topic("in")))


async def test_topics_of_one_agent_share_their_state(lab: Lab) -> None:
    """What a record of one topic wrote is there for the records of the other, whichever comes first."""
    config = lab.config("in", "marks")
    await lab.produce("marks", (b"id-%d" % i for i in range(0, 300, 2)))
    worker = lab.start(config)
    await committed(lab, config, worker)
    await lab.produce("in", (b"id-%d" % i for i in range(300)))
    await committed(lab, config, worker)
    assert await values(lab) == sorted(b"id-%d" % i for i in range(1, 300, 2))
    assert await worker.stop() == 0
    marked = [place for place in (await lab.state(config)).values() if place.startswith(config.sources[1].encode())]
    assert len(marked) == 150


async def test_an_exception_ends_the_process_and_commits_nothing_of_the_batch(lab: Lab) -> None:
    """It exits with an error, again after each restart, until the code can do it; then it goes on from there."""
    config = lab.config("in", batch_records=10, poison="poison")
    await lab.produce("in", [b"poison"])
    ids = [b"id-%d" % i for i in range(200)]
    await lab.produce("in", ids)
    poisoned = next(r for r in await lab.read(lab.topic("in")) if r.value == b"poison")
    for _ in range(2):
        worker = lab.start(config)
        assert await worker.ended(40) == 1
        assert "WorkerCrashedError" in worker.log.read_text()
        assert poisoned.partition not in await lab.commits(config.app_id)
    worker = lab.start(msgspec.structs.replace(config, poison=""))
    await committed(lab, config, worker)
    assert await worker.stop() == 0
    assert set(await values(lab)) == {*ids, b"poison"}


async def test_deleted_local_state_is_read_back_from_the_changelog(lab: Lab) -> None:
    """The local folder is a cache: without it the worker still knows every id."""
    config = lab.config("in")
    ids = [b"id-%d" % i for i in range(1_000)]
    await lab.produce("in", ids)
    worker = lab.start(config)
    await committed(lab, config, worker)
    assert await worker.stop() == 0
    shutil.rmtree(config.datadir)
    await lab.produce("in", [*ids, b"new"])
    worker = lab.start(config)
    await committed(lab, config, worker)
    assert await worker.stop() == 0
    assert await values(lab) == sorted([*ids, b"new"])


@pytest.mark.kafka
async def test_a_process_that_does_not_ask_for_sizes_stops_the_worker(apache_kafka: KafkaNode, tmp_path: Path) -> None:
    """It says again what the topic refuses: nothing is acknowledged, and the error names the topic and the setting."""
    async with Lab(apache_kafka.bootstrap_servers, tmp_path) as lab:
        await lab.create("in")
        await lab.create("out", config={"max.message.bytes": "2000"})
        await lab.produce("in", [b"x" * 5_000])
        config = lab.config("in")
        worker = lab.start(config)
        assert await worker.ended(40) == 1
        assert "RecordTooLargeError" in worker.log.read_text()
        assert await lab.commits(config.app_id) == {}

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path

import pytest
import structlog

from deploy.embedded.apache_kafka import KafkaNode
from deploy.embedded.clickhouse.child import clickhouse_command
from deploy.embedded.ports import free_port
from kybstream.settings import Settings
from schemas import topics
from sinks.query import query
from sinks.tables import TABLES
from tests.sinks.lossy_proxy import LossyProxy
from tests.sinks.making import delivery, rows, settings_for
from tests.sinks.running import DEADLINE, landed, made, make_anew, produce, row_count, running, with_sink
from tests.support.waiting import wait_until


@pytest.mark.stack
async def test_a_killed_sink_resumes_from_the_table(settings: Settings) -> None:
    """Killed in the middle, twice, and started under another group, whose offsets say nothing: each offset one row."""
    count = 3000
    await query(settings.clickhouse, "SYSTEM STOP MERGES deliveries")  # a merge would hide what landed twice
    await produce(settings, [delivery(number) for number in range(count)])
    await produce(settings, [delivery(count + number) for number in range(count)], partition=1)
    for life in range(2):
        process = await _start_process(settings, f"life-{life}", flush_rows=100)
        try:
            await landed(settings, "deliveries", (life + 1) * 1500)
        finally:
            os.kill(process.pid, signal.SIGKILL)
            await process.wait()
    assert await row_count(settings, "deliveries") < 2 * count, "it was killed too late to show anything"
    async with running(with_sink(settings, group="last-life")):
        await landed(settings, "deliveries", 2 * count)
    (row,) = await rows(
        settings.clickhouse,
        "SELECT count() AS n, uniqExact(_partition, _offset) AS places, uniqExact(delivery_id) AS ids FROM deliveries",
        final=False,
    )
    assert row == {"n": 2 * count, "places": 2 * count, "ids": 2 * count}


async def _start_process(settings: Settings, group: str, **sink: int) -> asyncio.subprocess.Process:
    given = with_sink(settings, group=group, **sink).model_dump(mode="json", include={"kafka", "sink"})
    given["clickhouse"] = {"url": settings.clickhouse.url, "database": settings.clickhouse.database}
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.sinks.sink_process", json.dumps(given), cwd=Path(__file__).parents[2]
    )


@pytest.mark.stack
async def test_clickhouse_away_is_waited_for_and_rows_land_once(
    noida_broker: str, topic_prefix: str, database_name: str, tmp_path: Path
) -> None:
    """Killed between inserts and started again: the sink goes on by itself, and each row is there once."""
    port = free_port()
    settings = settings_for(f"http://127.0.0.1:{port}", database_name, bootstrap=noida_broker, prefix=topic_prefix)
    server = await _start_clickhouse(tmp_path, port)
    try:
        await _until_migrated(settings)
        async with running(with_sink(settings, flush_rows=100)):
            await produce(settings, [delivery(number) for number in range(1000)])
            await landed(settings, "deliveries", 100)
            server.kill()
            await server.wait()
            await produce(settings, [delivery(1000 + number) for number in range(1000)])
            server = await _start_clickhouse(tmp_path, port)
            await wait_until(lambda: _answers(settings), DEADLINE, "ClickHouse answers again")
            await landed(settings, "deliveries", 2000)
        (row,) = await rows(
            settings.clickhouse, "SELECT count() AS n, uniqExact(_offset) AS places FROM deliveries", final=False
        )
        assert row == {"n": 2000, "places": 2000}
    finally:
        if server.returncode is None:
            server.terminate()
            await server.wait()


async def _until_migrated(settings: Settings) -> None:
    await wait_until(lambda: _answers(settings), DEADLINE, "ClickHouse answers")
    await made(settings)


async def _answers(settings: Settings) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", int(settings.clickhouse.url.rpartition(":")[2]))
    except OSError:
        return False
    writer.close()
    return True


async def _start_clickhouse(folder: Path, port: int) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *clickhouse_command(folder / "clickhouse", port),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )


async def test_a_topic_made_anew_is_read_from_its_beginning(settings: Settings) -> None:
    """Its offsets name other records than the table's: all of the new topic's records land, and it is said."""
    topic = settings.topic(topics.DELIVERIES)
    await produce(settings, [delivery(number) for number in range(20)])
    async with running(settings):
        await landed(settings, "deliveries", 20)
    await make_anew(settings, topic)
    await produce(settings, [delivery(100 + number) for number in range(30)])
    with structlog.testing.capture_logs() as logs:
        async with running(settings):
            await landed(settings, "deliveries", 50)
    (said,) = [entry for entry in logs if entry["event"] == "sink.resumed" and entry["log_level"] == "warning"]
    assert (said["why"], said["offset"]) == ("topic_differs", 0)
    await make_anew(settings, topic)
    await produce(settings, [delivery(200 + number) for number in range(5)])
    with structlog.testing.capture_logs() as logs:
        async with running(settings):
            await landed(settings, "deliveries", 55)
    (said,) = [entry for entry in logs if entry["event"] == "sink.resumed" and entry["log_level"] == "warning"]
    assert (said["why"], said["offset"]) == ("topic_shorter", 0)


async def test_an_insert_whose_answer_is_lost_lands_once(settings: Settings) -> None:
    """ClickHouse has the rows, the sink is not told and sends them again: the same bytes, the same token, no second row."""
    await query(settings.clickhouse, "SYSTEM STOP MERGES deliveries")
    async with LossyProxy(settings.clickhouse.url, losses=3).listening() as proxy:
        behind = settings.model_copy(update={"clickhouse": settings.clickhouse.model_copy(update={"url": proxy.url})})
        async with running(with_sink(behind, flush_rows=100)):
            await produce(settings, [delivery(number) for number in range(400)])
            await wait_until(
                lambda: sum(times > 3 for times in proxy.tokens.values()) >= 4, DEADLINE, "four inserts got through"
            )
            await landed(settings, "deliveries", 400)
    assert min(proxy.tokens.values()) == 4
    (row,) = await rows(settings.clickhouse, "SELECT count() AS n, uniqExact(_offset) AS places FROM deliveries", final=False)
    assert row == {"n": 400, "places": 400}


@pytest.mark.kafka
async def test_partitions_move_between_sinks_without_loss_or_repeat(
    apache_kafka: KafkaNode, topic_prefix: str, clickhouse_server: str, database_name: str
) -> None:
    """A second sink joins in the middle and leaves again: each record is one row, whoever wrote it."""
    settings = settings_for(clickhouse_server, database_name, bootstrap=apache_kafka.bootstrap_servers, prefix=topic_prefix)
    await made(settings)
    await query(settings.clickhouse, "SYSTEM STOP MERGES deliveries")
    quick = with_sink(settings, flush_rows=50)

    async def fill(first: int) -> None:
        for partition in (0, 1):
            await produce(settings, [delivery(first + 2 * number + partition) for number in range(500)], partition=partition)

    async with running(quick):
        await fill(0)
        await landed(settings, "deliveries", 100)
        with structlog.testing.capture_logs() as logs:
            async with running(quick) as second:
                await asyncio.wait_for(second.wait(), DEADLINE)
                await fill(1000)
                await landed(settings, "deliveries", 1500)
        await fill(2000)
        await landed(settings, "deliveries", 3000)
    assert {entry["partitions"] for entry in logs if entry["event"] == "sink.assigned"} == {len(TABLES)}
    (row,) = await rows(settings.clickhouse, "SELECT count() AS n, uniqExact(delivery_id) AS ids FROM deliveries", final=False)
    assert row == {"n": 3000, "ids": 3000}

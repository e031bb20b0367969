"""What the commands say of topics that were deleted, and of records that expired before anybody read them."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import RecordsToDelete

from deploy.embedded.apache_kafka import KafkaNode
from kybstream.expired import Expired
from kybstream.kafka import administering, client_options, durable_producer
from kybstream.operations.migrate import migrate
from kybstream.settings import Settings
from schemas.codec import encode
from schemas.expired import EXPIRED_UNREAD, expired_letter
from schemas.topics import DEAD_LETTERS, DELIVERIES, RAW
from tests.cli.commands import failed_clearly
from tests.cli.one_process import run_each
from tests.cli.test_migrate import configured
from tests.sinks.making import delivery
from tests.sinks.running import landed, running
from tests.streams.pipeline import Door, kyb_body
from tests.support.topic_configs import topics_of
from tests.support.waiting import wait_until


async def write(settings: Settings, suffix: str, values: list[bytes], partition: int = 0) -> None:
    """Puts values on a partition of a topic."""
    async with durable_producer(settings.kafka) as producer:
        for value in values:
            await producer.send_and_wait(settings.topic(suffix), value, key=b"key", partition=partition)


async def expire(settings: Settings, suffix: str, before: int, partition: int = 0) -> None:
    """Removes the records before an offset, as retention does."""
    async with administering(settings.kafka) as admin:
        await admin.delete_records({TopicPartition(settings.topic(suffix), partition): RecordsToDelete(before_offset=before)})


async def commit(settings: Settings, group: str, suffix: str, offset: int, partition: int = 0) -> None:
    """Commits as a member of the group would."""
    place = TopicPartition(settings.topic(suffix), partition)
    async with AIOKafkaConsumer(**client_options(settings.kafka), group_id=group, enable_auto_commit=False) as consumer:
        consumer.assign([place])
        await consumer.commit({place: offset})


def raw_deliveries(count: int) -> list[bytes]:
    """Values of the raw topic."""
    door = Door()
    return [encode(door.delivery(kyb_body(service_id=f"company-{number}"))) for number in range(count)]


@pytest.mark.kafka
async def test_reconcile_tells_what_expired_before_it_was_read(
    apache_kafka: KafkaNode, clickhouse_server: str, topic_prefix: str, tmp_path: Path
) -> None:
    """By a worker that never came, by one that came so far, and by the sink; what was read before it expired is no finding."""
    path, settings = configured(tmp_path, apache_kafka.bootstrap_servers, clickhouse_server, topic_prefix)
    await migrate(settings)
    # partition 0: nobody ever came; partition 1: a worker came to offset 3, and all 5 that expired later were read in its time
    await write(settings, RAW, raw_deliveries(24), partition=0)
    await write(settings, RAW, raw_deliveries(5), partition=1)
    await commit(settings, settings.worker.group, RAW, 5, partition=1)
    await expire(settings, RAW, 24, partition=0)
    await expire(settings, RAW, 5, partition=1)
    async with running(settings):
        await write(settings, DELIVERIES, [encode(delivery(number)) for number in range(4)])
        await landed(settings, "deliveries", 4)
    await expire(settings, DELIVERIES, 4)
    [before] = await asyncio.to_thread(run_each, [["reconcile", "--wait", "0", "--config", str(path)]])
    raw = settings.topic(RAW)
    wrong = [line for line in before.out.splitlines() if line.startswith("wrong: ")]
    assert wrong == [f"wrong: 24 expired before the worker read them: topic {raw} partition 0 offsets 0 to 23"]
    assert before.exit_code == 1
    assert "every delivery is accounted for" not in before.out

    await write(settings, DELIVERIES, [encode(delivery(number)) for number in range(4, 10)])
    await expire(settings, DELIVERIES, 9)
    await commit(settings, settings.worker.group, RAW, 20, partition=0)
    text, as_json = await asyncio.to_thread(
        run_each, [["reconcile", "--wait", "0", *flags, "--config", str(path)] for flags in ([], ["--json"])]
    )
    assert [line for line in text.out.splitlines() if "expired" in line] == [
        f"wrong: 4 expired before the worker read them: topic {raw} partition 0 offsets 20 to 23",
        f"wrong: 5 expired before the sink read them: topic {settings.topic(DELIVERIES)} partition 0 offsets 4 to 8",
    ]
    account = json.loads(as_json.out)
    assert (as_json.exit_code, account["balanced"]) == (1, False)
    assert account["expired"][0] == {"reader": "worker", "topic": raw, "partition": 0, "first": 20, "last": 23}

    # Both go on behind what is gone, and it stays told; what was told before the raw topic's time is not.
    now = datetime.now(UTC)
    told = [(Expired(raw, 0, 0, 21), now), (Expired(raw, 0, 22, 23), now), (Expired(raw, 1, 0, 4), now - timedelta(hours=169))]
    await write(settings, DEAD_LETTERS, [encode(expired_letter(gone, "intake", at)) for gone, at in told])
    await commit(settings, settings.worker.group, RAW, 24, partition=0)
    [not_landed] = await asyncio.to_thread(run_each, [["reconcile", "--wait", "0", "--config", str(path)]])
    assert f"topic {raw} partition 0 offsets 0 to 23" in not_landed.out
    assert not_landed.exit_code == 1
    async with running(settings):
        await landed(settings, "deliveries", 5)
        await landed(settings, "dead_letters", 4)
    [after] = await asyncio.to_thread(run_each, [["reconcile", "--wait", "0", "--config", str(path)]])
    assert [line for line in after.out.splitlines() if "expired" in line] == [
        f"wrong: 24 expired before the worker read them: topic {raw} partition 0 offsets 0 to 23",
        f"wrong: 5 expired before the sink read them: topic {settings.topic(DELIVERIES)} partition 0 offsets 4 to 8",
    ]
    open_ones, refused = await asyncio.to_thread(
        run_each,
        [["dlq", *command, "--config", str(path)] for command in (["list"], ["replay", "--all", "--reason", EXPIRED_UNREAD])],
    )
    assert open_ones.out.count(EXPIRED_UNREAD) == 4
    assert "the records that it tells of are gone" in refused.err + refused.out


async def test_commands_say_that_a_topic_is_gone_and_migrate_makes_it_anew(
    noida_broker: str, clickhouse_server: str, topic_prefix: str, tmp_path: Path
) -> None:
    """No traceback; and an empty changelog in place of one that workers had filled is said to be a loss."""
    path, settings = configured(tmp_path, noida_broker, clickhouse_server, topic_prefix)
    await migrate(settings)
    await write(settings, RAW, raw_deliveries(1))
    await commit(settings, settings.worker.group, DELIVERIES, 1)
    raw, changelog = settings.topic(RAW), f"{topic_prefix}worker-cases-changelog"
    async with administering(settings.kafka) as admin:
        await admin.delete_topics([raw, changelog])

    async def gone() -> bool:
        return not {raw, changelog} & set(await topics_of(settings.kafka, topic_prefix))

    await wait_until(gone, 10, "the topics are gone")
    commands = [["tail", "webhooks.raw"], ["reconcile"], ["migrate", "--check"], ["migrate"], ["reconcile"]]
    tail, reconcile, check, made, after = await asyncio.to_thread(
        run_each, [[*command, "--config", str(path)] for command in commands]
    )
    for done in (tail, reconcile):
        assert failed_clearly(done, 1, f"topic {raw} does not exist")
        assert "kyb-stream migrate" in done.err
    assert (check.exit_code, check.out) == (1, f"topic {raw}: missing\ntopic {changelog}: missing\n")
    first, second = made.out.splitlines()
    assert (made.exit_code, first) == (0, f"topic {raw}: made")
    assert second.startswith(f"topic {changelog}: made, empty, although workers of this group have processed records")
    assert (after.exit_code, after.out.splitlines()[-1]) == (0, "every delivery is accounted for")

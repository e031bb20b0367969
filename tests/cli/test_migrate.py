"""`kyb-stream migrate` on topics of an older version: on a real Kafka, which has the last word on configurations."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from deploy.embedded.apache_kafka import KafkaNode
from deploy.embedded.configuration import write_configuration
from kybstream.kafka import ensure_topics
from kybstream.settings import Settings, load_settings
from streams.worker import changelog_topics, every_topic
from tests.cli.commands import failed_clearly
from tests.cli.one_process import run_each
from tests.support.topic_configs import topic_configs, topics_of

HOUR = 3_600_000


def configured(folder: Path, broker: str, clickhouse: str, prefix: str, **kafka: object) -> tuple[Path, Settings]:
    """A configuration, and what it says."""
    path = folder / f"{'-'.join(kafka) or 'as-it-was'}.toml"
    sections: dict[str, object] = {
        "kafka": {"bootstrap_servers": broker, "topic_prefix": prefix, "partitions": 2, **kafka},
        "clickhouse": {"url": clickhouse, "database": prefix.strip(".").replace("-", "_")},
        "worker": {"group": f"{prefix}worker"},
    }
    write_configuration(path, sections, comment="Made by the tests.")
    return path, load_settings(path, {})


@pytest.mark.kafka
async def test_topics_of_before_are_brought_to_the_settings_and_each_change_is_told(
    apache_kafka: KafkaNode, clickhouse_server: str, topic_prefix: str, tmp_path: Path
) -> None:
    """The check changes nothing and exits 1; the migration tells line by line; retention is lowered only when asked for."""
    path, settings = configured(tmp_path, apache_kafka.bootstrap_servers, clickhouse_server, topic_prefix)
    topics = every_topic(settings)
    changelog, raw, events, cases = (
        next(iter(changelog_topics(settings))),
        settings.topic("webhooks.raw.v1"),
        settings.topic("events.v1"),
        settings.topic("cases.v1"),
    )
    before = topics | {
        changelog: {"cleanup.policy": "compact"},
        raw: topics[raw] | {"retention.ms": str(HOUR), "segment.ms": "123456"},
        events: topics[events] | {"retention.ms": "-1"},
    }
    del before[cases]
    await ensure_topics(settings.kafka, before)

    config = ("--config", str(path))
    checked, migrated, again = await asyncio.to_thread(
        run_each, [["migrate", "--check", *config], ["migrate", *config], ["migrate", "--check", *config]]
    )
    limit = topics[raw]["max.message.bytes"]
    kept = f"topic {events}: retention.ms is -1 (for ever), the settings say 2592000000 (720 hours); left as it is"
    assert checked.exit_code == 1
    told = [line for line in checked.out.splitlines() if line.startswith("topic ")]
    assert told[:2] == [f"topic {cases}: missing", told[1]]
    assert told[1].startswith(kept)
    assert told[2:] == [
        f"topic {raw}: retention.ms is 3600000 (1 hours), the settings say 604800000 (168 hours)",
        f"topic {changelog}: max.message.bytes is 1048588, the settings say {limit}",
    ]
    assert "ClickHouse 0001_deliveries: not applied" in checked.out

    assert (migrated.exit_code, migrated.err) == (0, "")
    told = [line for line in migrated.out.splitlines() if line.startswith("topic ")]
    assert told[0] == f"topic {cases}: made"
    assert told[1].startswith(kept)
    assert told[2:] == [
        f"topic {raw}: retention.ms 3600000 (1 hours) -> 604800000 (168 hours)",
        f"topic {changelog}: max.message.bytes 1048588 -> {limit}",
    ]
    after = await topic_configs(settings.kafka, *topics)
    assert (after[raw]["retention.ms"], after[raw]["segment.ms"]) == ("604800000", "123456")  # what is not ours stays
    assert after[events]["retention.ms"] == "-1"
    assert after[changelog]["max.message.bytes"] == limit

    assert (again.exit_code, len(again.out.splitlines())) == (1, 1)
    lowered, clean = await asyncio.to_thread(
        run_each, [["migrate", "--lower-retention", *config], ["migrate", "--check", *config]]
    )
    assert lowered.out == f"topic {events}: retention.ms -1 (for ever) -> 2592000000 (720 hours)\n"
    assert (clean.exit_code, clean.out) == (0, "all is as the settings say\n")


@pytest.mark.kafka
async def test_what_cannot_be_changed_is_told_and_nothing_is_touched(
    apache_kafka: KafkaNode, clickhouse_server: str, topic_prefix: str, tmp_path: Path
) -> None:
    """Another number of partitions stops the migration before it changes anything; replicas do not."""
    path, settings = configured(tmp_path, apache_kafka.bootstrap_servers, clickhouse_server, topic_prefix)
    raw = settings.topic("webhooks.raw.v1")
    await ensure_topics(settings.kafka, {raw: {}}, partitions=3)
    for arguments in (["migrate"], ["migrate", "--check"]):
        [done] = await asyncio.to_thread(run_each, [[*arguments, "--config", str(path)]])
        assert failed_clearly(done, 1, f"topic {raw} has 3 partitions, kafka.partitions is 2")
        assert "kyb-stream repartition" in done.err
    assert await topics_of(settings.kafka, topic_prefix) == [raw]

    cluster = {"partitions": 3, "replication_factor": 3, "min_insync_replicas": 2}
    path, settings = configured(tmp_path, apache_kafka.bootstrap_servers, clickhouse_server, topic_prefix, **cluster)
    [done] = await asyncio.to_thread(run_each, [["migrate", "--config", str(path)]])
    assert failed_clearly(done, 1, "Kafka refuses to make topic", "InvalidReplicationFactor")
    single = settings.kafka.model_copy(update={"replication_factor": 1, "min_insync_replicas": 1})
    await ensure_topics(
        single, {topic: config | {"min.insync.replicas": "1"} for topic, config in every_topic(settings).items()}
    )
    [done] = await asyncio.to_thread(run_each, [["migrate", "--config", str(path)]])
    assert (done.exit_code, done.err) == (0, "")
    assert f"topic {raw}: replicas is 1, the settings say 3; left as it is" in done.out
    assert f"topic {raw}: min.insync.replicas is 1, the settings say 2; left as it is" in done.out
    [found] = (await topic_configs(settings.kafka, raw)).values()
    assert found["min.insync.replicas"] == "1"

"""A sink whose Kafka, and then whose ClickHouse, goes away and comes back: it waits, tells it in a few lines, and goes on."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from deploy.embedded.apache_kafka import KafkaNode
from deploy.embedded.configuration import new_configuration, write_configuration
from kybstream.settings import Settings, load_settings
from tests.chaos.clickhouse_node import ClickHouseNode, clickhouse_node
from tests.sinks.making import delivery
from tests.sinks.running import landed, made, produce
from tests.support.commands import Background
from tests.support.waiting import wait_until

LINES = 12
"""Of an outage that is shorter than a minute; 60 seconds of it once were 5,840."""

AWAY_SECONDS = 6.0
"""After the outage was told, and before the server starts again."""


def _configured(folder: Path, kafka: KafkaNode, clickhouse: ClickHouseNode, prefix: str) -> tuple[Settings, Path]:
    values = new_configuration(bootstrap_servers=kafka.bootstrap_servers, clickhouse_port=1, ingress_port=1)
    values["kafka"] = {"bootstrap_servers": kafka.bootstrap_servers, "topic_prefix": prefix, "partitions": 2}
    values["clickhouse"] = {"url": clickhouse.url, "database": "kyb"}
    values["sink"] = {"group": f"{prefix}sink"}
    path = folder / "kyb-stream.toml"
    write_configuration(path, values, comment="Made by the tests.")
    return load_settings(path, {}), path


@pytest.mark.kafka
@pytest.mark.stack
@pytest.mark.timeout(240)
async def test_an_outage_of_kafka_or_of_clickhouse_is_told_in_a_few_lines(
    breakable_kafka: KafkaNode, topic_prefix: str, tmp_path: Path
) -> None:
    """Each is killed for some ten seconds while there is work; lines of the libraries are counted, too."""
    log = tmp_path / "sink.log"
    async with clickhouse_node(tmp_path / "clickhouse") as clickhouse:
        settings, config = _configured(tmp_path, breakable_kafka, clickhouse, topic_prefix)
        await made(settings)
        sink = Background("sink", "--config", str(config), log=log)

        async def away() -> None:
            """The rest of the outage."""
            with pytest.raises(AssertionError):
                await wait_until(lambda: sink.exit_code is not None, AWAY_SECONDS, "the sink ends by itself")

        try:
            await produce(settings, [delivery(number) for number in range(5)])
            await landed(settings, "deliveries", 5)
            before = len(log.read_text().splitlines())
            await breakable_kafka.kill()
            await sink.printed("outage_began")
            await away()
            await breakable_kafka.start()
            await breakable_kafka.wait_ready()
            await produce(settings, [delivery(5)])
            await landed(settings, "deliveries", 6)
            await sink.printed("outage_ended")
            between = len(log.read_text().splitlines())
            clickhouse.kill()
            await produce(settings, [delivery(6)])
            await wait_until(lambda: log.read_text().count("outage_began") == 2, 30, "the second is told")
            await away()
            await clickhouse.start()
            await landed(settings, "deliveries", 7)
            await wait_until(lambda: log.read_text().count("outage_ended") == 2, 30, "the end of the second is told")
        finally:
            await sink.close()
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    _check(lines[before:between], "kafka")
    _check(lines[between:], "clickhouse")


def _check(lines: list[dict[str, object]], service: str) -> None:
    told = Counter(str(line["event"]) for line in lines)
    assert (told["outage_began"], told["outage_ended"]) == (1, 1), told
    assert len(lines) <= LINES, told
    (ended,) = [line for line in lines if line["event"] == "outage_ended"]
    assert ended["service"] == service
    assert isinstance(ended["seconds"], float)
    assert ended["seconds"] >= AWAY_SECONDS

"""A worker whose Kafka goes away and comes back: it waits, tells it in a few lines, and goes on."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from deploy.embedded.apache_kafka import KafkaNode
from kybstream.outages import EVERY_SECONDS
from tests.streams.pipeline import Door
from tests.streams.running import deliveries, lab, write_config
from tests.support.commands import Background
from tests.support.waiting import wait_until

LINES = 10
"""Of an outage that is shorter than a minute; on two cores it wrote 2,252 lines in 29 seconds."""

AWAY_SECONDS = 8.0
"""After the outage was told, and before the broker starts again."""


@pytest.mark.kafka
async def test_an_outage_is_told_in_a_few_lines(breakable_kafka: KafkaNode, topic_prefix: str, tmp_path: Path) -> None:
    """The broker is killed, and after some 15 seconds the worker goes on."""
    door, log = Door(), tmp_path / "worker.log"
    async with lab(breakable_kafka.bootstrap_servers, topic_prefix, tmp_path) as given:
        await given.send(deliveries(5, door))
        worker = Background("worker", "--config", str(write_config(given.settings, tmp_path)), log=log)
        try:
            await worker.printed("worker_ready")
            await given.all_committed(5)
            before = len(log.read_text().splitlines())
            await breakable_kafka.kill()
            await worker.printed("outage_began")
            with pytest.raises(AssertionError):  # the rest of the outage
                await wait_until(lambda: worker.exit_code is not None, AWAY_SECONDS, "it ends by itself")
            await breakable_kafka.start()
            await breakable_kafka.wait_ready()
            await given.send(deliveries(5, door))
            await given.all_committed(10)
            await worker.printed("outage_ended")
            written = [json.loads(line) for line in log.read_text().splitlines()[before:]]
        finally:
            await worker.close()
    told = Counter(str(line["event"]) for line in written)
    assert (told["outage_began"], told["outage_ended"]) == (1, 1), told
    assert len(written) <= LINES, told
    (ended,) = [line for line in written if line["event"] == "outage_ended"]
    assert ended["service"] == "kafka"
    assert AWAY_SECONDS <= ended["seconds"] < EVERY_SECONDS
    assert ended["lines_held_back"] > 100

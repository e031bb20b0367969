"""Kills at random moments under load, on a real Kafka: nothing that was acknowledged is lost, doubled or misjudged."""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from deploy.embedded.apache_kafka import KafkaNode
from deploy.embedded.configuration import KYB_SOURCE, KYC_SOURCE
from kybstream.operations.demonstration import check
from kybstream.operations.simulation import link_registrar, simulation_config, source_url
from kybstream.settings import ClickHouseSettings
from kybstream.simulator import Plan, SentDelivery, Target, plan, play
from sinks.query import query
from tests.chaos.production import Production, production
from tests.support.commands import kyb_stream

LONG = os.environ.get("KYB_STREAM_CHAOS") == "long"
SEED = int(os.environ.get("KYB_STREAM_CHAOS_SEED") or (random.SystemRandom().randrange(1_000_000) if LONG else 2))
"""The short form plays the same histories each time, killed at other moments of the machine; the long form explores."""

CASES, WORKER_KILLS, SINK_KILLS = (2_700, 20, 8) if LONG else (310, 5, 2)
RATE = 150.0
"""Deliveries a second: so that most of the kills come while more is sent."""

pytestmark = [pytest.mark.kafka, pytest.mark.stack, pytest.mark.timeout(1_200 if LONG else 480)]


async def test_kills_lose_double_and_misjudge_nothing(
    apache_kafka: KafkaNode, clickhouse_server: str, database_name: str, tmp_path: Path
) -> None:
    """Worker and sink are SIGKILLed again and again; in the end all is as if they had not been.

    Every acknowledged delivery is in ClickHouse exactly once with its verdict, every event once, every case as planned, and
    `kyb-stream reconcile` agrees.
    """
    print(f"\nKYB_STREAM_CHAOS_SEED={SEED}")  # noqa: T201 (shown when the test fails)
    dice = random.Random(SEED)  # noqa: S311

    def own_dice() -> random.Random:
        return random.Random(dice.random())  # noqa: S311

    async with production(
        tmp_path, bootstrap_servers=apache_kafka.bootstrap_servers, clickhouse_url=clickhouse_server, name=database_name
    ) as running:
        planned = make_plan(running)
        total = len(planned.deliveries)
        assert total >= 3_000
        began = time.monotonic()
        sent, *_ = await asyncio.gather(
            send(running, planned),
            running.worker.kill_often(WORKER_KILLS, running.committed, running.told, total, own_dice()),
            running.sink.kill_often(SINK_KILLS, running.landed, running.inserted, total, own_dice()),
        )
        sending = time.monotonic() - began
        checked = await check(running.settings, planned, sent)
        assert checked.wrong == []
        await check_rows(running.settings.clickhouse, planned, sent)
        reconciled = await kyb_stream("reconcile", "--config", str(running.config_path))
        assert (reconciled.exit_code, "every delivery is accounted for" in reconciled.out) == (0, True), reconciled
        again = await running.told() - total, await running.inserted() - total
        print(  # noqa: T201
            f"{total} deliveries, {running.worker.starts - 1} kills of the worker, {running.sink.starts - 1} of the sink, "
            f"{sending:.0f} s of load, {again[0]} records and {again[1]} rows written again"
        )


def make_plan(running: Production) -> Plan:
    """Both providers with every fault there is."""
    config = simulation_config(running.settings, started_at=int(time.time()), cases=CASES, seed=SEED, faults="all", scale=1.0)
    return plan(config)


async def send(running: Production, planned: Plan) -> Sequence[SentDelivery]:
    """Sends it all; the ingress is not killed, so every attempt must be acknowledged."""
    target = Target(
        kyb_url=source_url(running.settings, KYB_SOURCE),
        kyc_url=source_url(running.settings, KYC_SOURCE),
        register_link=link_registrar(running.settings),
    )
    sent = await play(planned, target, rate=RATE)
    assert len(sent) == len(planned.deliveries)
    assert all(each.accepted for each in sent)
    return sent


async def check_rows(clickhouse: ClickHouseSettings, planned: Plan, sent: Sequence[SentDelivery]) -> None:
    """Compares the tables with what was acknowledged, without the application's own accounting."""
    acknowledged = {each.delivery_id: each.planned.label for each in sent}
    quarantined = {each.label for each in planned.deliveries if each.verdict == "quarantined"}
    labels = set(acknowledged.values()) - quarantined

    answer = await query(clickhouse, "SELECT delivery_id, verdict, event_id FROM deliveries")
    verdicts = {str(delivery_id): str(verdict) for delivery_id, verdict, _ in answer.rows}
    assert len(answer.rows) == len(verdicts)
    assert verdicts.keys() == acknowledged.keys()
    new = Counter(acknowledged[delivery_id] for delivery_id, verdict in verdicts.items() if verdict == "new")
    assert new == dict.fromkeys(labels, 1)
    dead = {delivery_id for delivery_id, verdict in verdicts.items() if verdict == "quarantined"}
    assert {acknowledged[delivery_id] for delivery_id in dead} == quarantined

    answer = await query(clickhouse, "SELECT event_id, delivery_id FROM events")
    assert len(answer.rows) == len({event_id for event_id, _ in answer.rows}) == len(labels)
    assert {delivery_id for _, delivery_id in answer.rows} == {each for each in verdicts if verdicts[each] == "new"}

    answer = await query(clickhouse, "SELECT delivery_id FROM dead_letters")
    assert sorted(str(delivery_id) for (delivery_id,) in answer.rows) == sorted(dead)

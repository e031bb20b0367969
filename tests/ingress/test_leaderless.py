"""Three brokers, one of them gone: what only it leads waits in the spool, and holds up nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import count, islice
from pathlib import Path

import pytest

from kybstream.partitions import partition_of
from schemas.topics import RAW, entity_key
from tests.ingress.harness import KYB_TOKEN, PARTITIONS, Ingress, deliveries_of, make_topics, running, settings_for
from tests.support.cluster import KafkaCluster
from tests.support.waiting import wait_until

KYB = f"/webhooks/kyb/{KYB_TOKEN}"
EACH = 100
"""More than are sent at the same time, so that what has no leader could hold up all of it."""


@pytest.mark.kafka
@pytest.mark.timeout(180)
async def test_a_partition_without_a_leader_holds_up_no_other(
    breakable_cluster: KafkaCluster, topic_prefix: str, tmp_path: Path
) -> None:
    """The spool holds deliveries of two partitions; one has no leader: the other's reach Kafka, and new ones as well."""
    settings = settings_for(
        breakable_cluster.bootstrap_servers, topic_prefix, ack_timeout_seconds=1, spool_dir=str(tmp_path / "spool")
    )
    await make_topics(settings.kafka)  # with one replica each
    raw = settings.topic(RAW)
    leaderless, led = await breakable_cluster.led_by(raw, 0), await breakable_cluster.led_by(raw, 1)
    assert leaderless != led
    async with running(settings) as ingress:
        accepted = await send(ingress, bodies_of(1, 1))
        for node in breakable_cluster.nodes:
            node.pause()
        # The later half is of the partition with a leader: it lies behind what cannot be sent.
        accepted |= await send(ingress, bodies_of(0, EACH))
        accepted |= await send(ingress, bodies_of(1, EACH))
        await breakable_cluster.nodes[leaderless].kill()
        for node in breakable_cluster.nodes:
            node.resume()

        async def half_is_drained() -> bool:
            return await ingress.metric("kyb_ingress_spool_entries") == EACH

        await wait_until(half_is_drained, 60, "what has a leader is drained, and nothing else")
        accepted |= await send(ingress, bodies_of(1, 2 * EACH)[EACH:])
        assert await half_is_drained()
        await breakable_cluster.mend()

        async def drained() -> bool:
            return await ingress.metric("kyb_ingress_spool_entries") == 0

        await wait_until(drained, 60, "the rest is drained when the partition has a leader again")
    assert accepted <= set(await deliveries_of(settings))
    assert len(accepted) == 1 + 3 * EACH


def bodies_of(partition: int, number: int) -> Sequence[bytes]:
    """Bodies of as many companies, all of one partition."""
    names = (f"company-{each}" for each in count())
    mine = (name for name in names if partition_of(entity_key("acme", name).encode(), PARTITIONS) == partition)
    return [b'{"service_id": "%s"}' % name.encode() for name in islice(mine, number)]


async def send(ingress: Ingress, bodies: Sequence[bytes]) -> set[str]:
    """The ids that came with a 200; each must."""
    answers = await asyncio.gather(*(ingress.post(KYB, body) for body in bodies))
    assert {answer.status for answer in answers} == {200}
    return {answer.headers["X-Delivery-Id"] for answer in answers}

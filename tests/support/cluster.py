"""Apache Kafka as it is in production: three nodes, replication 3, two replicas in sync before a record is acknowledged.

Each node is a broker and a controller. One node may be away and everything goes on; with two away nothing is acknowledged.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from deploy.embedded.apache_kafka import KafkaNode
from deploy.embedded.apache_kafka.configuration import new_cluster_id
from deploy.embedded.ports import free_port
from tests.support.brokers import started_or_skipped
from tests.support.waiting import wait_until

NODES = 3
KAFKA_SETTINGS: Mapping[str, str | int] = {"replication_factor": 3, "min_insync_replicas": 2}
"""Of the section `kafka` of a configuration that uses the cluster as it is meant to be used."""

_HEAP_MIB = 256
_LEADER_SECONDS = 30.0
_WHOLE_SECONDS = 60.0


class KafkaCluster:
    """Three nodes that are killed, paused and restarted by their number, 0 to 2.

    Args:
        folder: For their data and logs.
        overrides: Broker settings of all of them.
    """

    def __init__(self, folder: Path, overrides: Mapping[str, str | int] | None = None) -> None:
        ports = [(free_port(), free_port()) for _ in range(NODES)]
        voters = ",".join(f"{number + 1}@127.0.0.1:{controller}" for number, (_, controller) in enumerate(ports))
        cluster_id = new_cluster_id()
        common: dict[str, str | int] = {
            "controller.quorum.voters": voters,
            "offsets.topic.replication.factor": NODES,
            "transaction.state.log.replication.factor": NODES,
            "transaction.state.log.min.isr": 2,
            # A partition's leader goes back to the node that should lead it soon after that node is there again.
            "leader.imbalance.check.interval.seconds": 2,
            "leader.imbalance.per.broker.percentage": 0,
            # A killed or paused node is out of the set of replicas in sync soon: tests wait for what clients do then.
            "replica.lag.time.max.ms": 4000,
            "controller.quorum.election.timeout.ms": 500,
            "controller.quorum.fetch.timeout.ms": 1500,
        }
        self.nodes = [
            KafkaNode(
                folder / f"node-{number}",
                broker,
                controller,
                overrides=common | dict(overrides or {}) | {"node.id": number + 1},
                heap_mib=_HEAP_MIB,
                cluster_id=cluster_id,
            )
            for number, (broker, controller) in enumerate(ports)
        ]

    @property
    def bootstrap_servers(self) -> str:
        """What clients connect to: all three nodes."""
        return ",".join(node.bootstrap_servers for node in self.nodes)

    async def start(self) -> None:
        """Starts the nodes that do not run, together: alone none would answer."""
        await asyncio.gather(*(node.start() for node in self.nodes))

    async def kill(self) -> None:
        """SIGKILL to all."""
        await asyncio.gather(*(node.kill() for node in self.nodes))

    async def leader(self, topic: str, partition: int = 0) -> int | None:
        """The number of the node that leads the partition; None while nobody does, or nobody answers."""
        for described in await self._topics([topic]) or ():
            for each in described["partitions"]:
                if each["partition"] == partition and each["leader"] > 0:
                    return int(each["leader"]) - 1
        return None

    async def led_by(self, topic: str, partition: int = 0, *, other_than: int | None = None) -> int:
        """Waits until a node leads the partition, another than the given one, and returns its number."""

        async def leads() -> list[int]:
            found = await self.leader(topic, partition)
            return [] if found is None or found == other_than else [found]

        (number,) = await wait_until(leads, _LEADER_SECONDS, f"somebody leads partition {partition} of {topic}")
        return number

    async def whole(self) -> None:
        """Waits until every replica of every partition is in sync again, so that one node may be lost."""

        async def in_sync() -> bool:
            topics = await self._topics()
            partitions = [each for topic in topics or () for each in topic["partitions"]]
            in_place = [each["leader"] > 0 and len(each["isr"]) == len(each["replicas"]) for each in partitions]
            return topics is not None and all(in_place)

        await wait_until(in_sync, _WHOLE_SECONDS, "all replicas are in sync")

    async def mend(self) -> None:
        """Lets paused nodes go on, starts those that do not run, and waits until all is in sync."""
        for node in self.nodes:
            node.resume()
        await self.start()
        await self.whole()

    async def _topics(self, names: list[str] | None = None) -> list[dict[str, Any]] | None:
        """What the nodes that answer say of these topics, or of all; None while none does."""
        admin = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap_servers, request_timeout_ms=5_000)
        try:
            await admin.start()
            return list(await admin.describe_topics(names))
        except (KafkaError, OSError):
            return None
        finally:
            await admin.close()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def kafka_cluster(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[KafkaCluster]:
    """Three running nodes. Mark the test `kafka`; take `breakable_cluster` to kill, pause or restart one."""
    cluster = KafkaCluster(tmp_path_factory.mktemp("cluster"))
    await started_or_skipped(cluster.start)
    try:
        yield cluster
    finally:
        await cluster.kill()  # nobody needs the data


@pytest_asyncio.fixture
async def breakable_cluster(kafka_cluster: KafkaCluster) -> AsyncIterator[KafkaCluster]:
    """The session's cluster, free to be broken: all nodes run again, in sync, for the tests that follow."""
    yield kafka_cluster
    await kafka_cluster.mend()

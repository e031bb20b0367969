"""Everything of a production on this machine: three brokers behind relays, ClickHouse, two each of ingress, worker and sink."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from deploy.embedded.configuration import new_configuration, write_configuration
from deploy.embedded.pausing import pause_process
from deploy.embedded.ports import free_port
from kybstream.settings import Settings, load_settings
from tests.chaos.campaign.connections import HOST, Relay
from tests.chaos.clickhouse_node import ClickHouseNode, clickhouse_node
from tests.chaos.production import Component
from tests.support.cluster import KAFKA_SETTINGS, NODES, KafkaCluster
from tests.support.commands import kyb_stream
from tests.support.small_disk import small_disk

COMPONENTS = ("ingress", "worker", "sink")
EACH = 2
DISK_MIB = 1024
"""Of the one broker whose disk is filled."""
READY_SECONDS = 180.0
STOP_SECONDS = 60.0


@dataclass(frozen=True)
class Site:
    """What runs.

    Attributes:
        settings: Of the first of each component; all have the same topics, tables, keys and sources.
        config_path: Where that is.
        cluster: The brokers.
        relays: Before each broker, in the same order.
        clickhouse: The server.
        components: By name, as `worker-1`.
        disk: The folder of the last broker's own small disk; None where none can be mounted.
    """

    settings: Settings
    config_path: Path
    cluster: KafkaCluster
    relays: tuple[Relay, ...]
    clickhouse: ClickHouseNode
    components: dict[str, Component]
    disk: Path | None

    async def stop(self, name: str) -> None:
        """Ends a component as an operator does, and waits for its end."""
        component = self.components[name]
        component.running.send(signal.SIGTERM)
        code = await component.running.ended(STOP_SECONDS)
        assert code == 0, f"{name} ended with {code}: {component.running.output[-2000:]}"

    async def start(self, name: str) -> None:
        """Starts a component, and waits until it says that it is ready."""
        self.components[name].start()
        await self.components[name].ready(READY_SECONDS)

    def pause(self, name: str) -> None:
        """Stops a component's process where it is."""
        pause_process(self.components[name].running.pid)

    def resume(self, name: str) -> None:
        """Lets it go on."""
        self.components[name].running.send(signal.SIGCONT)


@asynccontextmanager
async def site(folder: Path, *, name: str) -> AsyncIterator[Site]:
    """Starts everything; `name` is that of the database and the prefix of the topics."""
    async with AsyncExitStack() as stack:
        disk = None
        if os.geteuid() == 0:
            disk = stack.enter_context(small_disk(folder / "small-disk", DISK_MIB))
        cluster, relays = _cluster(folder, disk)
        stack.push_async_callback(cluster.kill)
        for relay in relays:  # first: a broker is asked through its relay whether it answers
            await relay.open()
            stack.push_async_callback(relay.cut)
        await cluster.start()
        clickhouse = await stack.enter_async_context(clickhouse_node(folder / "clickhouse"))
        servers = ",".join(f"{HOST}:{relay.port}" for relay in relays)
        paths = _configurations(folder, bootstrap_servers=servers, clickhouse_url=clickhouse.url, name=name)
        migrated = await kyb_stream("migrate", "--config", str(paths[0]))
        assert migrated.exit_code == 0, migrated
        components = {
            f"{each}-{number}": Component(each, path, path.parent) for each in COMPONENTS for number, path in enumerate(paths)
        }
        stack.push_async_callback(_close, components)
        for component in components.values():
            component.start()
        await asyncio.gather(*(component.ready(READY_SECONDS) for component in components.values()))
        yield Site(load_settings(paths[0], {}), paths[0], cluster, relays, clickhouse, components, disk)


def _cluster(folder: Path, disk: Path | None) -> tuple[KafkaCluster, tuple[Relay, ...]]:
    """Brokers that tell clients to come through a relay, and talk to each other past it."""
    cluster = KafkaCluster(folder)
    relays = []
    for number, node in enumerate(cluster.nodes):
        relay, internal = Relay(free_port(), node.port), free_port()
        relays.append(relay)
        node.overrides |= {
            "listeners": f"PLAINTEXT://{HOST}:{node.port},INTERNAL://{HOST}:{internal},"
            f"CONTROLLER://{HOST}:{node.controller_port}",
            "advertised.listeners": f"PLAINTEXT://{HOST}:{relay.port},INTERNAL://{HOST}:{internal}",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,INTERNAL:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "inter.broker.listener.name": "INTERNAL",
        }
        if disk is not None and number == NODES - 1:
            node.data_dir = disk / "kafka"
    return cluster, tuple(relays)


def _configurations(folder: Path, *, bootstrap_servers: str, clickhouse_url: str, name: str) -> list[Path]:
    """A configuration for the first and one for the second of each component."""
    values = new_configuration(bootstrap_servers=bootstrap_servers, clickhouse_port=1, ingress_port=1)
    port = free_port()
    paths = []
    for number in range(EACH):
        place = folder / f"machine-{number}"
        place.mkdir()
        values |= {
            "kafka": {"bootstrap_servers": bootstrap_servers, "topic_prefix": f"{name}.", **KAFKA_SETTINGS},
            "clickhouse": {"url": clickhouse_url, "database": name},
            "ingress": {"host": HOST, "port": port, "reuse_port": True, "spool_dir": str(place / "spool")},
            "worker": {"group": f"{name}-worker", "instance": f"worker-{number}", "data_dir": str(place / "state")},
            "sink": {"group": f"{name}-sink"},
        }
        write_configuration(place / "kyb-stream.toml", values, comment="Made by the campaign.")
        paths.append(place / "kyb-stream.toml")
    return paths


async def _close(components: dict[str, Component]) -> None:
    await asyncio.gather(*(each.process.close() for each in components.values() if each.process is not None))

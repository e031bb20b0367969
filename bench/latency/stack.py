"""Everything that a webhook passes: a real Kafka, ingress, worker, sink and the embedded ClickHouse server, each a process."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

from deploy.embedded.apache_kafka import KafkaNode
from deploy.embedded.clickhouse.child import clickhouse_child
from deploy.embedded.configuration import new_configuration, write_configuration
from deploy.embedded.ports import free_port
from deploy.embedded.supervisor import Child, Supervisor
from kybstream.operations.migrate import migrate
from kybstream.settings import Settings, load_settings

COMPONENTS = ("ingress", "worker", "sink")


@asynccontextmanager
async def running_stack(scratch: Path) -> AsyncIterator[Settings]:
    """Starts all, waits until all is ready, and ends it afterwards.

    Args:
        scratch: A folder of its own.

    Raises:
        RunError: Something does not start.
    """
    node = KafkaNode(scratch / "kafka", free_port(), free_port())
    await node.start()
    try:
        async with Supervisor() as supervisor:
            config, settings = _configuration(scratch, node.bootstrap_servers)
            port = int(settings.clickhouse.url.rpartition(":")[2])
            await supervisor.start(clickhouse_child(scratch / "clickhouse", port, log_path=scratch / "clickhouse.log"))
            await migrate(settings)
            for name in COMPONENTS:
                mark = scratch / f"{name}.ready"
                command = [sys.executable, "-m", "kybstream.cli", name, "--config", str(config), "--ready-file", str(mark)]
                child = Child(name=name, argv=command, ready=partial(_is_there, mark), log_path=scratch / f"{name}.log")
                await supervisor.start(child)
            yield settings
    finally:
        await node.kill()


def _configuration(scratch: Path, bootstrap: str) -> tuple[Path, Settings]:
    values = new_configuration(bootstrap_servers=bootstrap, clickhouse_port=free_port(), ingress_port=free_port())
    values["worker"] = {"data_dir": str(scratch / "worker-data")}
    path = scratch / "kyb-stream.toml"
    write_configuration(path, values, comment="of one run")
    return path, load_settings(path, {})


async def _is_there(mark: Path) -> bool:
    return mark.exists()  # noqa: ASYNC240 (one look at a local file)

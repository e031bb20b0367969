"""The embedded stack: broker, ClickHouse-compatible server, ingress, worker and sink as five processes.

Every component is started by its own public command with the same settings as in production; only addresses and folders are
overridden by the environment.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from deploy.embedded.apache_kafka import KafkaNode
from deploy.embedded.noida import broker_child
from deploy.embedded.ports import free_port, require_free_port
from deploy.embedded.readiness import http_ok, kafka_answers
from deploy.embedded.supervisor import Child, Supervisor
from kybstream.errors import RunError, UsageError
from kybstream.settings import Settings, load_settings

LOOPBACK = frozenset({"127.0.0.1", "localhost"})
NOIDA = "noida"
APACHE = "apache"
_PASSWORD_VARIABLE = "KYB_STREAM_CLICKHOUSE__PASSWORD"  # noqa: S105 (its name)

Announce = Callable[[str], None]
Migrate = Callable[[Settings], Awaitable[object]]


@dataclass(frozen=True)
class Stack:
    """Where the stack lives and what it is made of.

    Attributes:
        config_path: The configuration that all components are started with.
        data_dir: Holds the data of each, and their logs in `logs/`.
        broker: `noida`, `apache`, or the address of a broker that runs already.
        clear_bodies: Lets the ingress run without a key: bodies lie in Kafka in clear then.
    """

    config_path: Path
    data_dir: Path
    broker: str = NOIDA
    clear_bodies: bool = False

    @property
    def overrides(self) -> dict[str, str]:
        """What the environment sets over the configuration."""
        values = {
            "KYB_STREAM_WORKER__DATA_DIR": str(self.data_dir.absolute() / "worker"),
            "KYB_STREAM_INGRESS__SPOOL_DIR": str(self.data_dir.absolute() / "spool"),
            # Static members get their partitions back at once, also after a kill.
            "KYB_STREAM_WORKER__INSTANCE": "embedded",
            "KYB_STREAM_SINK__INSTANCE": "embedded",
        }
        if self.broker not in {NOIDA, APACHE}:
            values["KYB_STREAM_KAFKA__BOOTSTRAP_SERVERS"] = self.broker
        if self.clear_bodies:
            values["KYB_STREAM_ENCRYPTION__REQUIRED"] = "false"
        return values

    def settings(self) -> Settings:
        """The configuration with our overrides.

        Raises:
            ConfigurationError: The file or a variable is wrong.
        """
        return load_settings(self.config_path, {**os.environ, **self.overrides})


async def start_stack(stack: Stack, supervisor: Supervisor, *, migrate: Migrate, announce: Announce) -> None:
    """Starts everything: what stores first, and what works on it when it is ready and has its topics and tables.

    Args:
        stack: What to start.
        supervisor: Runs the processes, and stops them all when one does not start.
        migrate: Makes topics and schema.
        announce: Told a line about each step.

    Raises:
        RunError: A port is in use, or a process ended or was not ready in time.
        UsageError: The configuration names addresses that are not of this machine.
    """
    settings = stack.settings()
    ingress_port = settings.ingress.port
    clickhouse_port = _loopback_port(settings.clickhouse.url, "clickhouse.url")
    require_free_port(settings.ingress.host, ingress_port, "the ingress (ingress.port)")
    require_free_port("127.0.0.1", clickhouse_port, "ClickHouse (clickhouse.url)")
    announce("starting the broker and the ClickHouse-compatible server")
    await supervisor.start(*await _broker(stack, settings), _clickhouse(stack, settings, clickhouse_port))
    announce("making topics and tables")
    await migrate(settings)
    announce("starting the ingress, the worker and the sink")
    await supervisor.start(*(_component(stack, settings, name) for name in ("ingress", "worker", "sink")))


async def _broker(stack: Stack, settings: Settings) -> list[Child]:
    """The broker to start: none, when one runs already."""
    servers = settings.kafka.bootstrap_servers
    data_dir, log_path = stack.data_dir / "broker", _log(stack, "broker")
    if stack.broker == NOIDA:
        return [broker_child(data_dir, _broker_port(servers), log_path=log_path)]
    if stack.broker == APACHE:
        node = KafkaNode(stack.data_dir / "kafka", _broker_port(servers), free_port())
        return [await asyncio.to_thread(node.child)]
    if not await kafka_answers(servers.partition(",")[0]):
        raise RunError(f"no Kafka broker answers at {servers}", hint="Start it, or leave --broker out.")
    return []


def _clickhouse(stack: Stack, settings: Settings, port: int) -> Child:
    data_dir = stack.data_dir / "clickhouse"
    credentials = ["--user", settings.clickhouse.username, "--password", f"env:{_PASSWORD_VARIABLE}"]
    return Child(
        name="clickhouse",
        argv=own_command("embedded", "clickhouse", "--data-dir", str(data_dir), "--port", str(port), *credentials),
        ready=partial(http_ok, f"http://127.0.0.1:{port}/ping"),
        env={**os.environ, _PASSWORD_VARIABLE: settings.clickhouse.password.reveal_text()},  # others can read a command line
        log_path=_log(stack, "clickhouse"),
    )


def _component(stack: Stack, settings: Settings, name: str) -> Child:
    ready_file = (stack.data_dir / f"{name}.ready").absolute()
    ready_file.unlink(missing_ok=True)

    async def is_ready() -> bool:
        return ready_file.exists()

    async def answers() -> bool:
        return await http_ok(f"http://{settings.ingress.host}:{settings.ingress.port}/readyz")

    return Child(
        name=name,
        argv=own_command(name, "--config", str(stack.config_path), "--ready-file", str(ready_file)),
        ready=answers if name == "ingress" else is_ready,
        env={**os.environ, **stack.overrides},
        log_path=_log(stack, name),
    )


def own_command(*arguments: str) -> list[str]:
    """`kyb-stream` with these arguments, from installed packages alone, whatever the current folder holds."""
    return [sys.executable, "-P", "-m", "kybstream.cli", *arguments]


def _log(stack: Stack, name: str) -> Path:
    path = stack.data_dir / "logs" / f"{name}.log"
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _broker_port(servers: str) -> int:
    return _loopback_port(f"kafka://{servers}", "kafka.bootstrap_servers")


def _loopback_port(url: str, key: str) -> int:
    """The port of an address that an embedded server is to listen on."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if host not in LOOPBACK or port is None:
        raise UsageError(
            f"the embedded stack listens on 127.0.0.1, but {key} is not an address of that kind",
            hint=f"Set {key} to 127.0.0.1 with a port, or run the components one by one.",
        )
    return port

"""The services of docker-compose.yml as plain processes: their commands, environments and health checks, on loopback."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from deploy.embedded.apache_kafka import KafkaNode, MissingToolError
from deploy.embedded.ports import free_port
from tests.deploy.compose_file import (
    CONFIG_FILE,
    CONFIG_TARGET,
    GUIDE,
    LocalService,
    read_services,
    replaced,
    seconds,
    terminated,
)
from tests.deploy.test_compose import COMPONENTS, SECRETS
from tests.support.waiting import wait_until

LARGEST_BODY = 1_048_576  # `max_body_bytes` of a source, by default
NOT_IN_THE_IMAGE = ("chdb", "noida_db", "pytest")


@pytest.fixture
def services() -> dict[str, dict[str, Any]]:
    """The services, with all secrets set."""
    return read_services(SECRETS)


class ImageNode(KafkaNode):
    """A node with the settings that the image makes of a service's environment, and no others."""

    def __init__(self, data_dir: Path, environment: dict[str, str]) -> None:
        super().__init__(data_dir, free_port(), free_port())
        self._environment = environment

    def prepare(self) -> list[str]:
        """The command, as for any node; its file of settings is written anew."""
        command = super().prepare()
        places = {
            "://:9092": f"://{self.host}:{self.port}",
            "kafka:9092": self.bootstrap_servers,
            "localhost:9093": f"{self.host}:{self.controller_port}",
            "/var/lib/kafka/data": str(self.data_dir / "log"),
        }
        settings = [
            # The image's rule: https://github.com/apache/kafka/blob/4.1.0/docker/examples/README.md
            f"{name.removeprefix('KAFKA_').lower().replace('_', '.')}={replaced(value, places)}\n"
            for name, value in self._environment.items()
            if name.startswith("KAFKA_") and name != "KAFKA_HEAP_OPTS"
        ]
        Path(command[-1]).write_text("".join(settings), encoding="utf-8")
        return command


@pytest_asyncio.fixture
async def kafka(services: dict[str, dict[str, Any]], tmp_path: Path) -> AsyncIterator[KafkaNode]:
    """Apache Kafka of the image's version, as the service sets it."""
    node = ImageNode(tmp_path / "kafka", services["kafka"]["environment"])
    try:
        await node.start()
    except MissingToolError as error:
        pytest.fail(error.message) if os.environ.get("CI") else pytest.skip(error.message)
    yield node
    await node.kill()


@pytest.fixture
def local(
    services: dict[str, dict[str, Any]], kafka: KafkaNode, clickhouse_server: str, database_name: str, tmp_path: Path
) -> dict[str, LocalService]:
    """Our components, as in the file but for hosts, ports, folders and the name of the database."""
    shadow = tmp_path / "not-in-the-image"
    for module in NOT_IN_THE_IMAGE:
        (shadow / module).mkdir(parents=True)
        (shadow / module / "__init__.py").write_text(f"raise ImportError('{module} is not in the image')\n")
    ports = {each: str(free_port()) for each in ("8080", "8081", "8082")}
    components = {}
    for name in COMPONENTS:
        places = {
            "kafka:9092": kafka.bootstrap_servers,
            "http://clickhouse:8123": clickhouse_server,
            "0.0.0.0": "127.0.0.1",
            **ports,
            CONFIG_TARGET: str(CONFIG_FILE),
            "/var/lib/kyb-stream": str(tmp_path / "worker-state"),
            "/tmp/ready": str(tmp_path / f"{name}.ready"),  # noqa: S108 - a path in a container
        }
        # Tests share the server, so each has a database of its own; the file leaves it at its default, `kyb`.
        environment = services[name]["environment"] | {"KYB_STREAM_CLICKHOUSE__DATABASE": database_name}
        service = services[name] | {"environment": environment}
        logs = tmp_path / f"{name}.log", tmp_path / f"{name}-commands.log"
        components[name] = LocalService(service, places, shadow, *logs)
    return components


async def rows(server: str, database: str, statement: str) -> list[list[Any]]:
    """The rows of a query."""
    query = {"database": database, "default_format": "JSONCompactEachRow"}
    async with aiohttp.ClientSession() as session, session.post(server, params=query, data=statement) as response:
        assert response.status == 200, await response.text()
        return [json.loads(line) for line in (await response.text()).splitlines()]


async def post(url: str, body: bytes) -> str:
    """Sends a webhook, which must be taken; returns its delivery id."""
    headers = {"Content-Type": "application/json"}
    async with aiohttp.ClientSession() as session, session.post(url, data=body, headers=headers) as response:
        assert (response.status, await response.text()) == (200, "ok")
        return response.headers["X-Delivery-Id"]


def guide_commands() -> list[list[str]]:
    """The commands that the guide runs inside the worker's container."""
    return [
        shlex.split(line) for line in re.findall(r"^docker compose exec worker (.*)$", GUIDE.read_text("utf-8"), re.MULTILINE)
    ]


@pytest.mark.kafka
@pytest.mark.stack
async def test_a_webhook_goes_through_the_services_of_the_file(
    local: dict[str, LocalService], clickhouse_server: str, database_name: str
) -> None:
    """Migrated, started, healthy; the guide's webhook and the largest one are queryable; each service ends on SIGTERM."""
    code, output = await local["migrate"].run()
    assert code == 0, local["migrate"].commands_log.read_text()
    assert "kyb.webhooks.raw.v1: made" in output

    names = ("ingress", "worker", "sink")
    health = await asyncio.gather(*[local[name].healthy() for name in names])
    assert not any(health), "a health check is content with nothing"
    async with AsyncExitStack() as stack:
        async with asyncio.TaskGroup() as starting:  # one that fails ends the others, too
            started = {name: starting.create_task(stack.enter_async_context(local[name].running())) for name in names}
        running = {name: task.result() for name, task in started.items()}

        url = f"{local['ingress'].environment['KYB_STREAM_INGRESS__PUBLIC_URL']}/webhooks/kyb/{SECRETS['KYB_SOURCE_TOKEN']}"
        example = re.search(r"--data '([^']*)'", GUIDE.read_text("utf-8"))
        assert example
        body = example[1].encode()
        largest = body.replace(b"{", b'{"filler":"%s",' % (b"x" * (LARGEST_BODY - len(body) - len('"filler":"",'))), 1)
        assert len(largest) == LARGEST_BODY
        sent = {await post(url, body), await post(url, largest)}

        async def landed() -> bool:
            found = await rows(clickhouse_server, database_name, "SELECT toString(delivery_id) FROM deliveries")
            return {row[0] for row in found} == sent

        await wait_until(landed, 30, "both deliveries are in ClickHouse")

        async def case_is_there() -> bool:
            return await rows(clickhouse_server, database_name, "SELECT count() FROM current_cases") == [[1]]

        await wait_until(case_is_there, 30, "the case is in ClickHouse")

        case_id = json.loads(body)["service_id"]
        commands = guide_commands()
        assert commands
        answers = await asyncio.gather(*[local["worker"].run(command) for command in commands])
        for command, (code, output) in zip(commands, answers, strict=True):
            assert code == 0, (command, local["worker"].commands_log.read_text()[-2000:])
            if command[1] == "sql":
                assert case_id in output

        for name, process in running.items():
            grace = seconds(local[name].service["stop_grace_period"])
            assert await terminated(process, grace) == 0, local[name].log.read_text()[-2000:]
            assert name == "ingress" or not await local[name].healthy(), "an ended component is not healthy"

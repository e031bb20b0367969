"""Fixtures: the embedded broker and Apache Kafka, started once a session, when the first test asks for them.

Tests share them, so each takes topics of its own: `topic_prefix`.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import pytest_asyncio

from deploy.embedded.apache_kafka import KafkaNode, MissingToolError
from deploy.embedded.noida import HOST, broker_child
from deploy.embedded.ports import free_port
from deploy.embedded.supervisor import Supervisor

MakeKafka = Callable[[dict[str, str | int]], Awaitable[KafkaNode]]


@pytest.fixture
def topic_prefix() -> str:
    """A topic prefix that no other test uses."""
    return f"test-{uuid.uuid4().hex[:12]}."


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def noida_broker(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """The bootstrap address of a running embedded broker. Do not kill it: a SIGKILL loses acknowledged messages."""
    folder = tmp_path_factory.mktemp("noida")
    port = free_port()
    async with Supervisor() as supervisor:
        await supervisor.start(broker_child(folder / "data", port, log_path=folder / "broker.log"))
        yield f"{HOST}:{port}"


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def apache_kafka(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[KafkaNode]:
    """A running Apache Kafka node. Mark the test `kafka`; take `breakable_kafka` to kill, pause or restart it."""
    node = KafkaNode(tmp_path_factory.mktemp("kafka"), free_port(), free_port())
    await started_or_skipped(node.start)
    try:
        yield node
    finally:
        await node.kill()  # nobody needs the data


@pytest_asyncio.fixture
async def breakable_kafka(apache_kafka: KafkaNode) -> AsyncIterator[KafkaNode]:
    """The session's node, free to be broken: it runs again, unpaused, for the tests that follow."""
    yield apache_kafka
    apache_kafka.resume()
    await apache_kafka.start()
    await apache_kafka.wait_ready()


@pytest_asyncio.fixture
async def make_kafka(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[MakeKafka]:
    """A function that starts a node with given broker settings, say `{"message.max.bytes": 1000}`: some 4 s each."""
    nodes: list[KafkaNode] = []

    async def make(overrides: dict[str, str | int]) -> KafkaNode:
        node = KafkaNode(tmp_path_factory.mktemp("kafka"), free_port(), free_port(), overrides=overrides)
        nodes.append(node)
        await started_or_skipped(node.start)
        return node

    try:
        yield make
    finally:
        for node in nodes:
            await node.kill()


async def started_or_skipped(start: Callable[[], Awaitable[None]]) -> None:
    """Starts Apache Kafka, or skips the test where Java or Maven is missing; in CI that fails it."""
    try:
        await start()
    except MissingToolError as error:
        if os.environ.get("CI"):  # there, a guarantee that goes untested is a failure
            pytest.fail(error.message)
        pytest.skip(error.message)

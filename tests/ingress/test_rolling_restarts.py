"""Processes restarted one after the other, under load, on Apache Kafka: nobody is turned away, and no 200 is broken."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from deploy.embedded.apache_kafka import KafkaNode
from deploy.embedded.ports import free_port
from kybstream.settings import Settings, load_settings
from schemas.codec import decode
from schemas.records import WebhookDelivery
from schemas.topics import RAW
from tests.ingress.harness import KYB_TOKEN, make_topics, records_of
from tests.ingress.processes import START_SECONDS, Client, IngressProcess, ask, ingress_process, write_config
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.kafka, pytest.mark.stack]

KYB = f"/webhooks/kyb/{KYB_TOKEN}"
RESTARTS = 6


class Load:
    """Clients that send all the time, some on a new connection for each webhook, some on one as long as it is open.

    Attributes:
        acknowledged: Delivery ids that got 200.
        outcomes: How often what happened on new connections.
        pause_seconds: Between two webhooks of a client: a process starts slowly on a machine that has nothing to spare.
        raced: Requests on an open connection that was closed meanwhile: HTTP/1.1 does not let a client know in time.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._ended = False
        self.pause_seconds = 0.02
        self.acknowledged: set[str] = set()
        self.outcomes: Counter[str] = Counter()
        self.kept: Counter[str] = Counter()
        self.raced = 0

    @asynccontextmanager
    async def running(self, *, new: int, kept: int) -> AsyncIterator[None]:
        """So many clients of each kind, until the block ends."""
        async with asyncio.TaskGroup() as tasks:
            for number in range(new):
                tasks.create_task(self._send_on_new_connections(number))
            for number in range(kept):
                tasks.create_task(self._send_on_one_connection(number))
            yield
            self._ended = True

    async def _send_on_new_connections(self, number: int) -> None:
        while not self._ended:
            try:
                answer = await ask(self._port, "POST", KYB, b'{"service_id": "new-%d"}' % number)
            except (OSError, EOFError) as error:
                self.outcomes[type(error).__name__] += 1
            else:
                self.outcomes[str(answer.status)] += 1
                self.acknowledged.add(answer.headers["x-delivery-id"])
            await asyncio.sleep(self.pause_seconds)

    async def _send_on_one_connection(self, number: int) -> None:
        while not self._ended:
            client, answered = await Client.connect(self._port), 0
            try:
                while not self._ended:
                    answer = await client.request("POST", KYB, b'{"service_id": "kept-%d"}' % number)
                    answered += 1
                    self.kept[str(answer.status)] += 1
                    self.acknowledged.add(answer.headers["x-delivery-id"])
                    if answer.headers.get("connection") == "close":
                        break
                    await asyncio.sleep(self.pause_seconds)
            except (OSError, EOFError):
                assert answered > 0, "a new connection was not answered"
                self.raced += 1
            finally:
                await client.close()


async def settled(config: Path, kafka: KafkaNode, prefix: str, **ingress: Any) -> Settings:
    """The configuration, written, with its topics made."""
    write_config(config, bootstrap=kafka.bootstrap_servers, prefix=prefix, **ingress)
    settings = load_settings(config, {})
    await make_topics(settings.kafka)
    return settings


async def check(load: Load, settings: Settings) -> None:
    """Every answer was 200, and every 200 is in the topic."""
    print(f"new connections: {dict(load.outcomes)}, kept: {dict(load.kept)}, raced: {load.raced}")  # noqa: T201 - the figures, with -s
    assert set(load.outcomes) == {"200"}
    assert set(load.kept) == {"200"}
    assert len(load.acknowledged) == load.outcomes["200"] + load.kept["200"]
    records = await records_of(settings.kafka, settings.topic(RAW))
    assert load.acknowledged <= {decode(record.value, WebhookDelivery).delivery_id for record in records}


async def test_workers_restarted_in_turn_turn_nobody_away(apache_kafka: KafkaNode, topic_prefix: str, tmp_path: Path) -> None:
    """SIGHUP three times, two workers: six restarts, and no new connection is refused, reset or left without 200."""
    config = tmp_path / "kyb-stream.toml"
    settings = await settled(config, apache_kafka, topic_prefix, spool_dir=str(tmp_path / "spool"))
    async with ingress_process(config, "--workers", "2") as ingress:
        await ingress.wait_ready()
        load = Load(ingress.port)
        async with load.running(new=16, kept=4):
            for number in range(1, RESTARTS // 2 + 1):
                before = ingress.workers
                ingress.process.send_signal(signal.SIGHUP)
                await wait_until(
                    lambda number=number: len(ingress.events("ingress_restarted")) == number,  # type: ignore[misc]
                    START_SECONDS,
                    "all workers are renewed",
                )
                assert not ingress.workers & before
        assert await ingress.end() == 0
    await check(load, settings)


async def test_processes_that_share_a_port_turn_nobody_away(apache_kafka: KafkaNode, topic_prefix: str, tmp_path: Path) -> None:
    """Two with `reuse_port`, one or the other restarted by SIGTERM and a new start, six times: the same holds."""
    port, configs = free_port(), [tmp_path / f"{name}.toml" for name in "ab"]
    await settled(configs[0], apache_kafka, topic_prefix, port=port, reuse_port=True, spool_dir=str(tmp_path / "spool-a"))
    write_config(
        configs[1],
        bootstrap=apache_kafka.bootstrap_servers,
        prefix=topic_prefix,
        port=port,
        reuse_port=True,
        spool_dir=str(tmp_path / "spool-b"),
    )
    load = Load(port)
    async with AsyncExitStack() as running:

        async def start(number: int) -> IngressProcess:
            name = configs[number % 2].stem
            ingress = await running.enter_async_context(ingress_process(configs[number % 2], name=f"{name}-{number}"))
            await ingress.wait_ready()
            return ingress

        processes = [await start(0), await start(1)]
        async with load.running(new=16, kept=4):
            for number in range(RESTARTS):
                load.pause_seconds = 0  # connections wait at the door that is being closed
                assert await processes[number].end() == 0
                load.pause_seconds = 0.02
                processes.append(await start(number + 2))
        for ingress in processes[-2:]:
            await ingress.end()
    await check(load, load_settings(configs[0], {}))

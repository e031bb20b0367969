from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import aiohttp
import pytest

from deploy.embedded.apache_kafka import KafkaNode
from deploy.embedded.noida import broker_child
from deploy.embedded.ports import free_port
from deploy.embedded.supervisor import Supervisor
from ingress.server import serve
from kybstream.errors import RunError
from kybstream.settings import render_toml
from tests.ingress.harness import KYB_TOKEN, Ingress, deliveries_of, make_topics, running, settings_for
from tests.support.waiting import wait_until

KYB = f"/webhooks/kyb/{KYB_TOKEN}"
ENTRIES = "kyb_ingress_spool_entries"


def body_of(number: int) -> bytes:
    """A body of its own."""
    return b'{"service_id": "case-%d"}' % number


async def accepted_of(ingress: Ingress, numbers: range) -> set[str]:
    """Posts one body per number, and expects each to be taken."""
    answers = await asyncio.gather(*(ingress.post(KYB, body_of(number)) for number in numbers))
    assert {answer.status for answer in answers} == {200}
    return {answer.headers["X-Delivery-Id"] for answer in answers}


async def is_empty(ingress: Ingress) -> bool:
    """Whether the spool has been drained."""
    return await ingress.metric(ENTRIES) == 0


async def test_without_kafka_deliveries_are_taken_and_reach_it_when_it_comes(tmp_path: Path, topic_prefix: str) -> None:
    """No broker: 200, and readiness says `degraded`. When it comes, the spool drains itself while live traffic goes on."""
    port = free_port()
    settings = settings_for(f"127.0.0.1:{port}", topic_prefix, spool_dir=str(tmp_path / "spool"))
    async with Supervisor() as supervisor, running(settings) as ingress:
        accepted = await accepted_of(ingress, range(50))
        assert await ingress.metric(ENTRIES) == 50
        ready = await ingress.request("GET", "/readyz")
        assert ready.status == 200
        assert ready.body.startswith(b"degraded: ")
        await supervisor.start(broker_child(tmp_path / "data", port, log_path=tmp_path / "log"))
        await make_topics(settings.kafka)
        accepted |= await accepted_of(ingress, range(50, 60))
        await wait_until(lambda: is_empty(ingress), 30, "the spool is drained")
        assert (await ingress.request("GET", "/readyz")).body == b"ready"
        assert await ingress.metric("kyb_ingress_spool_drained_total") >= 50
        found = await deliveries_of(settings)
        assert accepted == set(found)
        assert {delivery.body for delivery in found.values()} == {body_of(number) for number in range(60)}
        await ingress.end()


async def test_a_full_spool_is_503_never_200(tmp_path: Path, topic_prefix: str) -> None:
    """Without Kafka and without room nothing is claimed; readiness says why."""
    settings = settings_for(
        f"127.0.0.1:{free_port()}", topic_prefix, spool_dir=str(tmp_path / "spool"), spool_max_bytes=1024**2
    )
    large = b'{"service_id": "large", "filling": "%s"}' % (b"x" * 200_000)
    async with running(settings) as ingress:
        statuses = [(await ingress.post(KYB, large)).status for _ in range(8)]
        assert statuses == [200] * statuses.count(200) + [503] * statuses.count(503)
        assert statuses.count(200) == await ingress.metric(ENTRIES)
        assert statuses[-1] == 503
        assert await ingress.metric("kyb_ingress_spool_refused_total", reason="full") == statuses.count(503)


async def test_a_spool_belongs_to_one_process(tmp_path: Path, topic_prefix: str) -> None:
    """A second ingress on the same folder does not start, and says which folder it is."""
    settings = settings_for(f"127.0.0.1:{free_port()}", topic_prefix, spool_dir=str(tmp_path / "spool"))
    async with running(settings):
        with pytest.raises(RunError, match="spool is in use by process"):
            await serve(settings, stop=asyncio.Event())


@pytest.mark.kafka
async def test_a_frozen_broker_is_not_noticed_by_the_providers(
    breakable_kafka: KafkaNode, topic_prefix: str, tmp_path: Path
) -> None:
    """While Kafka does not answer, every webhook gets 200 within a second; each is in the topic afterwards."""
    settings = settings_for(
        breakable_kafka.bootstrap_servers, topic_prefix, ack_timeout_seconds=0.2, spool_dir=str(tmp_path / "spool")
    )
    await make_topics(settings.kafka)
    loop = asyncio.get_running_loop()
    async with running(settings) as ingress:
        accepted = await accepted_of(ingress, range(5))
        breakable_kafka.pause()
        slowest = 0.0
        for first in range(100, 400, 20):
            started = loop.time()
            accepted |= await accepted_of(ingress, range(first, first + 20))
            slowest = max(slowest, loop.time() - started)
        assert slowest < 1.5
        assert await ingress.metric(ENTRIES) > 0
        breakable_kafka.resume()
        await wait_until(lambda: is_empty(ingress), 60, "the spool is drained")
        # A send that was given up may have succeeded later: a copy with the same id, which the intake drops.
        assert accepted == set(await deliveries_of(settings))


@pytest.mark.stack
async def test_what_was_spooled_survives_a_killed_ingress(tmp_path: Path, topic_prefix: str) -> None:
    """SIGKILL under load without Kafka, several times: what got 200 is in the topic when Kafka comes."""
    port, ingress_port = free_port(), free_port()
    config = tmp_path / "kyb-stream.toml"
    config.write_text(
        render_toml(
            {
                "kafka": {"bootstrap_servers": f"127.0.0.1:{port}", "topic_prefix": topic_prefix},
                "ingress": {"port": ingress_port, "spool_dir": str(tmp_path / "spool")},
                "tenants": [{"name": "acme", "pseudonym_key": "k" * 32, "case_token_keys": ["c" * 32]}],
                "sources": [{"name": "kyb", "kind": "kyb-service", "tenant": "acme", "token": KYB_TOKEN}],
            }
        ),
        encoding="utf-8",
    )
    settings = settings_for(f"127.0.0.1:{port}", topic_prefix)
    url = f"http://127.0.0.1:{ingress_port}"
    accepted: set[str] = set()

    async def post(client: aiohttp.ClientSession, number: int) -> None:
        try:
            async with client.post(url + KYB, data=body_of(number)) as answer:
                if answer.status == 200:
                    accepted.add(answer.headers["X-Delivery-Id"])
        except aiohttp.ClientError:
            return  # killed meanwhile: nothing was claimed

    async with Supervisor() as supervisor, aiohttp.ClientSession() as client:
        for round_ in range(4):
            process = await start_ingress(config, url, client)
            senders = [asyncio.create_task(post(client, round_ * 1000 + number)) for number in range(300)]
            before = len(accepted)
            if round_ < 3:
                await wait_until(lambda before=before: len(accepted) > before + 40, 30, "some are accepted")  # type: ignore[misc]
                os.kill(process.pid, signal.SIGKILL)
                await process.wait()
            await asyncio.gather(*senders)
        await supervisor.start(broker_child(tmp_path / "data", port, log_path=tmp_path / "log"))
        await make_topics(settings.kafka)

        async def all_there() -> bool:
            return accepted <= set(await deliveries_of(settings))

        await wait_until(all_there, 40, "everything that got 200 is in the topic")
        process.terminate()
        assert await process.wait() == 0
    assert len(accepted) > 400


async def start_ingress(config: Path, url: str, client: aiohttp.ClientSession) -> asyncio.subprocess.Process:
    """`kyb-stream ingress`, taking webhooks."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "kybstream.cli", "ingress", "--config", str(config), stderr=asyncio.subprocess.DEVNULL
    )

    async def answers() -> bool:
        try:
            async with client.get(url + "/readyz") as answer:
                return answer.status == 200
        except aiohttp.ClientError:
            return False

    await wait_until(answers, 20, "the ingress takes webhooks")
    return process

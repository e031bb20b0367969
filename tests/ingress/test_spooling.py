from __future__ import annotations

import asyncio
from collections.abc import Callable, KeysView
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer

from deploy.embedded.noida import broker_child
from deploy.embedded.ports import free_port
from deploy.embedded.supervisor import Supervisor
from ingress import server
from ingress.connection import KafkaConnection
from ingress.publish import Publisher
from ingress.server import serve
from ingress.spool import Spool
from ingress.topic_facts import TopicFacts
from kybstream import side_tasks
from kybstream.errors import RunError
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


def failing_once(monkeypatch: pytest.MonkeyPatch, owner: type, name: str) -> Callable[[], int]:
    """Lets a method fail at its first call in a way that nobody foresaw; tells how often it was called."""
    original, calls = getattr(owner, name), 0

    async def failing(*given: object, **named: object) -> object:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise KeyError
        return await original(*given, **named)

    monkeypatch.setattr(owner, name, failing)
    return lambda: calls


def counted(monkeypatch: pytest.MonkeyPatch, owner: type, name: str) -> KeysView[int]:
    """The objects of which a method was called, by identity."""
    original = getattr(owner, name)
    seen: dict[int, object] = {}  # keeps them, so that no identity comes twice

    async def counting(self: object) -> object:
        seen[id(self)] = self
        return await original(self)

    monkeypatch.setattr(owner, name, counting)
    return seen.keys()


@pytest.mark.parametrize(
    ("owner", "name"),
    [(Spool, "oldest"), (KafkaConnection, "_until_lost"), (TopicFacts, "ask_limits"), (Publisher, "publish_rejections")],
)
async def test_a_bug_beside_the_requests_stops_neither_draining_nor_connecting(  # noqa: PLR0917 - fixtures
    owner: type, name: str, noida_broker: str, topic_prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The task is begun again: what is in the spool reaches Kafka, and what comes is taken."""
    monkeypatch.setattr(side_tasks, "PAUSE_SECONDS", 0.1)
    settings = settings_for(noida_broker, topic_prefix, spool_dir=str(tmp_path / "spool"))
    calls = failing_once(monkeypatch, owner, name)
    monkeypatch.setattr(server, "REPORT_SECONDS", 0.1)
    started, closed = counted(monkeypatch, AIOKafkaProducer, "start"), counted(monkeypatch, AIOKafkaProducer, "stop")
    async with running(settings) as ingress:
        accepted = await accepted_of(ingress, range(10))  # before the topics are there
        assert (await ingress.post("/webhooks/kyb/no-token", b"{}")).status == 404  # counted, and so reported
        await make_topics(settings.kafka)
        await wait_until(lambda: calls() > 1, 30, "it has failed and was begun again")
        await wait_until(lambda: is_empty(ingress), 30, "the spool is drained")
        accepted |= await accepted_of(ingress, range(10, 20))
        await wait_until(lambda: is_empty(ingress), 30, "the spool is drained")
        assert accepted == set(await deliveries_of(settings))
        await ingress.end()
    assert started == closed

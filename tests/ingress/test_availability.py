from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from deploy.embedded.apache_kafka import KafkaNode
from deploy.embedded.noida import broker_child
from deploy.embedded.ports import free_port
from deploy.embedded.supervisor import Supervisor
from ingress.server import serve
from ingress.topic_facts import TopicFacts
from kybstream.errors import ConfigurationError, RunError
from schemas.topics import RAW
from tests.ingress.harness import (
    KYB_TOKEN,
    PARTITIONS,
    SECRET,
    Ingress,
    deliveries_of,
    make_topics,
    records_of,
    running,
    settings_for,
    source,
)
from tests.ingress.signing import SIGNERS
from tests.support.waiting import wait_until

KYB = f"/webhooks/kyb/{KYB_TOKEN}"
BODY = b'{"service_id": "one"}'


async def test_it_starts_without_kafka_and_recovers_by_itself(tmp_path: Path, topic_prefix: str) -> None:
    """No broker: 503 with Retry-After at once, /readyz says why, /healthz is fine. When the broker comes: 200."""
    port = free_port()
    settings = settings_for(f"127.0.0.1:{port}", topic_prefix)
    async with Supervisor() as supervisor, running(settings, wait_ready=False) as ingress:
        await wait_until(lambda: _reason(ingress, "cannot be reached"), 10, "the first attempt has failed")
        answer = await ingress.post(KYB, BODY)
        assert (answer.status, answer.headers["Retry-After"]) == (503, "10")
        assert "X-Delivery-Id" not in answer.headers
        assert (await ingress.request("GET", "/healthz")).status == 200
        await supervisor.start(broker_child(tmp_path / "data", port, log_path=tmp_path / "log"))
        await wait_until(lambda: _reason(ingress, "kyb-stream migrate"), 10, "the topics are found missing")
        assert (await ingress.post(KYB, BODY)).status == 503
        await make_topics(settings.kafka)
        await ingress.wait_ready()
        answer = await ingress.post(KYB, BODY)
        assert answer.status == 200
        assert set(await deliveries_of(settings)) == {answer.headers["X-Delivery-Id"]}
        await ingress.end()


async def _reason(ingress: Ingress, text: str) -> bool:
    answer = await ingress.request("GET", "/readyz")
    return answer.status == 503 and text in json.loads(answer.body)["reason"]


@pytest.mark.kafka
async def test_a_frozen_broker_costs_503_and_nothing_else(breakable_kafka: KafkaNode, topic_prefix: str) -> None:
    """While the broker does not answer, webhooks get 503 within the acknowledgement timeout, then at once, and /readyz turns.

    When it answers again, so does the ingress; every 200 is in the topic.
    """
    settings = settings_for(breakable_kafka.bootstrap_servers, topic_prefix, ack_timeout_seconds=1)
    await make_topics(settings.kafka)
    loop = asyncio.get_running_loop()
    async with running(settings) as ingress:
        accepted = {(await ingress.post(KYB, BODY)).headers["X-Delivery-Id"]}
        breakable_kafka.pause()
        started = loop.time()
        answers = await asyncio.gather(*(ingress.post(KYB, BODY) for _ in range(20)))
        assert loop.time() - started < 4
        assert {answer.status for answer in answers} == {503}
        await wait_until(lambda: _not_ready(ingress), 10, "readiness turns")
        breakable_kafka.resume()
        await ingress.wait_ready(30)
        accepted.add(await wait_until(lambda: _accepted(ingress), 15, "a webhook is stored"))
        assert accepted <= set(await deliveries_of(settings))


@pytest.mark.kafka
async def test_an_idle_ingress_notices_that_kafka_is_gone(breakable_kafka: KafkaNode, topic_prefix: str) -> None:
    """Without any webhook /readyz turns when the broker does not answer, and turns back when it does."""
    settings = settings_for(breakable_kafka.bootstrap_servers, topic_prefix, ack_timeout_seconds=1)
    await make_topics(settings.kafka)
    async with running(settings) as ingress:
        breakable_kafka.pause()
        await wait_until(lambda: _not_ready(ingress), 10, "readiness turns")
        breakable_kafka.resume()
        await ingress.wait_ready(30)
        await wait_until(lambda: _accepted(ingress), 15, "a webhook is stored")


async def _accepted(ingress: Ingress) -> str:
    """The id of a webhook sent now; nothing for 503: a broker that was away for long answers a while before it leads again."""
    answer = await ingress.post(KYB, BODY)
    assert answer.status in {200, 503}
    return answer.headers["X-Delivery-Id"] if answer.status == 200 else ""


async def _not_ready(ingress: Ingress) -> bool:
    return (await ingress.request("GET", "/readyz")).status == 503


@pytest.mark.kafka
@pytest.mark.parametrize("limit_is_known", [True, False])
async def test_a_record_that_kafka_refuses_stops_nobody(
    apache_kafka: KafkaNode,
    topic_prefix: str,
    monkeypatch: pytest.MonkeyPatch,
    limit_is_known: bool,  # noqa: FBT001 - a parameter
) -> None:
    """A topic takes less than the source allows: 413 for what is too large, never 200; all others are taken meanwhile.

    Also where the broker does not tell the limit, by the producer that there is.
    """
    if not limit_is_known:
        monkeypatch.setattr(TopicFacts, "ask_limits", _do_not_ask)
    settings = settings_for(apache_kafka.bootstrap_servers, topic_prefix)
    await make_topics(settings.kafka, {"max.message.bytes": "20000"})
    async with running(settings) as ingress:
        for _ in range(3):
            large = asyncio.create_task(ingress.post(KYB, b"x" * 50_000))
            answers = await asyncio.gather(*(ingress.post(KYB, BODY) for _ in range(10)))
            assert {answer.status for answer in answers} == {200}
            assert (await large).status == 413
            assert (await ingress.post(KYB, BODY)).status == 200
        assert await ingress.metric("kyb_ingress_requests_total", source="kyb", outcome="too_large_for_kafka") == 3
        assert await ingress.metric("kyb_ingress_producers_replaced_total") == 0


@pytest.mark.kafka
async def test_what_kafka_will_never_take_is_not_spooled(breakable_kafka: KafkaNode, topic_prefix: str, tmp_path: Path) -> None:
    """Kafka is away: what it would refuse for its size gets 413 all the same, and not a 200 that nobody can keep."""
    settings = settings_for(
        breakable_kafka.bootstrap_servers, topic_prefix, ack_timeout_seconds=1, spool_dir=str(tmp_path / "spool")
    )
    await make_topics(settings.kafka, {"max.message.bytes": "20000"})
    async with running(settings) as ingress:
        await wait_until(lambda: _up(ingress), 15, "Kafka is connected")
        breakable_kafka.pause()
        assert (await ingress.post(KYB, BODY)).status == 200
        assert (await ingress.post(KYB, b"x" * 50_000)).status == 413
        assert await ingress.metric("kyb_ingress_spool_entries") == 1
        breakable_kafka.resume()


async def _up(ingress: Ingress) -> bool:
    return await ingress.metric("kyb_ingress_kafka_up") == 1


async def _do_not_ask(*_: object) -> None:
    """A broker that does not tell its limits."""


@pytest.mark.parametrize(("configured", "used"), [(PARTITIONS - 1, {0}), (PARTITIONS + 6, {0, 1}), (PARTITIONS, {0, 1})])
async def test_records_keep_to_the_configured_partitions(
    noida_broker: str, topic_prefix: str, configured: int, used: set[int]
) -> None:
    """Of a topic that has more nobody reads the others; where it has fewer all are used. Both are told."""
    settings = settings_for(noida_broker, topic_prefix)
    settings = settings.model_copy(update={"kafka": settings.kafka.model_copy(update={"partitions": configured})})
    await make_topics(settings.kafka)
    with capture_logs() as logs:
        async with running(settings) as ingress:
            for number in range(12):
                assert (await ingress.post(KYB, b'{"service_id": "%d"}' % number)).status == 200
            page = (await ingress.request("GET", "/readyz")).body.decode()
            topic = settings.topic(RAW)
            differs = await ingress.metric("kyb_ingress_partitions_differ", topic=topic)
    told = f"topic {topic} has {PARTITIONS} partitions, kafka.partitions is {configured}"
    assert {record.partition for record in await records_of(settings.kafka, topic)} == used
    assert differs == (configured != PARTITIONS)
    assert (page == "ready") == (configured == PARTITIONS)
    assert (told in {line.get("reason") for line in logs}) == (configured != PARTITIONS)


async def test_a_stop_answers_what_is_under_way(noida_broker: str, topic_prefix: str) -> None:
    """Requests that have begun when the stop comes get their answer; each 200 is in the topic; the port is closed."""
    settings = settings_for(noida_broker, topic_prefix)
    await make_topics(settings.kafka)
    async with running(settings) as ingress:
        peers = [await asyncio.open_connection(*ingress.address) for _ in range(20)]
        half = len(BODY) // 2
        for _, writer in peers:
            writer.write(f"POST {KYB} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(BODY)}\r\n\r\n".encode() + BODY[:half])
        await wait_until(lambda: _in_flight(ingress, 20 * half), 5, "all have begun")
        ingress.stop.set()
        await wait_until(lambda: _refuses_connections(ingress), 5, "no new connections")
        for _, writer in peers:
            writer.write(BODY[half:])
        answers = [await reader.read() for reader, _ in peers]
        async with asyncio.timeout(10):
            await ingress.task
        for _, writer in peers:
            writer.close()
    heads = [answer.partition(b"\r\n\r\n")[0].split(b"\r\n") for answer in answers]
    assert {head[0] for head in heads} == {b"HTTP/1.1 200 OK"}
    assert all(b"Connection: close" in head for head in heads)
    ids = {line.partition(b": ")[2].decode() for head in heads for line in head if line.startswith(b"X-Delivery-Id")}
    assert set(await deliveries_of(settings)) == ids
    assert len(ids) == 20


async def _in_flight(ingress: Ingress, expected: float) -> bool:
    return await ingress.metric("kyb_ingress_bytes_in_flight") == expected


async def _refuses_connections(ingress: Ingress) -> bool:
    try:
        _, writer = await asyncio.open_connection(*ingress.address)
    except OSError:
        return True
    writer.close()
    return False


async def test_a_stop_does_not_wait_for_ever(noida_broker: str, topic_prefix: str) -> None:
    """A body that never comes ends with `shutdown_seconds`, not with the body's own timeout."""
    settings = settings_for(noida_broker, topic_prefix, shutdown_seconds=0.3, body_timeout_seconds=60)
    await make_topics(settings.kafka)
    loop = asyncio.get_running_loop()
    async with running(settings) as ingress:
        _, writer = await asyncio.open_connection(*ingress.address)
        writer.write(f"POST {KYB} HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\n1".encode())
        await wait_until(lambda: _in_flight(ingress, 1), 5, "it has begun")
        started = loop.time()
        await ingress.end()
        assert loop.time() - started < 5
        writer.close()


async def test_a_stop_without_kafka_is_quick(topic_prefix: str) -> None:
    """An ingress that never reached Kafka stops within seconds."""
    settings = settings_for(f"127.0.0.1:{free_port()}", topic_prefix)
    loop = asyncio.get_running_loop()
    async with running(settings, wait_ready=False) as ingress:
        await ingress.post(KYB, BODY)
        started = loop.time()
        await ingress.end()
        assert loop.time() - started < 5


@pytest.mark.parametrize("scheme", SIGNERS)
async def test_each_scheme_guards_its_source(noida_broker: str, topic_prefix: str, scheme: str) -> None:
    """Over HTTP: 401 without and with a wrong signature and nothing stored; 200 with the right one, and the scheme noted."""
    sign, extra = SIGNERS[scheme]
    signature = {"scheme": scheme, "secrets": [SECRET], **extra}
    settings = settings_for(noida_broker, topic_prefix, [source(signature=signature)])
    await make_topics(settings.kafka)
    timestamp = str(int(datetime.now(UTC).timestamp()))
    body = b'{"service_id":"one"}'
    async with running(settings) as ingress:
        assert (await ingress.post(KYB, body)).status == 401
        wrong = sign(b"somebody else's secret", body, timestamp)
        assert (await ingress.post(KYB, body, wrong)).status == 401
        assert await deliveries_of(settings) == {}
        right = dict(sign(SECRET.encode(), body, timestamp, KYB))
        answer = await ingress.post(KYB, body, right)
        assert answer.status == 200
        (delivery,) = (await deliveries_of(settings)).values()
        assert delivery.signature_scheme == scheme


async def test_a_port_in_use_is_one_clear_sentence(topic_prefix: str) -> None:
    """The second ingress on a port is told which port is in use."""
    settings = settings_for(f"127.0.0.1:{free_port()}", topic_prefix)
    async with running(settings, wait_ready=False) as first:
        port = first.address[1]
        ingress = settings.ingress.model_copy(update={"port": port})
        with pytest.raises(RunError, match=f"port {port} for the ingress is in use"):
            await serve(settings.model_copy(update={"ingress": ingress}), stop=asyncio.Event())


async def test_no_source_is_a_configuration_error(topic_prefix: str) -> None:
    """An ingress that nobody could send to does not start."""
    settings = settings_for("127.0.0.1:1", topic_prefix, [])
    with pytest.raises(ConfigurationError, match="no source is configured"):
        await serve(settings, stop=asyncio.Event())

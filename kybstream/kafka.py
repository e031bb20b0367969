"""How every component reaches Kafka: one place for addresses, security, and the way errors are worded."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaConnectionError, KafkaError, TopicAlreadyExistsError, for_code
from aiokafka.protocol.fetch import FetchRequest

from kybstream.errors import RunError, UnavailableError
from kybstream.partitions import check_partitions, configured_partitioner
from kybstream.settings import KafkaSettings
from kybstream.settings.values import MAX_RECORD_BYTES

REQUEST_TIMEOUT_MS = 10_000
IDLE_FETCH_SECONDS = 0.025
"""The least time between two fetches that bring nothing."""
PARTIAL_FETCH_MS = 25
"""The most that a broker may hold a fetch that leaves out partitions of which there are records still to be processed."""


def client_options(kafka: KafkaSettings) -> dict[str, Any]:
    """Keyword arguments that every aiokafka client of ours is made with."""
    options: dict[str, Any] = {
        "bootstrap_servers": kafka.bootstrap_servers,
        "security_protocol": kafka.security_protocol,
        "client_id": "kyb-stream",
    }
    if kafka.security_protocol.startswith("SASL"):
        options |= {
            "sasl_mechanism": kafka.sasl_mechanism,
            "sasl_plain_username": kafka.sasl_username,
            "sasl_plain_password": kafka.sasl_password.reveal_text() if kafka.sasl_password else None,
        }
    if kafka.security_protocol.endswith("SSL"):
        options["ssl_context"] = ssl.create_default_context(cafile=kafka.ssl_ca_file)
    return options


def durable_producer(kafka: KafkaSettings, **overrides: Any) -> AIOKafkaProducer:
    """A producer whose acknowledgement means durable: acks=all, idempotent, no linger.

    It writes to the first `kafka.partitions` partitions of a topic only.
    """
    options = client_options(kafka) | {
        "acks": "all",
        "enable_idempotence": True,
        "linger_ms": 0,
        "request_timeout_ms": REQUEST_TIMEOUT_MS,
        "max_request_size": MAX_RECORD_BYTES,
        "partitioner": configured_partitioner(kafka.partitions),
    }
    return AIOKafkaProducer(**options | overrides)


def pace_fetches(consumer: AIOKafkaConsumer) -> AIOKafkaConsumer:
    """Mends two things about how a consumer that was not started yet fetches, and gives it back.

    A fetch of only some partitions is short. aiokafka has one fetch under way to a broker, and leaves those partitions out of
    it of which it still holds records. When all that have something are left out, nobody answers before `fetch_max_wait_ms`
    (Faust says 1.5 s) has passed, and what is processed meanwhile is not replaced: the intake idled a fifth of its time.

    A fetch that brings nothing is followed by a rest. Apache Kafka holds it for `fetch_max_wait_ms`, so nothing changes
    there; the embedded broker answers at once, and an idle consumer asked again at once: half a core each for a worker and
    a sink without work.
    """
    client = consumer._client  # noqa: SLF001 - every fetch passes it, and it is there before the fetcher is
    send = client.send

    async def paced_send(node_id: int, request: Any, **options: Any) -> Any:
        if not isinstance(request, FetchRequest):
            return await send(node_id, request, **options)
        if consumer._fetcher._records:  # noqa: SLF001 - what it holds of which partition
            request._max_wait_ms = min(request._max_wait_ms, PARTIAL_FETCH_MS)  # noqa: SLF001 - there is no other way
        asked = time.monotonic()
        response = await send(node_id, request, **options)
        if not _brought_any(response):
            await asyncio.sleep(IDLE_FETCH_SECONDS - (time.monotonic() - asked))
        return response

    client.send = paced_send
    return consumer


def _brought_any(fetched: Any) -> bool:
    # The records are the last field of a partition's part in every version of the answer.
    return any(part[-1] for _topic, partitions in fetched.topics for part in partitions)


@asynccontextmanager
async def reading(kafka: KafkaSettings, **overrides: Any) -> AsyncIterator[AIOKafkaConsumer]:
    """A started consumer without a group, stopped at the end.

    Raises:
        UnavailableError: Kafka cannot be reached.
    """
    consumer = pace_fetches(AIOKafkaConsumer(**client_options(kafka) | {"enable_auto_commit": False} | overrides))
    try:
        await consumer.start()
    except KafkaError as error:
        await consumer.stop()
        raise unreachable(kafka, error) from None
    except BaseException:  # cut off at a stop
        await consumer.stop()
        raise
    try:
        yield consumer
    finally:
        await consumer.stop()


async def ensure_topics(
    kafka: KafkaSettings, topics: Mapping[str, Mapping[str, str]], *, partitions: int | None = None
) -> list[str]:
    """Makes the topics that are missing; leaves those that exist.

    Args:
        kafka: Where, with how many replicas.
        topics: Kafka configuration by full topic name.
        partitions: Of the topics made; the setting when not given.

    Returns:
        The names of those it made, sorted.

    Raises:
        UnavailableError: Kafka cannot be reached.
        RunError: A topic exists with another number of partitions: the join would be wrong.
    """
    wanted = partitions or kafka.partitions
    async with administering(kafka) as admin:
        existing = set(await admin.list_topics())
        missing = sorted(set(topics) - existing)
        await _check_partitions(admin, set(topics) & existing, wanted)
        return [name for name in missing if await create_topic(admin, kafka, name, topics[name], partitions=wanted)]


async def create_topic(
    admin: AIOKafkaAdminClient, kafka: KafkaSettings, name: str, config: Mapping[str, str], *, partitions: int | None = None
) -> bool:
    """Makes a topic; False when it is there, because another process was quicker.

    Raises:
        RunError: Kafka refuses.
        KafkaError: It does not answer.
    """
    topic = NewTopic(name, partitions or kafka.partitions, kafka.replication_factor, topic_configs=dict(config))
    for _name, code, message in (await admin.create_topics([topic])).topic_errors:
        if code == TopicAlreadyExistsError.errno:
            return False
        if code:
            error = for_code(code).__name__
            raise RunError(f"Kafka refuses to make topic {name} ({error}{f': {message}' if message else ''})")
    return True


async def require_topics(kafka: KafkaSettings, names: Iterable[str]) -> None:
    """Makes sure that the topics exist.

    Raises:
        UnavailableError: Kafka cannot be reached.
        RunError: One is missing, or has another number of partitions than the settings.
    """
    names = tuple(names)
    async with administering(kafka) as admin:
        existing = set(await admin.list_topics())
        missing = [name for name in names if name not in existing]
        if missing:
            raise RunError(f"topic {missing[0]} does not exist", hint="`kyb-stream migrate` makes the topics.")
        await _check_partitions(admin, names, kafka.partitions)


async def partitions_of(kafka: KafkaSettings, topic: str) -> list[int]:
    """The partitions of a topic, sorted.

    A consumer's own metadata knows only topics it has asked for before.

    Raises:
        UnavailableError: Kafka cannot be reached.
        RunError: There is no such topic.
    """
    async with administering(kafka) as admin:
        # Asked to describe a topic that is missing, a broker may make it.
        if topic not in await admin.list_topics():
            raise RunError(f"topic {topic} does not exist", hint="`kyb-stream migrate` makes the topics.")
        described = (await admin.describe_topics([topic]))[0]
        return sorted(int(partition["partition"]) for partition in described["partitions"])


@asynccontextmanager
async def administering(kafka: KafkaSettings) -> AsyncIterator[AIOKafkaAdminClient]:
    """A started admin client, closed at the end.

    Raises:
        UnavailableError: Kafka cannot be reached, also within the block.
        RunError: It refuses, also within the block.
    """
    admin = AIOKafkaAdminClient(**client_options(kafka), request_timeout_ms=REQUEST_TIMEOUT_MS)
    try:
        await admin.start()
        yield admin
    except (KafkaConnectionError, OSError) as error:
        raise unreachable(kafka, error) from None
    except KafkaError as error:
        raise RunError(f"Kafka at {kafka.bootstrap_servers} refused: {type(error).__name__}") from None
    finally:
        await admin.close()


async def _check_partitions(admin: AIOKafkaAdminClient, names: Iterable[str], wanted: int) -> None:
    wanted_names = sorted(names)
    # Asked about no topic, Kafka describes them all.
    for described in await admin.describe_topics(wanted_names) if wanted_names else ():
        check_partitions(str(described["topic"]), found=len(described["partitions"]), configured=wanted)


def unreachable(kafka: KafkaSettings, error: BaseException) -> UnavailableError:
    """The error of a broker that does not answer; aiokafka's own text, which names hosts only, is not passed on."""
    return UnavailableError(
        f"Kafka at {kafka.bootstrap_servers} cannot be reached ({type(error).__name__})",
        hint="Check kafka.bootstrap_servers, and that the broker runs.",
    )

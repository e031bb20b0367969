"""A running ingress for tests, and a look into the topics it writes to."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from aiokafka import ConsumerRecord
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from ingress.server import serve
from kybstream.kafka import client_options
from kybstream.settings import KafkaSettings, Settings
from schemas.codec import decode
from schemas.records import Record, WebhookDelivery
from schemas.topics import RAW, REJECTIONS
from tests.support.body_keys import ENCRYPTION, in_clear
from tests.support.topics import whole_topic
from tests.support.waiting import wait_until

KYB_TOKEN = "kyb-token-of-thirty-two-characters"
KYC_TOKEN = "kyc-token-of-thirty-two-characters"
SECRET = "a secret of the tests, long enough"

PARTITIONS = 2

Json = dict[str, Any]


def source(name: str = "kyb", **changes: Any) -> Json:
    """A KYB source without a signature, changed as wanted."""
    return {"name": name, "kind": "kyb-service", "tenant": "acme", "token": KYB_TOKEN, **changes}


def kyc_source(**changes: Any) -> Json:
    """A KYC source without a signature, changed as wanted."""
    return source("kyc", **{"kind": "kyc-registration", "token": KYC_TOKEN, **changes})


def settings_for(
    bootstrap: str, prefix: str, sources: Sequence[Json] | None = None, *, tenants: Sequence[str] = ("acme",), **ingress: Any
) -> Settings:
    """Settings of an ingress on a free port, with short timeouts."""
    return Settings.model_validate(
        {
            "kafka": {"bootstrap_servers": bootstrap, "topic_prefix": prefix, "partitions": PARTITIONS},
            "ingress": {"port": 0, "ack_timeout_seconds": 5, "body_timeout_seconds": 5, "shutdown_seconds": 3} | ingress,
            "encryption": ENCRYPTION,
            "tenants": [{"name": name, "pseudonym_key": "k" * 32, "case_token_keys": ["c" * 32]} for name in tenants],
            "sources": list(sources) if sources is not None else [source(), kyc_source()],
        }
    )


async def make_topics(kafka: KafkaSettings, configuration: Mapping[str, str] | None = None) -> None:
    """Makes the two topics that the ingress writes to, with PARTITIONS partitions each."""
    names = (kafka.topic_prefix + RAW, kafka.topic_prefix + REJECTIONS)
    topics = [NewTopic(name, PARTITIONS, 1, topic_configs=dict(configuration or {})) for name in names]
    admin = AIOKafkaAdminClient(**client_options(kafka))
    await admin.start()
    try:
        # A broker that an earlier test has paused may not be its cluster's member again yet.
        await wait_until(lambda: _has_controller(admin), 20, "the cluster has a controller")
        await admin.create_topics(topics)
    finally:
        await admin.close()


async def _has_controller(admin: AIOKafkaAdminClient) -> bool:
    await admin._client.force_metadata_update()
    return admin._client.cluster.controller is not None


@dataclass
class Ingress:
    """One that runs."""

    url: str
    settings: Settings
    client: aiohttp.ClientSession
    stop: asyncio.Event
    task: asyncio.Task[None]

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens."""
        host, _, port = self.url.removeprefix("http://").partition(":")
        return host, int(port)

    async def post(self, path: str, body: bytes = b"{}", headers: Mapping[str, str] | None = None) -> Answer:
        """One request, answered."""
        return await self.request("POST", path, body, headers)

    async def request(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """One request, answered."""
        async with self.client.request(method, self.url + path, data=body, headers=headers) as response:
            return Answer(response.status, await response.read(), dict(response.headers))

    async def raw(self, request: bytes) -> bytes:
        """What comes back for these bytes until the server closes."""
        reader, writer = await asyncio.open_connection(*self.address)
        try:
            writer.write(request)
            return await reader.read()
        finally:
            writer.close()

    async def wait_ready(self, deadline_seconds: float = 15) -> None:
        """Returns when it takes webhooks."""

        async def is_ready() -> bool:
            return (await self.request("GET", "/readyz")).status == 200

        await wait_until(is_ready, deadline_seconds, "the ingress is ready")

    async def metric(self, name: str, **labels: str) -> float:
        """The value of one sample of /metrics; 0 when it is not there."""
        page = (await self.request("GET", "/metrics")).body.decode()
        wanted = {f'{key}="{value}"' for key, value in labels.items()}
        for line in page.splitlines():
            head, _, value = line.rpartition(" ")
            found, _, rest = head.partition("{")
            if found == name and wanted == set(filter(None, rest.removesuffix("}").split(","))):
                return float(value)
        return 0.0

    async def end(self) -> None:
        """Stops it and waits until it has."""
        self.stop.set()
        async with asyncio.timeout(30):
            await self.task


@dataclass(frozen=True)
class Answer:
    """A response."""

    status: int
    body: bytes
    headers: dict[str, str] = field(repr=False)


@asynccontextmanager
async def running(settings: Settings, *, wait_ready: bool = True) -> AsyncIterator[Ingress]:
    """An ingress that is stopped at the end."""
    stop = asyncio.Event()
    url: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(serve(settings, stop=stop, ready=url.set_result))
    first: set[asyncio.Future[Any]] = {task, url}
    await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
    if task.done():
        task.result()
    async with aiohttp.ClientSession(auto_decompress=False) as client:
        ingress = Ingress(await url, settings, client, stop, task)
        try:
            if wait_ready:
                await ingress.wait_ready()
            yield ingress
        finally:
            await ingress.end()


async def records_of(kafka: KafkaSettings, topic: str) -> list[ConsumerRecord]:
    """Everything that is in the topic now."""
    return await whole_topic(kafka, topic, PARTITIONS)


async def deliveries_of(settings: Settings) -> dict[str, WebhookDelivery]:
    """Every delivery in the raw topic by its id, with its body decrypted."""
    records = await records_of(settings.kafka, settings.topic(RAW))
    deliveries = [in_clear(decode(record.value, WebhookDelivery), settings) for record in records]
    return {delivery.delivery_id: delivery for delivery in deliveries}


async def decoded(settings: Settings, suffix: str, kind: type[Record]) -> list[Record]:
    """Every record of a topic."""
    return [decode(record.value, kind) for record in await records_of(settings.kafka, settings.topic(suffix))]


def zipped(body: bytes) -> bytes:
    """The body as gzip."""
    return gzip.compress(body)

"""The ingress as in production: signed webhooks, encrypted bodies, a spool, a process of its own that is killed at will."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

from deploy.embedded.configuration import KYB_SOURCE, new_configuration, write_configuration
from deploy.embedded.ports import free_port
from kybstream.kafka import ensure_topics
from kybstream.operations.simulation import source_url
from kybstream.settings import Settings, load_settings
from schemas.topics import ALL_TOPICS
from streams.worker import changelog_topics
from tests.chaos.production import Component
from tests.support.body_keys import ENCRYPTION
from tests.support.load_process import RunningLoad, provider_load
from tests.support.provider_load import SIGNATURE_HEADER
from tests.support.waiting import wait_until

SECRET = "a secret of the tests, long enough"
DRAINED_SECONDS = 60.0
RATE = 2_500.0
"""Less than it takes: so that two cores have room for a broker that starts, and a longer start does not mean far more to do."""

_SAMPLE = re.compile(r"^(\w+)(?:\{[^}]*\})? ([0-9.e+-]+)$", re.MULTILINE)
_DRAINED = "kyb_ingress_spool_drained_total"
_COUNTED = (
    "kyb_ingress_spooled_total",
    _DRAINED,
    "kyb_ingress_spool_refused_total",
    "kyb_ingress_producers_replaced_total",
    "kyb_ingress_unexpected_errors_total",
)
_ENTRIES, _SET_ASIDE, _UP = "kyb_ingress_spool_entries", "kyb_ingress_spool_set_aside", "kyb_ingress_kafka_up"


@dataclass
class Door:
    """An ingress that is killed and started again.

    Attributes:
        settings: Its configuration.
        config_path: Where that is.
        ingress: The process.
        counted: What its metrics counted over all its lives; each life's last moments before a SIGKILL are missing.
    """

    settings: Settings
    config_path: Path
    ingress: Component
    counted: dict[str, float] = field(default_factory=lambda: dict.fromkeys(_COUNTED, 0.0))

    def load(self, run: str) -> AbstractAsyncContextManager[RunningLoad]:
        """Signed webhooks, RATE a second or, on a slow machine, as many as it takes."""
        path = source_url(self.settings, KYB_SOURCE).removeprefix(self.settings.ingress.base_url)
        return provider_load(port=self.settings.ingress.port, path=path, secret=SECRET, run=run, rate=RATE)

    async def start(self) -> None:
        """Starts it, and waits until it listens."""
        self.ingress.start()
        await self.ingress.ready()

    async def kill(self) -> None:
        """SIGKILL."""
        await self.count()
        await self.ingress.kill()

    async def metrics(self) -> dict[str, float]:
        """Its metrics by name, summed over their labels."""
        async with aiohttp.ClientSession() as client, client.get(f"{self.settings.ingress.base_url}/metrics") as answer:
            page = await answer.text()
        found: dict[str, float] = {}
        for name, value in _SAMPLE.findall(page):
            found[name] = found.get(name, 0.0) + float(value)
        return found

    async def draining(self) -> None:
        """Waits until it brings to Kafka what is in the spool."""

        async def begun() -> bool:
            return (await self.metrics()).get(_DRAINED, 0.0) > 0

        await wait_until(begun, DRAINED_SECONDS, "the spool is being drained")

    async def drained(self) -> None:
        """Waits until everything in the spool has been brought to Kafka, and nothing was set aside."""

        async def empty() -> bool:
            now = await self.metrics()
            assert now[_SET_ASIDE] == 0
            return now[_ENTRIES] == 0 and now[_UP] == 1

        await wait_until(empty, DRAINED_SECONDS, "the spool is drained")

    async def stop(self) -> None:
        """Ends it as an operator does."""
        await self.count()
        await self.ingress.running.close()

    async def count(self) -> None:
        """Adds what its metrics say to `counted`, before it ends."""
        now = await self.metrics()
        for name in self.counted:
            self.counted[name] += now.get(name, 0.0)


MakeDoor = Callable[..., AbstractAsyncContextManager[Door]]


@asynccontextmanager
async def door(
    folder: Path, *, bootstrap_servers: str, topic_prefix: str, spool_dir: Path | None, **ingress: float
) -> AsyncIterator[Door]:
    """An ingress that runs on topics of its own.

    Args:
        folder: For configuration and logs.
        bootstrap_servers: Of a Kafka that runs now.
        topic_prefix: Of the topics, which are made.
        spool_dir: None for an ingress without a spool.
        ingress: More of its settings.
    """
    values = new_configuration(bootstrap_servers=bootstrap_servers, clickhouse_port=1, ingress_port=0)
    (kyb, *_), port = _list(values["sources"]), free_port()
    values["kafka"] = {"bootstrap_servers": bootstrap_servers, "topic_prefix": topic_prefix}
    values["ingress"] = {"port": port, **ingress} | ({"spool_dir": str(spool_dir)} if spool_dir else {})
    signature = {"signature.scheme": "hmac", "signature.header": SIGNATURE_HEADER, "signature.secrets": [SECRET]}
    values["sources"] = [kyb | signature]
    values["encryption"] = ENCRYPTION | {"required": True}
    values["worker"] = {"group": f"{topic_prefix}worker", "data_dir": str(folder / "worker-data")}
    config_path = folder / "kyb-stream.toml"
    write_configuration(config_path, values, comment="Made by the tests.")
    settings = load_settings(config_path, {})
    topics = {settings.topic(topic.suffix): topic.config(settings.kafka) for topic in ALL_TOPICS}
    await ensure_topics(settings.kafka, topics | changelog_topics(settings))
    made = Door(settings, config_path, Component("ingress", config_path, folder))
    try:
        await made.start()
        await wait_until(lambda: _kafka_up(made), 30, "the ingress has reached Kafka")
        yield made
    finally:
        if made.ingress.process is not None:
            await made.ingress.process.close()


async def _kafka_up(made: Door) -> bool:
    return (await made.metrics())[_UP] == 1


def _list(sources: object) -> list[dict[str, object]]:
    assert isinstance(sources, list)
    return sources

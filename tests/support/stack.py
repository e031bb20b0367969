"""Fixture: the whole stack as `kyb-stream dev` runs it, started once a session, when the first test asks for it.

Tests share it, so each takes cases, subjects and service names of its own.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio

from deploy.embedded.configuration import write_configuration
from deploy.embedded.ports import free_port
from kybstream.operations.topic_reader import ReadRecord, read_topic
from kybstream.settings import Settings, load_settings
from sinks.query import Value, query
from tests.support.body_keys import ENCRYPTION
from tests.support.commands import Background, Finished, kyb_stream
from tests.support.waiting import wait_until

COMPONENTS = ("broker", "clickhouse", "ingress", "worker", "sink")
CLICKHOUSE_PASSWORD = "password-of-the-tests"
GREETING = "kyb-stream runs. Ctrl-C stops it"
_LANDING_SECONDS = 10.0


@dataclass(frozen=True)
class Answered:
    """What the ingress said."""

    status: int
    text: str
    delivery_id: str | None


async def post(url: str, body: bytes) -> Answered:
    """Posts JSON."""
    headers = {"Content-Type": "application/json"}
    async with aiohttp.ClientSession() as session, session.post(url, data=body, headers=headers) as answer:
        return Answered(answer.status, await answer.text(), answer.headers.get("X-Delivery-Id"))


@dataclass(frozen=True)
class RunningStack:
    """A stack that runs.

    Attributes:
        config_path: Its configuration: two tenants, of which `hasty` gives its cases two seconds.
        only_acme_path: The same without the second tenant.
        data_dir: Holds its data and, in `logs`, what the five processes say.
        process: `kyb-stream dev`.
    """

    config_path: Path
    only_acme_path: Path
    data_dir: Path
    process: Background

    @cached_property
    def settings(self) -> Settings:
        """The configuration."""
        return load_settings(self.config_path, {})

    def url(self, source: str, case_token: str | None = None) -> str:
        """The webhook URL of a source."""
        token = next(each.token for each in self.settings.sources if each.name == source)
        return f"{self.settings.ingress.base_url}/webhooks/{source}/{token}" + (f"/{case_token}" if case_token else "")

    async def post(self, source: str, body: bytes, *, case_token: str | None = None) -> Answered:
        """Sends a webhook as a provider does."""
        return await post(self.url(source, case_token), body)

    async def ask(self, sql: str) -> list[dict[str, Value]]:
        """The rows of a query, each counted once."""
        answer = await query(self.settings.clickhouse, sql)
        return [dict(zip((column.name for column in answer.columns), row, strict=True)) for row in answer.rows]

    async def rows(self, table: str, **equal: str | list[str]) -> list[dict[str, Value]]:
        """The rows of a table or view in which each of these columns has this value, or one of these values."""
        conditions = [f"{column} IN {value if isinstance(value, list) else [value]}" for column, value in equal.items()]
        return await self.ask(f"SELECT * FROM {table} WHERE {' AND '.join(conditions) or 'true'}")  # noqa: S608 (our own)

    async def landed(self, table: str, count: int = 1, **equal: str | list[str]) -> list[dict[str, Value]]:
        """As `rows`, as soon as there are so many: each table lands by itself, one before the other."""

        async def there() -> list[dict[str, Value]]:
            found = await self.rows(table, **equal)
            return found if len(found) >= count else []

        return await wait_until(there, _LANDING_SECONDS, f"{count} rows of {table} with {equal}")

    async def topic(self, suffix: str) -> list[ReadRecord]:
        """All records of one of our topics."""
        return [record async for record in read_topic(self.settings.kafka, self.settings.topic(suffix))]

    async def kyb_stream(self, *arguments: str, seconds: float = 60.0) -> Finished:
        """Runs a command with the stack's configuration."""
        return await kyb_stream(*arguments, env={"KYB_STREAM_CONFIG": str(self.config_path)}, seconds=seconds)

    def logs(self) -> dict[str, str]:
        """What each of the five processes has logged."""
        return {name: (self.data_dir / "logs" / f"{name}.log").read_text() for name in COMPONENTS}


@dataclass(frozen=True)
class Ports:
    """Three free ports."""

    kafka: int
    clickhouse: int
    ingress: int

    @classmethod
    def free(cls) -> Ports:
        """Nobody listens on them now."""
        return cls(free_port(), free_port(), free_port())

    @property
    def overrides(self) -> dict[str, str]:
        """The environment that puts a configuration on these ports."""
        return {
            "KYB_STREAM_KAFKA__BOOTSTRAP_SERVERS": f"127.0.0.1:{self.kafka}",
            "KYB_STREAM_CLICKHOUSE__URL": f"http://127.0.0.1:{self.clickhouse}",
            "KYB_STREAM_CLICKHOUSE__PASSWORD": CLICKHOUSE_PASSWORD,
            "KYB_STREAM_INGRESS__PORT": str(self.ingress),
        }


def write_stack_configuration(path: Path, ports: Ports, *, hasty: bool = False) -> Path:
    """A configuration with keys that are always the same, so that pseudonyms can be written out.

    Args:
        path: Where it is written.
        ports: Where the stack is to listen.
        hasty: Adds a tenant whose cases expire after two seconds.
    """
    sources = [("kyb", "kyb-service", "acme"), ("kyc", "kyc-registration", "acme"), ("hasty-kyb", "kyb-service", "hasty")]
    values: dict[str, object] = {
        "kafka": {"bootstrap_servers": f"127.0.0.1:{ports.kafka}"},
        "clickhouse": {"url": f"http://127.0.0.1:{ports.clickhouse}", "password": CLICKHOUSE_PASSWORD},
        "ingress": {"port": ports.ingress},
        "worker": {"timer_seconds": 0.5},
        "encryption": ENCRYPTION,
        "tenants": [_tenant("acme"), *([_tenant("hasty") | {"case_deadline_days": 2 / 86_400}] if hasty else [])],
        "sources": [
            {"name": name, "kind": kind, "tenant": tenant, "token": f"token-of-the-source-{name}"}
            for name, kind, tenant in sources
            if hasty or tenant == "acme"
        ],
    }
    write_configuration(path, values, comment="Made by the tests.")
    return path


def _tenant(name: str) -> dict[str, object]:
    return {"name": name, "pseudonym_key": f"pseudonym-key-of-{name}", "case_token_keys": [f"case-token-key-of-{name}"]}


@pytest.fixture
def case_id() -> str:
    """The service id of a case that no other test uses; no creation time is embedded in it."""
    return f"case-{uuid.uuid4().hex[:16]}"


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningStack]:
    """The running stack. Mark the test `stack`."""
    folder = tmp_path_factory.mktemp("stack")
    ports = Ports.free()
    config_path = write_stack_configuration(folder / "kyb-stream.toml", ports, hasty=True)
    only_acme_path = write_stack_configuration(folder / "only-acme.toml", ports)
    arguments = ("--data-dir", str(folder / "data"), "--config", str(config_path))
    process = Background("dev", *arguments, log=folder / "dev.log")
    try:
        await process.printed(GREETING)
        yield RunningStack(config_path, only_acme_path, folder / "data", process)
    finally:
        await process.close()

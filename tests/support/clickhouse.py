"""Fixture: the embedded ClickHouse-compatible server, started once a session, when the first test asks for it."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from deploy.embedded.clickhouse.child import clickhouse_child, clickhouse_url
from deploy.embedded.ports import free_port
from deploy.embedded.supervisor import Supervisor


@pytest.fixture
def database_name() -> str:
    """The name of a database that no other test uses; the test makes it."""
    return f"test_{uuid.uuid4().hex[:12]}"


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def clickhouse_server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """The URL of a running server, a process of its own. Tests share it: each makes its own database, `database_name`."""
    folder = tmp_path_factory.mktemp("clickhouse")
    port = free_port()
    async with Supervisor() as supervisor:
        await supervisor.start(clickhouse_child(folder / "data", port, log_path=folder / "server.log"))
        yield clickhouse_url(port)

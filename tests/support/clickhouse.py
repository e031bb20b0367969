"""Fixture: the embedded ClickHouse-compatible server, started once a session, when the first test asks for it."""

from __future__ import annotations

import sys
import uuid
from collections.abc import AsyncIterator
from functools import partial

import pytest
import pytest_asyncio

from deploy.embedded.ports import free_port
from deploy.embedded.readiness import http_ok
from deploy.embedded.supervisor import Child, Supervisor

_HOST = "127.0.0.1"


@pytest.fixture
def database_name() -> str:
    """The name of a database that no other test uses; the test makes it."""
    return f"test_{uuid.uuid4().hex[:12]}"


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def clickhouse_server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """The URL of a running server, a process of its own. Tests share it: each makes its own database, `database_name`."""
    folder = tmp_path_factory.mktemp("clickhouse")
    port = free_port()
    module = "deploy.embedded.clickhouse"
    command = [sys.executable, "-m", module, "--data-dir", str(folder / "data"), "--port", str(port)]
    url = f"http://{_HOST}:{port}"
    server = Child(name="clickhouse", argv=command, ready=partial(http_ok, f"{url}/ping"), log_path=folder / "server.log")
    async with Supervisor() as supervisor:
        await supervisor.start(server)
        yield url

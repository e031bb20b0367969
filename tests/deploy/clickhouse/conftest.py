"""One server for each module of tests; each test makes its own database or tables."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio
from clickhouse_connect.driver.client import Client

from tests.deploy.clickhouse.outside import SECRET, Outside
from tests.deploy.clickhouse.serving import Server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A running server on a new folder."""
    running = Server(tmp_path_factory.mktemp("clickhouse") / "data")
    running.start()
    yield running
    assert running.stop() == 0


@pytest.fixture
def database(server: Server, database_name: str) -> str:
    """A new, empty database."""
    with server.client() as client:
        client.command(f"CREATE DATABASE {database_name}")
    return database_name


@pytest.fixture
def client(server: Server, database: str) -> Iterator[Client]:
    """A clickhouse-connect client in the test's database."""
    with server.client(database=database) as connected:
        yield connected


@pytest_asyncio.fixture
async def http(server: Server) -> AsyncIterator[aiohttp.ClientSession]:
    """A bare HTTP client of the server, as curl would be one: nothing is added to a request, answers are not unpacked."""
    async with aiohttp.ClientSession(
        server.url, auto_decompress=False, skip_auto_headers={"Accept-Encoding", "Content-Type"}
    ) as session:
        yield session


@pytest.fixture
def outside(tmp_path: Path) -> Outside:
    """A file with a secret and an empty folder."""
    (tmp_path / "secret.txt").write_text(f"{SECRET}\n")
    (tmp_path / "out").mkdir()
    return Outside(tmp_path / "secret.txt", tmp_path / "out" / "written")

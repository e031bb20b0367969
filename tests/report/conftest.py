from __future__ import annotations

import pytest_asyncio

from kybstream.settings import ClickHouseSettings
from sinks.migrate import migrate


@pytest_asyncio.fixture
async def clickhouse(clickhouse_server: str, database_name: str) -> ClickHouseSettings:
    """A migrated database of the test's own."""
    settings = ClickHouseSettings(url=clickhouse_server, database=database_name)
    await migrate(settings)
    return settings

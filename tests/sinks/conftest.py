from __future__ import annotations

import pytest_asyncio

from kybstream.settings import ClickHouseSettings, Settings
from sinks.migrate import migrate
from tests.sinks.making import settings_for
from tests.sinks.running import made


@pytest_asyncio.fixture
async def clickhouse(clickhouse_server: str, database_name: str) -> ClickHouseSettings:
    """A migrated database of the test's own."""
    settings = ClickHouseSettings(url=clickhouse_server, database=database_name)
    await migrate(settings)
    return settings


@pytest_asyncio.fixture
async def settings(noida_broker: str, topic_prefix: str, clickhouse_server: str, database_name: str) -> Settings:
    """A sink's settings, with topics and tables of the test's own."""
    return await made(settings_for(clickhouse_server, database_name, bootstrap=noida_broker, prefix=topic_prefix))

"""Outages of ClickHouse, told in a few lines: see `kybstream.outages`."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

from kybstream.outages import telling_outages
from kybstream.settings import ClickHouseSettings
from sinks.clickhouse import connected, in_our_words


def telling_clickhouse_outages(
    clickhouse: ClickHouseSettings, inserts_delayed: Callable[[], bool]
) -> AbstractAsyncContextManager[None]:
    """Tells outages of ClickHouse while the block runs: they end when it answers and no insert waits to be sent again.

    Args:
        clickhouse: Where.
        inserts_delayed: Whether one does: a server that answers may still take no rows.
    """

    async def answers() -> bool:
        if inserts_delayed():
            return False
        async with connected(clickhouse) as client:
            with in_our_words(clickhouse):
                await client.query("SELECT 1")
        return True

    return telling_outages("clickhouse", answers, begins=("clickhouse_connect",), belongs=("aiohttp", "asyncio", "urllib3"))

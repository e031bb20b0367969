"""A sink and its health pages."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp

from kybstream.settings import Settings
from sinks.run import run_sink
from tests.sinks.running import DEADLINE, with_sink


@asynccontextmanager
async def watched(settings: Settings, **sink: str | float) -> AsyncIterator[str]:
    """A sink while the block runs; gives the URL of its health pages."""
    stop, port = asyncio.Event(), asyncio.get_running_loop().create_future()
    task = asyncio.create_task(run_sink(with_sink(settings, health_port=0, **sink), stop=stop, listening=port.set_result))
    try:
        yield f"http://127.0.0.1:{await asyncio.wait_for(port, DEADLINE)}"
    finally:
        stop.set()
        await asyncio.wait_for(task, DEADLINE)


async def page(url: str) -> tuple[int, str]:
    """Status and text of an answer."""
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        return answer.status, await answer.text()


async def answers(url: str, status: int) -> bool:
    """Whether the answer has this status."""
    return (await page(url))[0] == status


async def metrics_of(url: str, name: str) -> dict[str, float]:
    """The samples of a metric by their labels' values, in the order of the labels' names."""
    found = re.findall(rf"^{name}(?:\{{(.*)\}})? (\S+)$", (await page(f"{url}/metrics"))[1], re.MULTILINE)
    return {",".join(re.findall(r'="([^"]*)"', labels)): float(value) for labels, value in found}

"""A batch whose records are costly: the event loop turns, health pages answer, and what is done is committed meanwhile."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from streams.processing import IntakeProcess
from tests.streams.running import deliveries, lab, page, running_worker
from tests.support.waiting import wait_until

RECORDS = 600
COST_SECONDS = 0.01
LONGEST_SECONDS = 1.5
"""That the loop may be busy; in one call it was so for the whole batch."""


async def test_health_pages_answer_and_commits_go_on_while_a_costly_batch_is_processed(
    noida_broker: str, topic_prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Six seconds of work wait when the worker starts."""
    one = IntakeProcess._one

    begun = asyncio.Event()

    def costly(self: IntakeProcess, *arguments: Any) -> Any:
        begun.set()
        until = time.perf_counter() + COST_SECONDS
        while time.perf_counter() < until:
            pass
        return one(self, *arguments)

    monkeypatch.setattr(IntakeProcess, "_one", costly)
    longest = 0.0

    async def turn() -> None:
        nonlocal longest
        while True:
            began = time.perf_counter()
            await asyncio.sleep(0.001)
            if begun.is_set():
                longest = max(longest, time.perf_counter() - began)

    async with lab(noida_broker, topic_prefix, tmp_path) as given:
        await given.send(deliveries(RECORDS))
        turning = asyncio.create_task(turn())
        try:
            async with running_worker(given.settings):
                status, _ = await page(f"{given.url}/healthz")
                assert status == 200

                async def part() -> bool:
                    return 0 < await given.committed() < RECORDS

                await wait_until(part, 20, "a part is committed")
                await given.all_committed(RECORDS)
        finally:
            turning.cancel()
    assert longest < LONGEST_SECONDS

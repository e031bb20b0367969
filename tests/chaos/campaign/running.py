"""One campaign from begin to end."""

from __future__ import annotations

import asyncio
import random
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.chaos.campaign.faults import all_faults, drawn
from tests.chaos.campaign.load import send
from tests.chaos.campaign.probes import recovery_seconds
from tests.chaos.campaign.site import site
from tests.chaos.campaign.verdict import Verdict, judge

FAULT_SECONDS = 14.0
"""What a fault and its recovery take here, about: as long is sent."""
CALM_SECONDS = 2.0


@dataclass(frozen=True)
class Recovery:
    """What came of one fault: seconds from its beginning until probes sent after that were queryable."""

    kind: str
    victim: str
    seconds: float


@dataclass(frozen=True)
class Campaign:
    """A campaign that has ended."""

    seed: int
    rate: float
    seconds: float
    recoveries: list[Recovery]
    hostile: int
    verdict: Verdict


async def campaign(folder: Path, *, seed: int, faults: int, rate: float, say: Callable[[str], object]) -> Campaign:
    """Runs so many faults, drawn from the seed, under a load of `rate` deliveries a second, and judges the outcome."""
    dice = random.Random(seed)  # noqa: S311
    recoveries = []
    async with site(folder, name=f"chaos_{uuid.uuid4().hex[:8]}") as running:
        say(f"seed {seed}: three brokers, ClickHouse, two each of ingress, worker and sink run")
        began = time.monotonic()
        load = asyncio.create_task(send(running.settings, seconds=faults * FAULT_SECONDS, rate=rate, seed=seed))
        try:
            for fault in drawn(all_faults(small_disk=running.disk is not None), faults, dice):
                await asyncio.sleep(CALM_SECONDS + dice.random())
                # Probes first: their clock starts as the fault does.
                probing = asyncio.create_task(recovery_seconds(running.settings))
                await fault.happen(running)
                recoveries.append(Recovery(fault.kind, fault.victim, await probing))
                say(f"{fault.kind} ({fault.victim}): {recoveries[-1].seconds:.1f} s until queryable")
                for name, component in running.components.items():
                    ended = component.running.exit_code
                    assert ended is None, f"{name} ended with {ended}: {component.running.output[-2000:]}"
            sent = await load
        finally:
            load.cancel()
        say(f"{len(sent.attempts)} requests sent; judging")
        verdict = await judge(running.settings, sent)
        return Campaign(seed, rate, time.monotonic() - began, recoveries, len(sent.hostile) + sent.refused, verdict)

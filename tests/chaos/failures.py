"""One run of the ingress under load while things break: how large, at which moments, and what it came to."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Awaitable, Callable

from tests.chaos.accounting import Account, account
from tests.chaos.door import Door
from tests.support.load_process import RunningLoad

LONG = os.environ.get("KYB_STREAM_CHAOS") == "long"
SEED = int(os.environ.get("KYB_STREAM_CHAOS_SEED") or (random.SystemRandom().randrange(1_000_000) if LONG else 2))
DELIVERIES, ROUNDS = (100_000, 5) if LONG else (12_000, 1)
"""How many must get a 200, and how often the failure of a test comes."""
TIMEOUT_SECONDS = 1_200 if LONG else 240
RUN = "load"


async def account_of(opened: Door, breaking: Callable[[RunningLoad], Awaitable[None]], deliveries: int = DELIVERIES) -> Account:
    """Sends while things break, until enough is acknowledged; then drains, ends the ingress and checks every claim.

    Args:
        opened: The ingress.
        breaking: Breaks things, and leaves them running.
        deliveries: How many are acknowledged at least.
    """
    began = time.monotonic()
    async with opened.load(RUN) as load:
        await breaking(load)
        await load.reaches(deliveries)
        attempts = await load.end()
    loaded = time.monotonic() - began
    await opened.drained()
    drained = time.monotonic() - began - loaded
    await opened.stop()
    found = await account(opened.settings, RUN, attempts)
    print(  # noqa: T201
        f"{found}; {loaded:.1f} s of load, {drained:.1f} s until drained, {time.monotonic() - began:.1f} s in all; "
        f"{opened.ingress.starts - 1} kills of the ingress; "
        + ", ".join(f"{name.removeprefix('kyb_ingress_')} {count:.0f}" for name, count in opened.counted.items())
    )
    assert len(found.claimed) >= deliveries
    assert opened.counted["kyb_ingress_unexpected_errors_total"] == 0
    return found

"""The faults: each breaks one thing for a while, and leaves it whole. Which come when follows from the seed."""

from __future__ import annotations

import asyncio
import errno
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.chaos.campaign.site import COMPONENTS, EACH, Site
from tests.support.cluster import NODES
from tests.support.waiting import wait_until

DOWN_SECONDS = 1.0
"""How long what was killed stays away: what a supervisor takes."""
PAUSE_SECONDS = 8.0
SLOW_SECONDS, SLOW_DELAY_SECONDS = 8.0, 0.2
CUT_SECONDS = 5.0
_FULL_SECONDS = 20.0
_BLOCK = b"\0" * (1 << 20)


@dataclass(frozen=True)
class Fault:
    """One way to break something.

    Attributes:
        kind: What is told of it, as in "SIGKILL of a worker".
        victim: Which one, as in `worker-1`.
        happen: Breaks it, and returns when it is whole again.
    """

    kind: str
    victim: str
    happen: Callable[[Site], Awaitable[None]]


def all_faults(*, small_disk: bool) -> list[Fault]:
    """Every fault at every victim."""
    faults = []
    for component in COMPONENTS:
        for number in range(EACH):
            name = f"{component}-{number}"
            faults.append(Fault(f"SIGKILL of {_article(component)}", name, partial(_kill, name=name)))
            faults.append(Fault(f"SIGSTOP of {_article(component)}", name, partial(_pause, name=name)))
        faults.append(Fault(f"rolling restart of both {component} processes", component, partial(_roll, component=component)))
    for number in range(NODES):
        name = f"broker-{number}"
        faults.append(Fault("SIGKILL of a broker", name, partial(_kill_broker, number=number)))
        faults.append(Fault("SIGSTOP of a broker", name, partial(_pause_broker, number=number)))
        faults.append(Fault("slow connections to a broker", name, partial(_slow, number=number)))
        faults.append(Fault("cut connections to a broker", name, partial(_cut, number=number)))
        faults.append(Fault("leaders move from a broker and back (restart)", name, partial(_move_leaders, number=number)))
    faults.append(Fault("rolling restart of the brokers", "brokers", _roll_brokers))
    faults.append(Fault("SIGKILL of ClickHouse", "clickhouse", _kill_clickhouse))
    faults.append(Fault("SIGSTOP of ClickHouse", "clickhouse", _pause_clickhouse))
    if small_disk:
        faults.append(Fault("full disk of a broker", f"broker-{NODES - 1}", _fill_disk))
    return faults


def drawn(faults: list[Fault], count: int, dice: random.Random) -> list[Fault]:
    """So many faults in random order: every kind comes once before any comes again."""
    kinds: dict[str, list[Fault]] = {}
    for fault in faults:
        kinds.setdefault(fault.kind, []).append(fault)
    chosen: list[Fault] = []
    while len(chosen) < count:
        order = list(kinds)
        dice.shuffle(order)
        chosen += [dice.choice(kinds[kind]) for kind in order]
    return chosen[:count]


def _article(component: str) -> str:
    return f"an {component}" if component[0] in "aeiou" else f"a {component}"


async def _kill(site: Site, name: str) -> None:
    await site.components[name].kill()
    await asyncio.sleep(DOWN_SECONDS)
    await site.start(name)


async def _pause(site: Site, name: str) -> None:
    site.pause(name)
    try:
        await asyncio.sleep(PAUSE_SECONDS)
    finally:
        site.resume(name)


async def _roll(site: Site, component: str) -> None:
    for number in range(EACH):
        await site.stop(f"{component}-{number}")
        await site.start(f"{component}-{number}")


async def _kill_broker(site: Site, number: int) -> None:
    await site.cluster.nodes[number].kill()
    await asyncio.sleep(DOWN_SECONDS)
    await site.cluster.mend()


async def _pause_broker(site: Site, number: int) -> None:
    site.cluster.nodes[number].pause()
    try:
        await asyncio.sleep(PAUSE_SECONDS)
    finally:
        await site.cluster.mend()


async def _slow(site: Site, number: int) -> None:
    site.relays[number].delay_seconds = SLOW_DELAY_SECONDS
    try:
        await asyncio.sleep(SLOW_SECONDS)
    finally:
        site.relays[number].delay_seconds = 0.0


async def _cut(site: Site, number: int) -> None:
    await site.relays[number].cut()
    try:
        await asyncio.sleep(CUT_SECONDS)
    finally:
        await site.relays[number].open()


async def _move_leaders(site: Site, number: int) -> None:
    """A broker that ends gives its leaderships away first, and gets them back when it is in sync again."""
    await site.cluster.nodes[number].restart()
    await site.cluster.whole()


async def _roll_brokers(site: Site) -> None:
    for number in range(NODES):
        await _move_leaders(site, number)


async def _kill_clickhouse(site: Site) -> None:
    site.clickhouse.kill()
    await asyncio.sleep(DOWN_SECONDS)
    await site.clickhouse.start()


async def _pause_clickhouse(site: Site) -> None:
    site.clickhouse.freeze()
    try:
        await asyncio.sleep(PAUSE_SECONDS)
    finally:
        site.clickhouse.thaw()


async def _fill_disk(site: Site) -> None:
    """A broker whose only disk is full ends by itself; there is room again, and it is started."""
    assert site.disk is not None
    filler, node = site.disk / "filler", site.cluster.nodes[-1]
    try:
        await asyncio.to_thread(_fill, filler)
        with suppress(AssertionError):  # so little may have been written meanwhile that it did not notice
            await wait_until(lambda: node.pid is None, _FULL_SECONDS, "the broker has ended")
    finally:
        filler.unlink(missing_ok=True)
    await node.kill()
    await site.cluster.mend()


def _fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(_BLOCK)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise

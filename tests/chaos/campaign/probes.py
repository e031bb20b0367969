"""How long a fault lasts for a user: from its beginning until deliveries sent after it are queryable."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from itertools import count

import aiohttp
import msgspec

from deploy.embedded.configuration import KYB_SOURCE
from kybstream.errors import KybStreamError
from kybstream.operations.simulation import source_url
from kybstream.settings import Settings
from sinks.query import query
from tests.support.waiting import wait_until

PROBES = 8
"""Different companies, so that most partitions have one."""
PREFIX = "probe-"
_ANSWER_SECONDS = 5.0
_PAUSE_SECONDS = 0.1
_LONGEST_SECONDS = 180.0
_OK = 200

_numbers = count()


async def recovery_seconds(settings: Settings) -> float:
    """Sends probes until each has its 200, and returns the seconds from now until all are in the table.

    Raises:
        AssertionError: They got no 200 within three minutes, or were not queryable three minutes later.
    """
    began = time.monotonic()
    try:
        async with asyncio.timeout(_LONGEST_SECONDS):
            sent = await asyncio.gather(*(_acknowledged(settings, f"{PREFIX}{next(_numbers)}") for _ in range(PROBES)))
    except TimeoutError:
        raise AssertionError(f"probes got no 200 within {_LONGEST_SECONDS:g} s") from None
    await wait_until(lambda: _queryable(settings, sent), _LONGEST_SECONDS, "probes are queryable")
    return time.monotonic() - began


async def _acknowledged(settings: Settings, service_id: str) -> str:
    """The delivery id of the first 200 that a webhook gets."""
    body = msgspec.json.encode(
        {
            "kyb_backoffice_id": "kyb-probe",
            "service_id": service_id,
            "type": "service_initiated",
            "status": "pending",
            "services": ["questionnaire"],
            "link": f"https://backoffice.example/cases-detail?company_id=c1&service_id={service_id}",
        }
    )
    timeout = aiohttp.ClientTimeout(total=_ANSWER_SECONDS)
    while True:
        try:
            # A connection of its own: one that is kept would stay with one of the two processes.
            async with (
                aiohttp.ClientSession(timeout=timeout) as client,
                client.post(source_url(settings, KYB_SOURCE), data=body) as answer,
            ):
                if answer.status == _OK:
                    return answer.headers["X-Delivery-Id"]
        except (aiohttp.ClientError, OSError, TimeoutError):
            pass
        await asyncio.sleep(_PAUSE_SECONDS)


async def _queryable(settings: Settings, delivery_ids: Sequence[str]) -> bool:
    names = ", ".join(f"'{each}'" for each in delivery_ids)
    try:
        async with asyncio.timeout(_ANSWER_SECONDS):
            answer = await query(
                settings.clickhouse,
                f"SELECT uniqExact(delivery_id) FROM deliveries WHERE delivery_id IN ({names})",  # noqa: S608 (our own)
            )
    except (KybStreamError, TimeoutError):
        return False
    return answer.rows[0][0] == len(delivery_ids)

"""What is sent while things break: both providers as the simulator plays them, and beside them a sender of hostile bodies."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count

import aiohttp

from deploy.embedded.configuration import KYB_SOURCE, KYC_SOURCE
from kybstream.errors import UnavailableError
from kybstream.operations.simulation import link_registrar, simulation_config, source_url
from kybstream.settings import Settings
from kybstream.simulator import LinkRegistrar, Plan, PlannedLink, SentDelivery, Target, plan, play
from streams.linking import provisional_case_id
from streams.policy import TenantPolicy

HOSTILE_PREFIX = "hostile-"
HOSTILE_PERSONS = tuple(f"{number:032x}" for number in range(5))
MERCHANT = "HOSTILE"
DELIVERIES_OF_A_CASE = 10
_PATIENCE_SECONDS = 900.0
_PAUSE_SECONDS = 0.5
_ANSWER_SECONDS = 20.0
_HOSTILE_PAUSE_SECONDS = 0.25
_OK = 200
_TEXT = 300_000


@dataclass(frozen=True)
class Sent:
    """What the load came to.

    Attributes:
        planned: What the providers were to send.
        attempts: What they sent.
        hostile: Delivery ids of hostile bodies that got a 200.
        refused: How many hostile bodies got another answer, or none.
    """

    planned: Plan
    attempts: Sequence[SentDelivery]
    hostile: Sequence[str]
    refused: int


async def send(settings: Settings, *, seconds: float, rate: float, seed: int) -> Sent:
    """Sends at a constant rate for about so long, and then until every planned delivery has its 200."""
    cases = max(1, int(seconds * rate / DELIVERIES_OF_A_CASE))
    config = simulation_config(settings, started_at=int(time.time()), cases=cases, seed=seed, faults="all", scale=1.0)
    planned = plan(config)
    target = Target(
        kyb_url=source_url(settings, KYB_SOURCE),
        kyc_url=source_url(settings, KYC_SOURCE),
        register_link=_patient(link_registrar(settings)),
    )
    stopped = asyncio.Event()
    hostile = asyncio.create_task(_send_hostile(settings, stopped, random.Random(seed)))  # noqa: S311
    try:
        attempts = await play(planned, target, rate=rate, patience_seconds=_PATIENCE_SECONDS)
    finally:
        stopped.set()
    accepted, refused = await hostile
    return Sent(planned, attempts, accepted, refused)


def _patient(register: LinkRegistrar) -> Callable[[PlannedLink], Awaitable[None]]:
    """Registers again while Kafka does not acknowledge, as an integrator would."""

    async def again_and_again(link: PlannedLink) -> None:
        while True:
            try:
                return await register(link)
            except UnavailableError:
                await asyncio.sleep(_PAUSE_SECONDS)

    return again_and_again


async def _send_hostile(settings: Settings, stopped: asyncio.Event, dice: random.Random) -> tuple[list[str], int]:
    accepted, refused = [], 0
    timeout = aiohttp.ClientTimeout(total=_ANSWER_SECONDS)
    async with aiohttp.ClientSession(timeout=timeout) as client:
        for source, body in hostile_bodies(dice):
            if stopped.is_set():
                break
            try:
                async with client.post(source_url(settings, source), data=body) as answer:
                    if answer.status == _OK:
                        accepted.append(answer.headers["X-Delivery-Id"])
                    else:
                        refused += 1
            except (aiohttp.ClientError, OSError, TimeoutError):
                refused += 1
            await asyncio.sleep(_HOSTILE_PAUSE_SECONDS)
    return accepted, refused


def is_hostile(settings: Settings, case_id: str) -> bool:
    """Whether a case comes from hostile bodies."""
    pseudonymiser = TenantPolicy.of(settings.tenants[0]).pseudonymiser
    persons = {provisional_case_id(pseudonymiser.subject(MERCHANT, MERCHANT, each)) for each in HOSTILE_PERSONS}
    return case_id.startswith(HOSTILE_PREFIX) or case_id in persons


def hostile_bodies(dice: random.Random) -> Iterator[tuple[str, bytes]]:
    """Bodies without end that are large, deep, numerous in what they name, broken, or odd; all of companies of their own."""
    for number in count():
        name = f"{HOSTILE_PREFIX}{number % 20}"
        start = f'{{"service_id":"{name}","kyb_backoffice_id":"kyb-h","link":"https://x.example/","status":"pending",'
        user_no = HOSTILE_PERSONS[number % len(HOSTILE_PERSONS)]
        person = f'{{"userNo":"{user_no}","merchantNo":"{MERCHANT}","subMerchantNo":"{MERCHANT}",'
        person += '"kycLevel":1,"kycStatus":1,"remark":"h",'
        services = ",".join(f'"s{dice.randrange(10**9)}"' for _ in range(2_000))
        odd = (
            (KYB_SOURCE, start + f'"type":"{"x" * _TEXT}{number}","services":["kyc"]}}'),
            (KYB_SOURCE, start + f'"type":"service_initiated","services":[{services}]}}'),
            (KYB_SOURCE, start + f'"type":"service_initiated","status":"s{number}","services":["kyc"]}}'),
            (KYB_SOURCE, start + '"type":"x","services":' + "[" * 5_000 + "]" * 5_000 + "}"),
            (KYB_SOURCE, start + '"type":"service_initiated","services":["kyc"],"search":"\\ud83d","uid":1e999}'),
            (KYB_SOURCE, start + '"type":"service_initiated" "services":["kyc"]}'),
            (KYC_SOURCE, person + f'"kycType":"{"y" * _TEXT}{number}"}}'),
            (KYC_SOURCE, person + f'"kycType":"1","kycFailJson":"[{",".join("0" * 50_000)}]","firstName":"{number}"}}'),
            (KYC_SOURCE, "\x00\x1b[31m" * 1_000),
        )
        source, body = odd[number % len(odd)]
        yield source, body.encode()

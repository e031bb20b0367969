"""A made-up history of some weeks that the tests of the report look at: the same each time but for its end, which is now."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import datetime, timedelta

from kybstream.settings import ClickHouseSettings
from schemas.records import Case, Delivery, Service
from tests.sinks.making import case, delivery, land

HOSTILE = '[red]\x1b[31m\u202e<script>alert("1")</script>&\'</style><img src=x onerror=alert(2)>'
"""What a provider could call a service."""

SERVICES = ("questionnaire", "kyb_check", "documents", "aml", "aml_for_company", "aml_for_people")


async def land_history(
    clickhouse: ClickHouseSettings, now: datetime, *, cases: int, tenants: Sequence[str] = ("acme",), hostile: bool = False
) -> None:
    """Cases opened over the last 40 days, slow and quick ones, some open still; and their deliveries, with a bad hour."""
    chance = random.Random(6)  # noqa: S311 (no secret)
    made = [_case(number, now, chance, tenants[number % len(tenants)], hostile=hostile) for number in range(cases)]
    await land(clickhouse, made)
    await land(clickhouse, _deliveries(now, chance, tenants, 4 * cases))


def _case(number: int, now: datetime, chance: random.Random, tenant: str, *, hostile: bool) -> Case:
    opened_at = now - timedelta(days=40 * chance.random() ** 1.1, seconds=1)
    taken = timedelta(days=chance.lognormvariate(0.9, 1.1))
    names = chance.sample(SERVICES, 2 + number % 3) + ([HOSTILE] if hostile and number % 9 == 0 else [])
    closed_at = opened_at + taken
    closed = closed_at < now and chance.random() > 0.04
    resolved = [closed or chance.random() < 0.5 for _ in names]
    rejected = closed and chance.random() < 0.15
    waits = not closed and chance.random() < 0.3
    return case(
        f"case-{number}",
        tenant=tenant,
        version=3,
        opened_at=opened_at,
        opened_at_source="first_receipt" if number % 17 == 0 else "link" if number % 5 == 0 else "event",
        kyb_initiated_at=opened_at,
        kyb_status="resolved" if all(resolved) else "pending",
        kyb_resolved_at=opened_at + taken * 0.8 if closed else None,
        kyc_status=("permanent_rejection" if rejected else "success") if closed else "pending",
        kyc_first_result_at=opened_at + taken * 0.3 if closed or waits else None,
        kyc_final_at=opened_at + taken * 0.6 if closed else None,
        linked_at=opened_at if number % 4 else None,
        closed_at=closed_at if closed else None,
        deadline_at=opened_at + timedelta(days=90),
        outcome=("rejected" if rejected else "completed") if closed else "awaiting_resubmission" if waits else "open",
        resubmissions=number % 6 == 0,
        services=tuple(
            Service(
                name=name,
                initiated_at=opened_at,
                resolved_at=opened_at + taken * chance.uniform(0.1, 0.8) if is_resolved else None,
            )
            for name, is_resolved in zip(names, resolved, strict=True)
        ),
    )


def _deliveries(now: datetime, chance: random.Random, tenants: Sequence[str], count: int) -> list[Delivery]:
    made: list[Delivery] = []
    for number in range(count):
        received_at = now - timedelta(days=30 * chance.random())
        if number % 10 == 0:  # the bad hour
            received_at = now - timedelta(days=9, seconds=9000 * chance.random() ** 2)
        verdict = "quarantined" if number % 40 == 3 else "duplicate" if number % 10 == 0 or number % 3 == 0 else "new"
        made.append(
            delivery(
                number, tenant=tenants[number % len(tenants)], received_at=received_at, verdict=verdict, event_id=f"e{number}"
            )
        )
    return made

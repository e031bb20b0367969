"""Compares the outcome with what was sent, and cases with a model that shares no code with the worker."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from kybstream.operations.demonstration import read_cases, wrong_cases
from kybstream.operations.reconcile import reconcile
from kybstream.settings import Settings
from kybstream.simulator import SentDelivery
from schemas.codec import decode
from schemas.records import Case, CaseEvent
from schemas.topics import CASE_EVENTS, CASES
from sinks.query import query
from streams.policy import TenantPolicy
from tests.chaos.campaign.load import Sent, is_hostile
from tests.chaos.campaign.probes import PREFIX
from tests.streams.model import Rules, expected_case
from tests.support.topics import whole_topic

SETTLE_SECONDS = 180.0
_PAUSE_SECONDS = 1.0
_SHOWN = 3


@dataclass(frozen=True)
class Row:
    """A delivery in ClickHouse."""

    delivery_id: str
    verdict: str
    event_id: str


@dataclass(frozen=True)
class Verdict:
    """What came of a campaign.

    Attributes:
        wrong: A sentence for each thing that is not as promised; empty is what is hoped for.
        deliveries: How many got a 200.
        rows: How many the table has, answers that were lost included.
        cases: How many were compared with the plan.
        modelled: How many were compared with the model.
    """

    wrong: list[str]
    deliveries: int
    rows: int
    cases: int
    modelled: int


def wrong_rows(
    accepted: Sequence[SentDelivery], hostile: Sequence[str], rows: Sequence[Row], events: Iterable[str]
) -> list[str]:
    """What is lost, doubled or misjudged.

    An attempt whose answer was lost may have been stored, so it is not known which delivery made an event. What is promised all
    the same: copies of one webhook have one event, different webhooks different ones, and each event is new once.

    Args:
        accepted: Attempts of planned webhooks that got a 200.
        hostile: Delivery ids of other bodies that got one.
        rows: Of the table of deliveries.
        events: Ids in the table of events.
    """
    wrong = []
    known = {row.delivery_id: row for row in rows}
    claimed = {each.delivery_id or "?" for each in accepted} | set(hostile)
    wrong += _some("acknowledged deliveries are not in ClickHouse", claimed - known.keys())
    wrong += _some("deliveries are there twice", _doubled(row.delivery_id for row in rows))
    counted = Counter(events)
    wrong += _some("events are there twice", (each for each, times in counted.items() if times > 1))
    new = Counter(row.event_id for row in rows if row.verdict == "new")
    wrong += _some("events are new more than once", (each for each, times in new.items() if times > 1))
    wrong += _some("events have no delivery that made them, or the other way round", counted.keys() ^ new.keys())

    by_label: defaultdict[str, set[str]] = defaultdict(set)
    owners: defaultdict[str, set[str]] = defaultdict(set)
    for each in accepted:
        row = known.get(each.delivery_id or "?")
        if row is None:
            continue
        quarantined = each.planned.verdict == "quarantined"
        if quarantined != (row.verdict == "quarantined"):
            wrong.append(f"{each.planned.label} is {row.verdict}")
        elif not quarantined:
            by_label[each.planned.label].add(row.event_id)
            owners[row.event_id].add(each.planned.label)
    wrong += _some("webhooks have more than one event", (label for label, found in by_label.items() if len(found) > 1))
    wrong += _some("events belong to several webhooks", (event for event, labels in owners.items() if len(labels) > 1))
    return wrong


def wrong_snapshots(
    events: Iterable[CaseEvent], snapshots: Iterable[Case], rules: Mapping[str, Rules]
) -> tuple[list[str], int]:
    """Cases whose newest snapshot is not what the model makes of their events; and how many were compared."""
    told: defaultdict[tuple[str, str], dict[str, CaseEvent]] = defaultdict(dict)
    for event in events:
        told[event.tenant, event.case_id][event.event_id] = event
    newest: dict[tuple[str, str], Case] = {}
    for snapshot in snapshots:
        key = (snapshot.tenant, snapshot.case_id)
        if key not in newest or newest[key].version <= snapshot.version:
            newest[key] = snapshot
    wrong, compared = [], 0
    for (tenant, case_id), distinct in told.items():
        compared += 1
        rule = rules[tenant]
        expected = expected_case(
            tenant, case_id, list(distinct.values()), Rules(rule.deadline, rule.kyc_always and not case_id.startswith("kyc:"))
        )
        if newest.get((tenant, case_id)) != expected:
            wrong.append(case_id)
    return _some("cases are not what the model makes of their events", wrong), compared


async def judge(settings: Settings, sent: Sent) -> Verdict:
    """Waits until all that was sent has come to rest, and compares."""
    accepted = [each for each in sent.attempts if each.accepted]
    deadline = asyncio.get_running_loop().time() + SETTLE_SECONDS
    while True:
        rows = await _rows(settings)
        events = [str(event) for (event,) in (await query(settings.clickhouse, "SELECT event_id FROM events")).rows]
        cases = {
            name: row
            for name, row in (await read_cases(settings.clickhouse)).items()
            if not name.startswith(PREFIX) and not is_hostile(settings, name)
        }
        wrong = wrong_rows(accepted, sent.hostile, rows, events) + wrong_cases(sent.planned.expected, cases)
        if not wrong or asyncio.get_running_loop().time() > deadline:
            break
        await asyncio.sleep(_PAUSE_SECONDS)
    missing = {each.label for each in sent.planned.deliveries} - {each.planned.label for each in accepted}
    wrong += _some("planned webhooks never got a 200", missing)
    wrong += (await reconcile(settings)).findings()
    differing, modelled = wrong_snapshots(
        # The model knows no bound, and hostile senders exceed some.
        [event for event in await _case_events(settings) if not is_hostile(settings, event.case_id)],
        [decode(value, Case) for value in await _values(settings, CASES)],
        {each.name: _rules(TenantPolicy.of(each)) for each in settings.tenants},
    )
    return Verdict(wrong + differing, len(accepted) + len(sent.hostile), len(rows), len(sent.planned.expected), modelled)


def _rules(policy: TenantPolicy) -> Rules:
    return Rules(policy.deadline, kyc_always=policy.kyc_always)


async def _rows(settings: Settings) -> list[Row]:
    answer = await query(settings.clickhouse, "SELECT delivery_id, verdict, ifNull(event_id, '') FROM deliveries")
    return [Row(str(delivery_id), str(verdict), str(event_id)) for delivery_id, verdict, event_id in answer.rows]


async def _case_events(settings: Settings) -> list[CaseEvent]:
    return [decode(value, CaseEvent) for value in await _values(settings, CASE_EVENTS)]


async def _values(settings: Settings, suffix: str) -> list[bytes]:
    records = await whole_topic(settings.kafka, settings.topic(suffix), settings.kafka.partitions)
    return [record.value for record in records if record.value is not None]


def _doubled(names: Iterable[str]) -> list[str]:
    return [name for name, times in Counter(names).items() if times > 1]


def _some(what: str, names: Iterable[str]) -> list[str]:
    """One sentence about these, if there are any."""
    found = sorted(names)
    return [f"{len(found)} {what}, such as {', '.join(found[:_SHOWN])}"] if found else []

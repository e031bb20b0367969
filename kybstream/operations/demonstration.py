"""The demonstration: providers played, everything waited for, every delivery and every case checked."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from kybstream.errors import RunError
from kybstream.operations.reconcile import Account, reconcile
from kybstream.settings import ClickHouseSettings, Settings
from kybstream.simulator import ExpectedCase, Plan, SentDelivery
from sinks.query import Value, query

SETTLE_SECONDS = 45.0
"""How long everything sent may take to be queryable."""

_POLL_SECONDS = 0.25
_SHOWN = 5


@dataclass(frozen=True)
class CaseRow:
    """What ClickHouse holds of a case."""

    match_state: str
    outcome: str
    kyb_events: int
    kyc_events: int


@dataclass(frozen=True)
class Checked:
    """What the check found: an account, and a sentence for each thing that is not as it must be."""

    account: Account
    wrong: list[str]


async def check(settings: Settings, plan: Plan, sent: Sequence[SentDelivery]) -> Checked:
    """Waits until all that was sent is queryable, then compares it with the plan.

    Checked are every delivery (there once, with its verdict), every logical event (one `new`, the rest duplicates) and
    every case (match state, outcome, number of events).

    Raises:
        UnavailableError: Kafka or ClickHouse cannot be reached.
        RunError: ClickHouse refused a query.
    """
    accepted = [delivery for delivery in sent if delivery.accepted]
    deadline = asyncio.get_running_loop().time() + SETTLE_SECONDS
    while True:
        verdicts = await _verdicts(settings.clickhouse)
        cases = await read_cases(settings.clickhouse)
        wrong = wrong_deliveries(accepted, verdicts) + wrong_cases(plan.expected, cases)
        if not wrong or asyncio.get_running_loop().time() >= deadline:
            break
        await asyncio.sleep(_POLL_SECONDS)
    account = await reconcile(settings)
    given_up = {each.planned.label for each in sent} - {each.planned.label for each in accepted}
    if given_up:
        wrong.append(f"{len(given_up)} deliveries were given up: the ingress did not take them")
    return Checked(account, wrong + account.findings())


def wrong_deliveries(accepted: Sequence[SentDelivery], verdicts: Mapping[str, str]) -> list[str]:
    """What is not as planned among the deliveries that the ingress acknowledged. Pure.

    Args:
        accepted: Attempts answered with 200.
        verdicts: Verdict of each delivery in ClickHouse, by id.
    """
    wrong: list[str] = []
    by_label: defaultdict[str, list[SentDelivery]] = defaultdict(list)
    for delivery in accepted:
        by_label[delivery.planned.label].append(delivery)
    missing = [each.delivery_id or "?" for each in accepted if each.delivery_id not in verdicts]
    if missing:
        wrong.append(f"{len(missing)} acknowledged deliveries are not in ClickHouse: {_some(missing)}")
    misjudged: list[str] = []
    for label, copies in by_label.items():
        found: Counter[str | None] = Counter(verdicts.get(copy.delivery_id or "") for copy in copies)
        if any(copy.planned.verdict == "quarantined" for copy in copies):
            expected: Counter[str | None] = Counter({"quarantined": len(copies)})
        else:
            expected = Counter({"new": 1, "duplicate": len(copies) - 1})
        if None not in found and found != +expected:
            misjudged.append(f"{label} ({_counts(found)} instead of {_counts(+expected)})")
    if misjudged:
        wrong.append(f"{len(misjudged)} events are judged wrongly: {_some(misjudged)}")
    return wrong


def wrong_cases(expected: Sequence[ExpectedCase], cases: Mapping[str, CaseRow]) -> list[str]:
    """What is not as planned among the cases. Pure."""
    wrong: list[str] = []
    for case in expected:
        row = cases.get(case.case_id)
        if row is None:
            if case.required:
                wrong.append(f"case {case.case_id} is missing")
            continue
        for what, wanted, found in (
            ("match state", case.match_state, row.match_state),
            ("outcome", case.outcome, row.outcome),
            ("number of KYB events", case.kyb_events, row.kyb_events),
            ("number of KYC events", case.kyc_events, row.kyc_events),
        ):
            if wanted is not None and wanted != found:
                wrong.append(f"case {case.case_id}: {what} is {found} instead of {wanted}")
    unplanned = sorted(cases.keys() - {case.case_id for case in expected})
    if unplanned:
        wrong.append(f"{len(unplanned)} cases were not planned: {_some(unplanned)}")
    if len(wrong) > _SHOWN:
        return [*wrong[:_SHOWN], f"… and {len(wrong) - _SHOWN} more findings about cases"]
    return wrong


def _some(items: Sequence[str]) -> str:
    return ", ".join(items[:_SHOWN]) + (" …" if len(items) > _SHOWN else "")


def _counts(counter: Mapping[str | None, int]) -> str:
    return ", ".join(f"{count} {verdict}" for verdict, count in sorted(counter.items(), key=str))


async def _verdicts(clickhouse: ClickHouseSettings) -> dict[str, str]:
    answer = await query(clickhouse, "SELECT toString(delivery_id), verdict FROM deliveries")
    return {str(delivery_id): str(verdict) for delivery_id, verdict in answer.rows}


async def read_cases(clickhouse: ClickHouseSettings) -> dict[str, CaseRow]:
    """The newest version of every case, merged ones too, with its events counted from the table of events."""
    answer = await query(
        clickhouse,
        """
        SELECT case_id, match_state, outcome, kyb_events, arraySum(s -> s.attempts, subjects) AS kyc_events
        FROM (SELECT * FROM cases ORDER BY version DESC LIMIT 1 BY tenant, case_id) AS newest
        LEFT JOIN (
            SELECT tenant, case_id, count() AS kyb_events FROM events WHERE source_kind = 'kyb-service' GROUP BY tenant, case_id
        ) AS counted USING (tenant, case_id)
        """,
    )
    return {
        str(case_id): CaseRow(str(match_state), str(outcome), _whole(kyb_events), _whole(kyc_events))
        for case_id, match_state, outcome, kyb_events, kyc_events in answer.rows
    }


def _whole(value: Value) -> int:
    if not isinstance(value, int):
        raise RunError(f"ClickHouse counted {type(value).__name__} where a number was expected")
    return value

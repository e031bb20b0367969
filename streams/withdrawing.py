"""What of a case's events still stands after links were withdrawn. Pure, and blind to the order in which they came in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from streams.facts import Fact
from streams.linking import REGISTERED


def elsewhere(facts: Sequence[Fact]) -> set[str]:
    """Ids of the callbacks that have left the case, and have not come back.

    Withdrawals name those that leave a case, later links those that return to it; merges those that leave a provisional case,
    and withdrawals of a case that they had gone to (`merged_into`) those that return. Each goes and returns by turns.
    """
    balance: Counter[str] = Counter()
    for fact in facts:
        leaves = fact.kind == "merge" or (fact.kind == "withdrawal" and fact.merged_into is None)
        for event_id in fact.moved_events:
            balance[event_id] += 1 if leaves else -1
    return {event_id for event_id, times in balance.items() if times > 0}


def in_force(facts: Sequence[Fact]) -> list[Fact]:
    """The events without links that were withdrawn, and without withdrawals that a newer link or a token has overtaken."""
    until: dict[str | None, int] = {}
    for fact in facts:
        if _withdraws(fact):
            until[fact.subject] = max(fact.at, until.get(fact.subject, fact.at))
    if not until:
        return list(facts)
    named = {fact.subject for fact in facts if fact.kind == "link" and not _void(fact, until)}
    return [fact for fact in facts if not (fact.subject in named if _withdraws(fact) else _void(fact, until))]


def _withdraws(fact: Fact) -> bool:
    return fact.kind == "withdrawal" and fact.merged_into is None


def _void(fact: Fact, until: dict[str | None, int]) -> bool:
    """Whether a registered link is not newer than the newest withdrawal of its subject."""
    if fact.kind != "link" or fact.placement != REGISTERED:
        return False
    return fact.subject in until and fact.at <= until[fact.subject]

"""A bound to what is kept of one case's events, whoever sends thousands of them. Pure, and blind to their order of arrival.

Of events that are alike in all but id and time the first `EDGE` and the last `EDGE` by receipt are kept; those between are
absorbed into a count. That is a property of the *set* of events, so arrival order makes no difference here either. What the
fold makes of a case hangs on the first and the last of alike events and on their number, with the exceptions that
docs/explanation/cases.md lists.

Never absorbed is what a later event may name: callbacks that a link or its withdrawal can take to another case, and the links,
merges, withdrawals and expiries themselves.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import msgspec

from streams.facts import Fact
from streams.linking import LINKED, REGISTERED

EVENT_FLOOD = "event_flood"
EDGE = 50
"""How many alike events are kept from the beginning, and as many from the end."""


class Absorbed(msgspec.Struct, array_like=True, frozen=True):
    """How many events like this one (its id is empty, its time 0) are not kept one by one."""

    like: Fact
    count: int


@dataclass(frozen=True)
class Kept:
    """What is kept of a set of events after one more of them.

    Attributes:
        facts: Events by id.
        absorbed: How many others there were.
        gone: The event that was absorbed with this one, if any: itself, or one that it has pushed from the edge.
    """

    facts: dict[str, Fact]
    absorbed: tuple[Absorbed, ...]
    gone: Fact | None = None


def with_one_more(facts: dict[str, Fact], absorbed: tuple[Absorbed, ...], fact: Fact, edge: int = EDGE) -> Kept:
    """What is kept with one more event, which must not be among the others."""
    facts = {**facts, fact.event_id: fact}
    if len(facts) <= 2 * edge or not absorbable(fact):
        return Kept(facts, absorbed)
    kind = like(fact)
    alike = sorted((each for each in facts.values() if like(each) == kind), key=lambda each: (each.at, each.event_id))
    if len(alike) <= 2 * edge:
        return Kept(facts, absorbed)
    gone = alike[edge]
    del facts[gone.event_id]
    before = next((each.count for each in absorbed if each.like == kind), 0)
    others = tuple(each for each in absorbed if each.like != kind)
    return Kept(facts, (*others, Absorbed(kind, before + 1)), gone)


def absorbable(fact: Fact) -> bool:
    """Whether nothing will ever name this event, so that a number can stand for it."""
    if fact.kind == "kyc":
        # A token's placement is final (`streams.links`); what the intake marked came after all that it can move.
        return fact.placement in LINKED - {REGISTERED} or EVENT_FLOOD in fact.anomalies
    return fact.kind == "kyb"


def like(fact: Fact) -> Fact:
    """The event without what tells it from others like it."""
    return msgspec.structs.replace(fact, event_id="", at=0)


def total(absorbed: Iterable[Absorbed]) -> int:
    """How many events are not kept one by one."""
    return sum(each.count for each in absorbed)

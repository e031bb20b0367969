"""The order in which a case's events count: by receipt, then by what they say, then by id. Pure.

Several events can have one receipt: the link that a callback's token makes has the callback's. An id is a hash, so an order by
id would let chance decide when a case closed. docs/explanation/cases.md argues the order of kinds.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from operator import attrgetter

from schemas.providers import kyb, kyc
from streams.facts import Fact

KIND_ORDER = ("link", "withdrawal", "kyb", "kyc", "merge", "other", "expiry")
"""Kinds of events of one receipt, the first to count first."""

KYB_ORDER = (kyb.SERVICE_INITIATED, None, kyb.DOCUMENT_PURCHASE_REQUEST, kyb.SERVICE_RESOLVED)
"""Types of KYB events of one receipt; None stands for all others."""

KYC_ORDER = (None, kyc.TEMPORARY_REJECTION, kyc.SUCCESS, kyc.PERMANENT_REJECTION)
"""Statuses of KYC results of one receipt; None stands for all others. The last one counts."""

_KINDS = {kind: rank for rank, kind in enumerate(KIND_ORDER)}
_KYB = {type_: rank for rank, type_ in enumerate(KYB_ORDER)}
_KYC = {status: rank for rank, status in enumerate(KYC_ORDER)}
_at = attrgetter("at")


def in_order(facts: Iterable[Fact]) -> list[Fact]:
    """The events in the order in which they count. Those that differ only in their ids may stand in any order."""
    ordered = sorted(facts, key=_at)
    if any(before.at == after.at for before, after in pairwise(ordered)):
        ordered.sort(key=order_key)
    return ordered


def order_key(fact: Fact) -> tuple[object, ...]:
    """What decides, and behind it all else that the event says, so that its id decides nothing that anybody sees."""
    within = 0
    if fact.kind == "kyb":
        within = _KYB.get(fact.type, _KYB[None])
    elif fact.kind == "kyc":
        within = _KYC.get(fact.status, _KYC[None])
    return (
        fact.at,
        _KINDS.get(fact.kind, _KINDS["other"]),
        within,
        -1 if fact.expected_subjects is None else fact.expected_subjects,  # of two numbers said at once the greater one
        fact.type or "",
        fact.status or "",
        fact.services,
        fact.subject or "",
        fact.kyc_level or "",
        fact.kyc_type or "",
        fact.placement or "",
        fact.merged_into or "",
        fact.anomalies,
        fact.event_id,
    )

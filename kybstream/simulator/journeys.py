"""The KYB side of a case: which services are ordered, when they are answered, and when they never are."""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random
from typing import Literal, TypeAlias

from kybstream.simulator import kyb_bodies as forms
from kybstream.simulator.chance import Deck, skewed_days
from kybstream.simulator.config import Faults
from kybstream.simulator.kyb_bodies import KybForm
from kybstream.simulator.script import KybStep

Journey: TypeAlias = Literal[
    "business_information", "everything", "kyb_check", "document_base", "aml", "documents", "kyc_service"
]
Ending: TypeAlias = Literal["answered", "never_answered", "reopened", "reopened_and_answered"]

MEDIAN_DAYS = 2.0
SHORTEST_DAYS = 0.1
LONGEST_DAYS = 15.0
"""Bounds of the time from the first to the last answer of a case."""

_HOUR = 1 / 24

_FORMS: dict[Journey, tuple[KybForm, ...]] = {
    "business_information": (
        forms.business_information_initiated,
        forms.business_information_resolved,
        forms.kyc_resolved,
    ),
    "everything": (
        forms.business_information_initiated,
        forms.business_information_resolved,
        forms.kyc_resolved,
        forms.aml_resolved,
        forms.document_purchase_request,
    ),
    "kyb_check": (forms.kyb_check_resolved,),
    "document_base": (forms.document_base_initiated, forms.document_base_resolved),
    "aml": (forms.aml_resolved,),
    "documents": (forms.kyb_check_resolved, forms.document_purchase_request),
    "kyc_service": (forms.kyc_resolved,),
}
_INITIATIONS = (forms.business_information_initiated, forms.document_base_initiated)
_WATCHED: tuple[Journey, ...] = ("everything", "kyb_check", "documents")
"""Journeys after which ongoing AML may raise alerts."""


@dataclass(frozen=True)
class KybDecks:
    """What is dealt to the KYB side of a case."""

    journeys: Deck[Journey]
    endings: Deck[Ending]
    alerts: Deck[int]
    initiated_last: Deck[bool]
    odd_links: Deck[bool]


def kyb_decks(rng: Random, faults: Faults) -> KybDecks:
    """The decks of a simulation with those faults."""
    return KybDecks(
        journeys=Deck(
            rng,
            [
                ("business_information", 5),
                ("everything", 4),
                ("kyb_check", 3),
                ("document_base", 4),
                ("aml", 2),
                ("documents", 2),
                ("kyc_service", 1),
            ],
        ),
        endings=Deck(rng, [("answered", 16), ("never_answered", 2), ("reopened", 1), ("reopened_and_answered", 1)]),
        alerts=Deck(rng, [(0, 5), (1, 3), (2, 1)]),
        initiated_last=Deck(rng, [(True, 1), (False, 7)] if faults == "all" else [(False, 1)]),
        odd_links=Deck(rng, [(False, 1)] if faults == "none" else [(True, 1), (False, 8)]),
    )


def write_kyb_side(decks: KybDecks, rng: Random, opened_at: float) -> tuple[KybStep, ...]:
    """The KYB events of a case opened on that day: the first is its initiation, or an answer some time later."""
    journey = decks.journeys.draw()
    duration = skewed_days(rng, MEDIAN_DAYS, SHORTEST_DAYS, LONGEST_DAYS)
    all_forms = _FORMS[journey]
    starts_with_initiation = all_forms[0] in _INITIATIONS
    answers = all_forms[1:] if starts_with_initiation else all_forms
    # The last answer ends the case; the others fall anywhere before it, in the order of the journey.
    shares = sorted(rng.uniform(0.2, 0.95) for _ in answers[1:])
    steps = [KybStep(at=opened_at + share * duration, form=form) for share, form in zip([*shares, 1.0], answers, strict=True)]
    if starts_with_initiation:
        steps = _with_initiation(KybStep(at=opened_at, form=all_forms[0]), steps, decks, rng)
    last = max(step.at for step in steps)
    if journey in _WATCHED:
        steps += [
            KybStep(at=last + (turn + rng.random()) * 1.5 + _HOUR, form=forms.ongoing_aml)
            for turn in range(decks.alerts.draw())
        ]
    return tuple(replace(step, odd_link=decks.odd_links.draw()) for step in steps)


def _with_initiation(initiation: KybStep, answers: list[KybStep], decks: KybDecks, rng: Random) -> list[KybStep]:
    ending = decks.endings.draw()
    if ending == "never_answered":
        return [initiation, *answers[: min(1, len(answers) - 1)]]
    last = max(step.at for step in answers)
    if ending == "answered":
        if decks.initiated_last.draw():
            initiation = replace(initiation, at=last + _HOUR, fault="resolved_before_initiated")
        return [initiation, *answers]
    again = last + rng.uniform(0.3, 1.5)
    reopened = [initiation, *answers, replace(initiation, at=again)]
    if ending == "reopened_and_answered":
        delays = sorted(rng.uniform(0.2, 2.0) for _ in answers)
        reopened += [replace(answer, at=again + delay) for delay, answer in zip(delays, answers, strict=True)]
    return reopened

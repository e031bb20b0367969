"""The KYC side of a case: which subjects call back with which results, and how each callback finds its case."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random
from typing import Literal, TypeAlias

from kybstream.simulator.chance import Deck, skewed_days
from kybstream.simulator.config import Faults
from kybstream.simulator.identifiers import Person
from kybstream.simulator.kyc_bodies import PERMANENT_REJECTION, SUCCESS, TEMPORARY_REJECTION, KycStatusCode
from kybstream.simulator.planned import JoinRule
from kybstream.simulator.script import KycStep, LinkStep

Arrangement: TypeAlias = Literal[
    "path_token",
    "remark_token",
    "linked_before",
    "linked_after",
    "learned",
    "several_subjects",
    "link_without_callback",
    "no_kyc",
    "no_link",
    "token_without_kyb",
    "conflict",
]
"""How the KYC side hangs on the KYB side. The last three have no KYB events of their own."""

WITHOUT_KYB: frozenset[Arrangement] = frozenset({"no_link", "token_without_kyb", "conflict"})
_NEEDS_LINKS: frozenset[Arrangement] = frozenset({"linked_before", "linked_after", "several_subjects", "link_without_callback"})
_JOINS: dict[Arrangement, JoinRule] = {
    "path_token": "path_token",
    "remark_token": "remark_token",
    "linked_before": "registered",
    "linked_after": "registered_late",
    "learned": "learned",
    "no_link": "none",
    "token_without_kyb": "path_token",
    "conflict": "conflict",
}
_HOUR = 1 / 24

Results: TypeAlias = tuple[KycStatusCode, ...]
KycSide: TypeAlias = tuple[tuple[KycStep, ...], tuple[LinkStep, ...]]


@dataclass(frozen=True)
class KycDecks:
    """What is dealt to the KYC side of a case."""

    arrangements: Deck[Arrangement]
    results: Deck[Results]
    resubmissions: Deck[Results]
    subjects: Deck[int]
    absent: Deck[bool]
    kyc_first: Deck[bool]


def kyc_decks(rng: Random, faults: Faults, *, registered_links: bool) -> KycDecks:
    """The decks of a simulation with those faults."""
    arrangements: list[tuple[Arrangement, int]] = [
        ("path_token", 12),
        ("remark_token", 6),
        ("linked_before", 5),
        ("linked_after", 4),
        ("learned", 5),
        ("several_subjects", 5),
        ("link_without_callback", 1),
        ("no_kyc", 5),
        ("no_link", 4),
        ("token_without_kyb", 1),
    ]
    if faults == "all":
        arrangements.append(("conflict", 2))
    if not registered_links:
        arrangements = [(one, count) for one, count in arrangements if one not in _NEEDS_LINKS]
    ok, no, later = SUCCESS, PERMANENT_REJECTION, TEMPORARY_REJECTION
    results: list[tuple[Results, int]] = [((ok,), 11), ((later, ok), 4), ((later,), 1), ((no,), 1), ((later, no), 1)]
    if faults == "all":
        results += [((ok, later), 1), ((ok, no), 1)]  # a regression and a reversal
    return KycDecks(
        arrangements=Deck(rng, arrangements),
        results=Deck(rng, results),
        resubmissions=Deck(rng, [((later, ok), 3), ((later, later, ok), 1), ((later, no), 1)]),
        subjects=Deck(rng, [(2, 2), (3, 2), (4, 1)]),
        absent=Deck(rng, [(True, 1), (False, 4)]),
        kyc_first=Deck(rng, [(True, 1), (False, 7)] if faults == "all" else [(False, 1)]),
    )


@dataclass(frozen=True, kw_only=True)
class KycSetting:
    """What the KYC side of a case is written for.

    Attributes:
        case_id: The case that tokens and links name.
        other_case_ids: Two other cases, for tokens that disagree.
        first_kyb_at: Day of the first KYB event, or on which it would be; the case exists at least 0.4 days before.
        new_person: Gives a subject that no case has yet.
    """

    case_id: str
    other_case_ids: tuple[str, str]
    first_kyb_at: float
    new_person: Callable[[], Person]


def write_kyc_side(arrangement: Arrangement, setting: KycSetting, decks: KycDecks, rng: Random) -> KycSide:
    """The KYC callbacks and the registered links of a case."""
    if arrangement == "no_kyc":
        return (), ()
    if arrangement == "link_without_callback":
        return (), (LinkStep(at=setting.first_kyb_at + _HOUR, person=setting.new_person()),)
    if arrangement == "several_subjects":
        return _several(setting, decks, rng)
    person = setting.new_person()
    callbacks = _callbacks(arrangement, setting, person, decks, rng)
    if arrangement == "linked_before":
        return callbacks, (LinkStep(at=_before(setting, rng), person=person),)
    if arrangement == "linked_after":
        last = max(step.at for step in callbacks)
        return callbacks, (LinkStep(at=last + rng.uniform(1.0, 3.0), person=person, expected_subjects=1),)
    return callbacks, ()


def _before(setting: KycSetting, rng: Random) -> float:
    return setting.first_kyb_at - rng.uniform(0.1, 0.4)


def _several(setting: KycSetting, decks: KycDecks, rng: Random) -> KycSide:
    persons = [setting.new_person() for _ in range(decks.subjects.draw())]
    registered_at = _before(setting, rng)
    links = tuple(LinkStep(at=registered_at, person=person, expected_subjects=len(persons)) for person in persons)
    calling = persons[:-1] if decks.absent.draw() else persons
    steps = [step for person in calling for step in _callbacks("linked_before", setting, person, decks, rng)]
    return tuple(steps), links


def _callbacks(
    arrangement: Arrangement, setting: KycSetting, person: Person, decks: KycDecks, rng: Random
) -> tuple[KycStep, ...]:
    results = (decks.resubmissions if arrangement == "learned" else decks.results).draw()
    early = arrangement not in WITHOUT_KYB and decks.kyc_first.draw()
    # An early callback still comes after a link that is registered before it.
    at = setting.first_kyb_at + (-_HOUR if early else skewed_days(rng, 1.0, 2 * _HOUR, 8.0))
    steps = []
    for index, status in enumerate(results):
        fault = "kyc_before_kyb" if early and index == 0 else None
        if index > 0 and results[index - 1] == SUCCESS:
            fault = "kyc_regression" if status == TEMPORARY_REJECTION else "kyc_reversal"
        step = KycStep(at=at, person=person, status=status, join="none", fault=fault)
        steps.append(_placed(arrangement, setting, step, first=index == 0))
        at += skewed_days(rng, 0.8, 2 * _HOUR, 3.0)
    return tuple(steps)


def _placed(arrangement: Arrangement, setting: KycSetting, step: KycStep, *, first: bool) -> KycStep:
    join: JoinRule = "path_token" if arrangement == "learned" and first else _JOINS[arrangement]
    match join:
        case "path_token":
            return replace(step, join=join, path_case=setting.case_id)
        case "remark_token":
            return replace(step, join=join, remark_case=setting.case_id)
        case "conflict":
            path_case, remark_case = setting.other_case_ids
            return replace(step, join=join, path_case=path_case, remark_case=remark_case, fault="tokens_disagree")
        case _:
            return replace(step, join=join)

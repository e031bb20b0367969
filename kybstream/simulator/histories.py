"""The cases of a simulation, written one after another as their two sides."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count

from kybstream.simulator.chance import seeded
from kybstream.simulator.config import SimulationConfig
from kybstream.simulator.identifiers import Company, Identifiers, Person, make_company, make_person
from kybstream.simulator.journeys import kyb_decks, write_kyb_side
from kybstream.simulator.script import CaseScript
from kybstream.simulator.subjects import WITHOUT_KYB, Arrangement, KycSetting, kyc_decks, write_kyc_side

MOST_SUBJECTS = 4
"""KYC subjects a case has at most."""

_UNKNOWN_CASES = ("unknown-case-1", "unknown-case-2")


@dataclass(frozen=True)
class _Outline:
    company: Company
    arrangement: Arrangement
    created_at: float


def write_histories(config: SimulationConfig, ids: Identifiers) -> Iterator[CaseScript]:
    """The scripts of all cases."""
    rng = seeded(config.seed, "histories")
    for_kyb = kyb_decks(seeded(config.seed, "kyb"), config.faults)
    for_kyc = kyc_decks(seeded(config.seed, "kyc"), config.faults, registered_links=config.registered_links)
    outlines: list[_Outline] = []
    for number in range(1, config.cases + 1):
        created_at = (number - 1 + rng.random()) / config.cases * config.opening_days
        company = make_company(ids, number, config.unix_seconds(created_at))
        outlines.append(_Outline(company, for_kyc.arrangements.draw(), created_at))
    others = _others(outlines)
    numbers = count(1)

    def new_person() -> Person:
        return make_person(ids, next(numbers))

    for outline in outlines:
        # A case exists a while before its first event, so that links can be registered first.
        requested_at = outline.created_at + rng.uniform(0.45, 0.6)
        kyb = () if outline.arrangement in WITHOUT_KYB else write_kyb_side(for_kyb, rng, requested_at)
        setting = KycSetting(
            case_id=outline.company.service_id,
            other_case_ids=others,
            first_kyb_at=min((step.at for step in kyb), default=requested_at),
            new_person=new_person,
        )
        kyc, links = write_kyc_side(outline.arrangement, setting, for_kyc, rng)
        yield CaseScript(
            company=outline.company,
            kyb=tuple(sorted(kyb, key=lambda step: step.at)),
            kyc=tuple(sorted(kyc, key=lambda step: step.at)),
            links=links,
            linked=outline.arrangement not in {"no_link", "conflict"},
        )


def _others(outlines: list[_Outline]) -> tuple[str, str]:
    """Two cases that disagreeing tokens name: with KYC subjects of their own, so that it changes nothing for them."""
    named = [outline.company.service_id for outline in outlines if outline.arrangement == "path_token"]
    first, second, *_ = (*named, *_UNKNOWN_CASES)
    return first, second

"""The plan of a simulation: every delivery of every case, decided before the first is sent.

Pure: no clock, no I/O, and the only chance is that of the seed.
"""

from __future__ import annotations

from collections.abc import Iterator

from kybstream.simulator import kyb_bodies
from kybstream.simulator.chance import seeded
from kybstream.simulator.config import SimulationConfig
from kybstream.simulator.copies import Copier
from kybstream.simulator.histories import MOST_SUBJECTS, write_histories
from kybstream.simulator.identifiers import Identifiers, make_company, make_person
from kybstream.simulator.kyc_bodies import SUCCESS, KycMoment, registration_callback
from kybstream.simulator.malformed import MALFORMATIONS, Malformation
from kybstream.simulator.planned import ExpectedCase, Plan, PlannedDelivery, PlannedLink
from kybstream.simulator.wire import Wire

CASES_PER_ROUND_OF_MALFORMED = 100
"""Every kind of malformed body is sent once per so many cases, and at least once."""


def plan(config: SimulationConfig) -> Plan:
    """Decides what both providers send, which links are registered, and how every case must end."""
    ids = Identifiers(config.seed, config.started_at)
    wire = Wire(config, ids, Copier(seeded(config.seed, "copies"), config.faults))
    deliveries: list[PlannedDelivery] = []
    links: list[PlannedLink] = []
    expected: list[ExpectedCase] = []
    for script in write_histories(config, ids):
        sent, ending = wire.send(script)
        deliveries += sent
        expected += ending
        links += wire.register(script)
    deliveries += _malformed(config, ids)
    return Plan(
        deliveries=tuple(sorted(deliveries, key=lambda delivery: delivery.at)),
        links=tuple(sorted(links, key=lambda link: link.at)),
        expected=tuple(expected),
        scale_seconds_per_day=config.scale_seconds_per_day,
    )


def _malformed(config: SimulationConfig, ids: Identifiers) -> Iterator[PlannedDelivery]:
    rng = seeded(config.seed, "malformed")
    kinds = [kind for kind in MALFORMATIONS if config.faults == "all" or (config.faults == "documented" and kind.documented)]
    rounds = max(1, round(config.cases / CASES_PER_ROUND_OF_MALFORMED))
    for number, kind in enumerate(kinds * rounds, start=1):
        at = rng.uniform(0.0, config.opening_days)
        label = f"malformed-{number:04d}"
        yield PlannedDelivery(
            at=config.seconds(at),
            source_kind=kind.source_kind,
            body=_spoilt(kind, ids, config.cases + number, config.unix_seconds(at)),
            label=label,
            case=label,
            verdict="quarantined",
            fault=kind.name,
        )


def _spoilt(kind: Malformation, ids: Identifiers, number: int, unix_seconds: int) -> bytes:
    if kind.source_kind == "kyb-service":
        company = make_company(ids, number, unix_seconds)
        moment = kyb_bodies.KybMoment(ids=ids, company=company, occurrence=1, unix_seconds=unix_seconds)
        return kind.spoil(kyb_bodies.document_purchase_request(moment))
    # A number that no subject of a case has.
    person = make_person(ids, MOST_SUBJECTS * number + 1)
    return kind.spoil(
        registration_callback(KycMoment(ids=ids, person=person, attempt=0, status=SUCCESS, remark="", complete=True))
    )

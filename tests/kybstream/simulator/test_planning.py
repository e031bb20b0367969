from __future__ import annotations

import json
from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path

import pytest

from kybstream.errors import UsageError
from kybstream.simulator import Faults, Plan, PlannedDelivery, SimulationConfig, plan
from kybstream.simulator.identifiers import id_number_is_valid
from kybstream.simulator.malformed import MALFORMATIONS
from schemas.providers.body import Json, UnreadableBodyError, canonical_digest, read_body
from schemas.providers.identity import identify

FIXTURES = Path(__file__).parents[2] / "fixtures"
MISSING_COMMA = ('ready."\n"uid"', 'ready.",\n"uid"')
SEEDS = range(1, 6)

WIRE_FAULTS = {
    "kyc_retries",
    "kyc_doubled",
    "kyb_repeat",
    "kyb_rewritten",
    "ongoing_aml_repeat",
    "link_names_another_service",
    "resolved_before_initiated",
    "kyc_before_kyb",
    "kyc_regression",
    "kyc_reversal",
    "tokens_disagree",
}


def _documented_kyb_forms() -> dict[tuple[str, ...], list[str]]:
    texts = [path.read_text().replace(*MISSING_COMMA) for path in sorted((FIXTURES / "kyb").glob("*.json"))]
    return {_form(body): list(body) for body in map(json.loads, texts)}


def _form(body: dict[str, Json]) -> tuple[str, ...]:
    services = body["services"]
    assert isinstance(services, list)
    return (str(body["type"]), str(body["status"]), *map(str, services))


def _well_formed(a_plan: Plan, source_kind: str) -> list[tuple[PlannedDelivery, dict[str, Json]]]:
    return [
        (step, read_body(step.body).content)
        for step in a_plan.deliveries
        if step.source_kind == source_kind and step.verdict != "quarantined"
    ]


def test_equal_configurations_give_equal_plans(config: SimulationConfig, default_plan: Plan) -> None:
    """Deterministic by seed: byte for byte the same, and another seed is another simulation."""
    assert plan(config) == default_plan
    assert plan(replace(config, seed=2)) != default_plan


def test_another_start_gives_the_same_histories_under_other_ids(config: SimulationConfig, default_plan: Plan) -> None:
    """A second run against the same receiver is not taken for a repetition of the first."""
    later = plan(replace(config, started_at=config.started_at + 3600))
    assert [(step.at, step.label, step.verdict) for step in later.deliveries] == [
        (step.at, step.label, step.verdict) for step in default_plan.deliveries
    ]
    assert not {step.body for step in later.deliveries if step.body} & {step.body for step in default_plan.deliveries}


@pytest.mark.parametrize("seed", SEEDS)
def test_the_default_size_is_a_demo_of_half_a_minute(config: SimulationConfig, seed: int) -> None:
    """200 cases are 1,500 to 2,500 deliveries over 24 to 36 seconds."""
    a_plan = plan(replace(config, seed=seed))
    assert 1_500 <= len(a_plan.deliveries) <= 2_500
    assert 24 <= a_plan.seconds <= 36
    assert all(step.at >= 0 for step in a_plan.steps())


@pytest.mark.parametrize("seed", SEEDS)
def test_every_documented_situation_appears_at_the_default_size(config: SimulationConfig, seed: int) -> None:
    """Whatever the seed: all forms, results, ways to join, ends and faults."""
    a_plan = plan(replace(config, seed=seed))
    assert {_form(body) for _, body in _well_formed(a_plan, "kyb-service")} == set(_documented_kyb_forms())
    assert {body["kycStatus"] for _, body in _well_formed(a_plan, "kyc-registration")} == {1, 2, 3}
    assert {step.join for step in a_plan.deliveries} == {
        None,
        "path_token",
        "remark_token",
        "registered",
        "registered_late",
        "learned",
        "none",
        "conflict",
    }
    assert {step.fault for step in a_plan.deliveries} == {None} | WIRE_FAULTS | {kind.name for kind in MALFORMATIONS}
    assert {case.match_state for case in a_plan.expected} == {None, "kyb_only", "kyc_only", "matched", "conflict"}
    assert {case.outcome for case in a_plan.expected} == {"open", "completed", "rejected", "awaiting_resubmission", "merged"}
    assert {link.expected_subjects for link in a_plan.links} == {None, 1, 2, 3, 4}


def test_kyb_bodies_have_exactly_the_documented_fields_in_their_order(default_plan: Plan) -> None:
    """Each form is written as the provider's page shows it, `null` included."""
    documented = _documented_kyb_forms()
    for step, body in _well_formed(default_plan, "kyb-service"):
        if step.fault != "kyb_rewritten":
            assert list(body) == documented[_form(body)]
    assert any(body.get("kyb_request_from", "") is None for _, body in _well_formed(default_plan, "kyb-service"))


def test_kyc_bodies_have_the_fields_of_the_example_or_all_documented_ones(default_plan: Plan) -> None:
    """22 documented and three undocumented fields as in the example, or 29 and three."""
    example = list(read_body((FIXTURES / "kyc" / "registration_callback.json").read_bytes()).content)
    bodies = [body for _, body in _well_formed(default_plan, "kyc-registration")]
    assert {len(body) for body in bodies} == {25, 32}
    assert all(list(body)[:25] == example for body in bodies)


def test_one_delivery_of_an_event_is_new_and_the_others_repeat_it(default_plan: Plan, config: SimulationConfig) -> None:
    """Copies share label, entity and content; different labels never have equal content."""
    groups: dict[str, list[PlannedDelivery]] = defaultdict(list)
    for step in default_plan.deliveries:
        if step.verdict != "quarantined":
            groups[step.label].append(step)
    fingerprints = []
    for copies in groups.values():
        assert Counter(copy.verdict for copy in copies)["new"] == 1
        assert copies[0].verdict == "new"
        assert [copy.attempt for copy in copies] == list(range(1, len(copies) + 1))
        bodies = [read_body(copy.body).content for copy in copies]
        assert len({identify(copies[0].source_kind, body, config.pseudonymiser) for body in bodies}) == 1
        assert len({copy.case_token for copy in copies}) == 1
        (fingerprint,) = {canonical_digest(body) for body in bodies}
        fingerprints.append(fingerprint)
    assert len(set(fingerprints)) == len(fingerprints) == len(groups)


def test_quarantined_bodies_name_no_entity_and_all_others_do(default_plan: Plan, config: SimulationConfig) -> None:
    """The expectation agrees with what the receiver reads of a body."""
    for step in default_plan.deliveries:
        try:
            identity = identify(step.source_kind, read_body(step.body).content, config.pseudonymiser)
        except UnreadableBodyError:
            identity = None
        assert (identity is None) == (step.verdict == "quarantined"), step.fault


def test_the_published_mistake_is_sent_as_published(default_plan: Plan) -> None:
    """With the missing comma put in, it is a proper document purchase request."""
    bodies = [step.body for step in default_plan.deliveries if step.fault == "invalid_document_payload"]
    assert bodies
    for body in bodies:
        repaired = read_body(body.replace(b'\n"uid"', b',\n"uid"')).content
        assert repaired["type"] == "document_purchase_request"


def test_nobody_real_is_in_it(default_plan: Plan) -> None:
    """Names of test persons, addresses at example.com, id numbers that fail their checksum."""
    for _, body in _well_formed(default_plan, "kyc-registration"):
        assert str(body["email"]).endswith("@example.com")
        assert (body["firstName"], str(body["lastName"]).split()[0]) == ("Test", "Person")
        assert not id_number_is_valid(str(body["number"]))
        assert len(str(body["userNo"])) == 32
        assert len(str(body["userNum"])) == 21


def test_a_service_id_begins_with_a_creation_time_before_its_first_event(default_plan: Plan, config: SimulationConfig) -> None:
    """Eight hexadecimal digits of unix seconds, repeated as decimal digits in the back office id."""
    for step, body in _well_formed(default_plan, "kyb-service"):
        created_at = int(str(body["service_id"])[:8], 16)
        assert config.started_at <= created_at <= config.started_at + step.at
        assert str(body["kyb_backoffice_id"]).endswith(str(created_at))


def test_expected_counts_agree_with_what_is_sent(default_plan: Plan, config: SimulationConfig) -> None:
    """Each case is expected to hold exactly the distinct events that are sent about it."""
    kyb: dict[str, set[str]] = defaultdict(set)
    kyc: dict[str, set[str]] = defaultdict(set)
    for step, body in _well_formed(default_plan, "kyb-service"):
        kyb[str(body["service_id"])].add(step.label)
    company = {step.case: str(body["service_id"]) for step, body in _well_formed(default_plan, "kyb-service")}
    for step, body in _well_formed(default_plan, "kyc-registration"):
        identity = identify("kyc-registration", body, config.pseudonymiser)
        assert identity is not None
        unlinked = step.join in {"none", "conflict"}
        case_id = f"kyc:{identity.entity}" if unlinked else company.get(step.case) or str(step.case_token).split(".")[1]
        kyc[case_id].add(step.label)
    required = [case for case in default_plan.expected if case.required]
    assert {case.case_id for case in required} == kyb.keys() | kyc.keys()
    for case in required:
        assert (case.kyb_events, case.kyc_events) == (len(kyb[case.case_id]), len(kyc[case.case_id]))
    assert len({case.case_id for case in default_plan.expected}) == len(default_plan.expected)


def test_links_come_before_or_after_the_callbacks_as_scripted(default_plan: Plan) -> None:
    """`registered` means a link before the first callback, `registered_late` one after the last event was first sent."""
    linked_at: dict[str, float] = {link.case: link.at for link in default_plan.links}
    for step in default_plan.deliveries:
        if step.join == "registered":
            assert linked_at[step.case] < step.at
        if step.join == "registered_late" and step.verdict == "new":
            assert step.at < linked_at[step.case]


def test_disorder_is_what_it_says(default_plan: Plan) -> None:
    """An initiation that comes last does; a callback before the KYB side does."""
    lanes: dict[str, list[PlannedDelivery]] = defaultdict(list)
    for step in default_plan.deliveries:
        lanes[step.case].append(step)
    for lane in lanes.values():
        kyb = [step for step in lane if step.source_kind == "kyb-service"]
        for step in lane:
            if step.fault == "resolved_before_initiated":
                assert any(b"service_resolved" in other.body and other.at < step.at for other in kyb)
            if step.fault == "kyc_before_kyb":
                assert all(step.at < other.at for other in kyb)


@pytest.mark.parametrize(
    ("faults", "shown"),
    [
        ("none", {None}),
        (
            "documented",
            {None, "kyc_retries", "kyc_doubled", "link_names_another_service", "invalid_document_payload"},
        ),
    ],
)
def test_faults_can_be_switched_off(config: SimulationConfig, faults: Faults, shown: set[str | None]) -> None:
    """`none` is one clean delivery of each event; `documented` only what the documents announce or show."""
    a_plan = plan(replace(config, faults=faults))
    assert {step.fault for step in a_plan.deliveries} == shown
    if faults == "none":
        assert {step.verdict for step in a_plan.deliveries} == {"new"}


def test_without_registered_links_there_are_none(config: SimulationConfig) -> None:
    """Where nobody can register a link, no expectation rests on one."""
    a_plan = plan(replace(config, registered_links=False))
    assert not a_plan.links
    assert not {"registered", "registered_late"} & {step.join for step in a_plan.deliveries}


def test_the_scale_stretches_time_and_nothing_else(config: SimulationConfig, default_plan: Plan) -> None:
    """Twice the seconds a day: every step at twice its time."""
    slow = plan(replace(config, scale_seconds_per_day=2.0))
    assert [step.at for step in slow.deliveries] == pytest.approx([2 * step.at for step in default_plan.deliveries])


@pytest.mark.parametrize("cases", [1, 2, 7])
def test_a_tiny_simulation_is_possible(config: SimulationConfig, cases: int) -> None:
    """One case is enough, with its malformed bodies beside it."""
    a_plan = plan(replace(config, cases=cases))
    assert {case.case for case in a_plan.expected} == {f"case-{number:05d}" for number in range(1, cases + 1)}


def test_senseless_configurations_are_refused(config: SimulationConfig) -> None:
    """No cases, no time, or unknown faults are errors of usage."""
    for change in ({"cases": 0}, {"scale_seconds_per_day": 0.0}, {"opening_days": 0.0}, {"faults": "some"}):
        with pytest.raises(UsageError):
            replace(config, **change)


def test_neither_keys_nor_persons_are_shown(config: SimulationConfig, default_plan: Plan) -> None:
    """`repr` of configuration, deliveries and links can go to a log."""
    assert "case token key" not in repr(config)
    delivery = next(step for step in default_plan.deliveries if step.case_token)
    assert str(delivery.case_token) not in repr(delivery)
    assert "Test" not in repr(delivery)
    assert default_plan.links[0].user_no not in repr(default_plan.links[0])

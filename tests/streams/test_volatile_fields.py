"""Fields that change with each repeat: links that are signed anew."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from datetime import timedelta

import msgspec
import pytest

from kybstream.settings import Settings
from kybstream.settings.values import VOLATILE_FIELDS
from streams import intake_state
from streams.policy import TenantPolicy, policies
from streams.processing import IntakeProcess
from tests.streams.pipeline import NAMES, POLICIES, DictState, Door, Told, kyb_body, kyc_body, run_intake

DAY, HOUR = timedelta(days=1), timedelta(hours=1)
VOLATILE = sorted(VOLATILE_FIELDS["kyc-registration"])
BEFORE: Mapping[str, TenantPolicy] = {
    "acme": dataclasses.replace(POLICIES["acme"], volatile_fields={"kyc": frozenset(), "kyb": frozenset()})
}
"""As versions before took the whole body."""


def presigned(number: int, **changes: object) -> dict[str, object]:
    """A callback whose links are signed for the `number`-th time."""
    links = {name: f"https://files.example/{name}?signature={number:064x}" for name in VOLATILE}
    return kyc_body(**{"kycStatus": 3} | links | changes)


def test_links_that_change_with_each_repeat_make_one_event() -> None:
    """Of 118 deliveries: one event, one resubmission, and 117 duplicates of it."""
    door = Door()
    told = run_intake([door.record(door.delivery(presigned(number), after=number * HOUR / 3)) for number in range(118)])
    assert [delivery.verdict for delivery in told.deliveries] == ["new"] + ["duplicate"] * 117
    assert len(told.events) == 1
    assert [case.subjects[0].attempts for case in told.cases().values()] == [1]


@pytest.mark.parametrize("name", VOLATILE)
def test_each_volatile_field_may_also_be_absent(name: str) -> None:
    """Or null, or of another type; what else differs makes an event."""
    door = Door()
    bodies = [presigned(1), presigned(1, **{name: ...}), presigned(1, **{name: None}), presigned(1, **{name: [7]})]
    told = run_intake([door.record(door.delivery(body)) for body in [*bodies, presigned(1, kycStatus=1)]])
    assert [delivery.verdict for delivery in told.deliveries] == ["new", *["duplicate"] * 3, "new"]


def test_a_kyb_webhook_has_no_volatile_fields() -> None:
    """Nothing of it is documented to change."""
    door = Door()
    bodies = [kyb_body(amlReport=number) for number in range(2)]
    told = run_intake([door.record(door.delivery(body)) for body in bodies])
    assert [delivery.verdict for delivery in told.deliveries] == ["new", "new"]


def test_a_source_says_which_fields_are_volatile() -> None:
    """Of that source; of others, and of sources that the worker does not know, those of their kind."""
    source = {"kind": "kyc-registration", "tenant": "acme", "token": "t" * 22}
    settings = Settings.model_validate(
        {
            "tenants": [{"name": "acme", "pseudonym_key": "pseudonym-key-of-acme", "case_token_keys": ["k" * 16]}],
            "sources": [
                source | {"name": "own", "volatile_fields": ["seenAt"]},
                source | {"name": "none", "volatile_fields": []},
            ],
        }
    )
    found = policies(settings)["acme"]
    names = {name: found.volatile(name, "kyc-registration") for name in ("own", "none", "elsewhere")}
    assert names == {"own": {"seenAt"}, "none": set(), "elsewhere": VOLATILE_FIELDS["kyc-registration"]}
    door = Door()
    bodies = [presigned(1, seenAt=1), presigned(1, seenAt=2), presigned(2, seenAt=2)]
    told = run_intake([door.record(door.delivery(body, source="own")) for body in bodies], policies(settings))
    assert [delivery.verdict for delivery in told.deliveries] == ["new", "duplicate", "new"]


@pytest.mark.parametrize("kept", [64, 1, 0], ids=["in the entry", "one in it", "each in one of its own"])
def test_what_was_judged_before_the_upgrade_counts_no_second_time(kept: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Processed again, in any order, by the version that leaves volatile fields out: every verdict and event is as it was."""
    monkeypatch.setattr("streams.intake.SEEN_KEPT", kept)
    assert intake_state.SEEN_KEPT == 64
    door, state, told = Door(), DictState(), Told()
    bodies = [presigned(1), presigned(1), presigned(2), presigned(1), kyc_body(kycStatus=1), presigned(2)]
    records = [door.record(door.delivery(body, after=number * HOUR)) for number, body in enumerate(bodies)]
    judge(BEFORE, records, state, told)
    assert [delivery.verdict for delivery in told.deliveries] == ["new", "duplicate", "new", "duplicate", "new", "duplicate"]
    before = sorted(msgspec.msgpack.encode(each) for each in (*told.deliveries, *told.events))

    fresh = [door.record(door.delivery(presigned(number), after=DAY + number * HOUR)) for number in (3, 4)]
    again = Told()
    judge(POLICIES, [*reversed(records), *fresh, *records], state, again)
    verdicts = {delivery.delivery_id: delivery for delivery in again.deliveries}
    new = [verdicts.pop(f"delivery-{number:04}").verdict for number in (7, 8)]
    assert new == ["new", "duplicate"]
    events = {event.event_id: event for event in again.events if event.delivery_id in verdicts}
    assert sorted(msgspec.msgpack.encode(each) for each in (*verdicts.values(), *events.values())) == before
    assert len({event.event_id for event in again.events}) == len(told.events) + 1


def judge(rules: Mapping[str, TenantPolicy], records: list, state: DictState, told: Told) -> None:  # type: ignore[type-arg]
    """Each record as a batch of its own."""
    for record in records:
        result = IntakeProcess(rules, NAMES)(0, [record], state)
        state.write(result.writes)
        told.outputs += result.outputs

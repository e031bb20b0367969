"""The same body again and again, each time after its window: entries of bounded size, and verdicts as if all lay in one."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.topics import entity_key
from streams.batching.records import Record as KafkaRecord
from streams.expiring import IntakeRemains
from streams.policy import TenantPolicy
from streams.processing import IntakeProcess
from tests.streams.pipeline import NAMES, POLICIES, SERVICE_ID, DictState, Door, Told, kyb_body

ALERT = {"type": "ongoing_aml_webhook", "status": "resolved", "link": "x"}
ENTRY_BYTES = 16 * 1024
SECOND = timedelta(seconds=1)


def window(length: timedelta) -> dict[str, TenantPolicy]:
    """A tenant whose alerts repeat one another for so long."""
    return {"acme": replace(POLICIES["acme"], ongoing_aml_window=length)}


def read(records: list[KafkaRecord], policies: dict[str, TenantPolicy], state: DictState) -> tuple[Told, int]:
    """All that was told, and the most that one record wrote."""
    process, told, most = IntakeProcess(policies, NAMES), Told(), 0
    for record in records:
        result = process(0, [record], state)
        assert not result.dead
        state.write(result.writes)
        told.outputs += result.outputs
        most = max(most, sum(len(value or b"") for value in result.writes.values()))
    return told, most


@pytest.mark.parametrize(
    ("length", "every", "service_id"),
    [
        (timedelta(minutes=10), timedelta(seconds=601), "\N{GRINNING FACE}" * 512),
        (timedelta(milliseconds=60), SECOND, SERVICE_ID),
        (timedelta(milliseconds=60), timedelta(milliseconds=61), SERVICE_ID),
        (timedelta(0), timedelta(microseconds=1), SERVICE_ID),
    ],
)
def test_an_alert_just_after_its_window_costs_the_same_for_the_thousandth_time(
    length: timedelta, every: timedelta, service_id: str
) -> None:
    """Each is an event of its own, again after a replay of all of them, and no entry grows with their number."""
    door, state = Door(), DictState()
    deliveries = [door.delivery(kyb_body(service_id=service_id, **ALERT), after=number * every) for number in range(1_000)]
    records = [door.record(delivery) for delivery in deliveries]
    told, most = read(records, window(length), state)
    assert {verdict.verdict for verdict in told.deliveries} == {"new"}
    assert max(map(len, state.values.values())) < ENTRY_BYTES
    assert most < 2 * ENTRY_BYTES
    assert read(records, window(length), state)[0].outputs == told.outputs


@st.composite
def alerts(draw: st.DrawFn) -> list[KafkaRecord]:
    """Deliveries of one alert at any times, late ones among them, and some of them processed again."""
    door, at, records = Door(), 0, list[KafkaRecord]()
    for _ in range(draw(st.integers(1, 40))):
        at += draw(st.sampled_from([0, 1, 4, 5, 6, 7, 40]))
        late = draw(st.sampled_from([0, 0, 0, 3, 11, 60]))
        records.append(door.record(door.delivery(kyb_body(**ALERT), after=(at - late) * SECOND)))
    return records + draw(st.lists(st.sampled_from(records), max_size=10))


@given(records=alerts(), within=st.sampled_from([0, 64]), swept=st.booleans())
@settings(max_examples=200, deadline=None)
def test_events_by_time_are_judged_as_those_in_one_entry(records: list[KafkaRecord], within: int, *, swept: bool) -> None:
    """In whatever order deliveries come: the same outputs, byte for byte, wherever the fingerprint's own entry lies."""
    policies = window(5 * SECOND)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("streams.repeats.OCCURRENCES_KEPT", 1_000)
        want = read(records, policies, DictState())[0]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("streams.repeats.OCCURRENCES_KEPT", 2)
        patch.setattr("streams.by_time.STRETCH", 3)
        patch.setattr("streams.intake.SEEN_KEPT", within)
        state = DictState()
        got = read(records[:20], policies, state)[0]
        if swept:
            remains, now = IntakeRemains(policies), 1_772_355_600_000_000
            state.write({key: remains(key, value, now) for key, value in state.values.items()})
        got.outputs += read(records[20:], policies, state)[0].outputs
    assert got.outputs == want.outputs


def test_an_entry_of_an_older_version_with_many_events_is_read_on() -> None:
    """What it holds is judged as before, with the case in each event; only new events lie by time."""
    door, state, policies = Door(), DictState(), window(SECOND)
    records = [door.record(door.delivery(kyb_body(**ALERT), after=2 * number * SECOND)) for number in range(80)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("streams.repeats.OCCURRENCES_KEPT", 1_000)
        before = read(records[:60], policies, state)[0]
    after = read(records, policies, state)[0]
    assert after.outputs[: len(before.outputs)] == before.outputs
    assert {verdict.verdict for verdict in after.deliveries} == {"new"}
    assert {verdict.case_id for verdict in after.deliveries} == {SERVICE_ID}


def test_what_lies_by_time_expires_with_what_it_stands_for() -> None:
    """Seven days after the last alert, and a day for the mark, nothing is left."""
    door, state, policies = Door(), DictState(), window(SECOND)
    records = [door.record(door.delivery(kyb_body(**ALERT), after=2 * number * SECOND)) for number in range(200)]
    read(records, policies, state)
    assert len(state.values) > 3
    remains = IntakeRemains(policies)
    last = 1_772_355_600_000_000 + (9 * 86_400 + 400) * 1_000_000
    for _ in range(2):
        state.write({key: remains(key, value, last) for key, value in state.values.items()})
    assert entity_key("acme", SERVICE_ID).encode() not in state.values
    assert not state.values

"""Exceptions that nobody foresaw: the record becomes a dead letter, its neighbours go on, and nothing of it leaks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from kybstream.errors import RunError
from schemas.codec import decode, encode
from schemas.records import CaseEvent, DeadLetter, Link
from schemas.topics import entity_key
from streams import dead_lettering, processing
from streams.batching import Process
from streams.processing import CasesProcess, IntakeProcess
from tests.streams.pipeline import (
    NAMES,
    POLICIES,
    SERVICE_ID,
    START,
    DictState,
    Door,
    Told,
    as_record,
    kyb_body,
    kyc_body,
    link_record,
    subject_of,
)

SECRET = "Erika Mustermann"


def failing(monkeypatch: pytest.MonkeyPatch, name: str, when: Callable[..., bool], error: Exception | None = None) -> None:
    """Makes a function of the processing raise for some of its arguments."""
    module = processing if hasattr(processing, name) else dead_lettering
    real = getattr(module, name)

    def or_fail(*arguments: Any, **options: Any) -> Any:
        if when(*arguments):
            raise error or ValueError(f"cannot do {SECRET}")
        return real(*arguments, **options)

    monkeypatch.setattr(module, name, or_fail)


def test_a_delivery_whose_processing_fails_is_quarantined_and_its_neighbours_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """The dead letter holds it whole, and of the exception its class and place: never its text, which may quote the body."""
    door = Door()
    deliveries = [door.delivery(kyb_body(status=status)) for status in ("pending", "resolved", "pending")]
    failing(monkeypatch, "intake", lambda _state, delivery, *_: delivery.delivery_id == deliveries[1].delivery_id)
    result = IntakeProcess(POLICIES, NAMES)(0, [door.record(each) for each in deliveries], DictState())
    told = Told(list(result.outputs))
    assert [verdict.verdict for verdict in told.deliveries] == ["new", "quarantined", "duplicate"]
    (letter,) = told.dead_letters
    assert (letter.stage, letter.reason, letter.delivery_id) == ("intake", "failed", deliveries[1].delivery_id)
    assert (letter.detail or "").startswith("ValueError in tests.streams.test_failures:")
    assert letter.origin_value == encode(deliveries[1])
    assert [(dead.reason, dead.may_be_ours, dead.detail) for dead in result.dead] == [("failed", True, letter.detail)]
    assert SECRET not in repr(result)


def test_a_link_whose_processing_fails_is_a_dead_letter_of_the_links(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has no verdict, but it is not lost."""
    failing(monkeypatch, "intake_link", lambda *_: True)
    link = Link(link_id="l", tenant="acme", case_id=SERVICE_ID, subject=subject_of(kyc_body()), registered_at=START)
    told = Told(list(IntakeProcess(POLICIES, NAMES)(0, [link_record(link)], DictState()).outputs))
    assert [(letter.stage, letter.reason, letter.received_at) for letter in told.dead_letters] == [("links", "failed", START)]
    assert told.deliveries == []


def test_a_case_event_whose_processing_fails_leaves_the_case_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next event of the same case is folded as if the failed one had not come."""
    events = [CaseEvent(event_id=f"e{at}", tenant="acme", case_id=SERVICE_ID, received_at=START, kind="kyb") for at in range(3)]
    records = [as_record(NAMES.case_events, entity_key("acme", SERVICE_ID), encode(each)) for each in events]
    failing(monkeypatch, "case", lambda _state, event, *_: event.event_id == "e1")
    result = CasesProcess(POLICIES, NAMES)(0, records, DictState())
    assert [output.topic for output in result.outputs] == [NAMES.cases, NAMES.dead_letters, NAMES.cases]
    letter = decode(result.outputs[1].value or b"", DeadLetter)
    assert (letter.stage, letter.reason) == ("cases", "failed")
    assert SECRET not in repr(result)
    monkeypatch.undo()
    assert result.writes == CasesProcess(POLICIES, NAMES)(0, records[::2], DictState()).writes


@pytest.mark.parametrize("broken", ["output_of", "cloud_event_headers"])
def test_what_cannot_be_told_is_not_remembered(monkeypatch: pytest.MonkeyPatch, broken: str) -> None:
    """An output that cannot be encoded fails its record alone, and no state says that it was told."""
    door = Door()
    deliveries = [door.delivery(kyb_body(service_id=name)) for name in ("one", "two")]
    failing(monkeypatch, broken, lambda *values: any(getattr(value, "case_id", None) == "one" for value in values))
    result = IntakeProcess(POLICIES, NAMES)(0, [door.record(each) for each in deliveries], DictState())
    assert [letter.reason for letter in Told(list(result.outputs)).dead_letters] == ["failed"]
    assert set(result.writes) == {entity_key("acme", "two").encode()}


@pytest.mark.parametrize("stage", ["intake", "cases"])
def test_a_state_that_cannot_be_read_fails_its_own_records_only(stage: str) -> None:
    """As after a step back to an older version: the other keys go on, and the state is left alone."""
    door = Door()
    process: Process
    if stage == "intake":
        process = IntakeProcess(POLICIES, NAMES)
        records = [door.record(door.delivery(kyb_body(service_id=name))) for name in ("one", "two")]
    else:
        process = CasesProcess(POLICIES, NAMES)
        events = [
            CaseEvent(event_id="e", tenant="acme", case_id=name, received_at=START, kind="kyb") for name in ("one", "two")
        ]
        records = [as_record(NAMES.case_events, entity_key("acme", each.case_id), encode(each)) for each in events]
    result = process(0, records, DictState({entity_key("acme", "one").encode(): msgspec.msgpack.encode("of another version")}))
    (letter,) = Told(list(result.outputs)).dead_letters
    assert (letter.reason, (letter.detail or "").split()[0]) == ("failed", "ValidationError")
    assert set(result.writes) == {entity_key("acme", "two").encode()}


@pytest.mark.parametrize("error", [MemoryError(), RunError("no record's fault")])
def test_what_is_no_records_fault_is_not_taken_for_it(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """A machine without memory, or an error of ours, ends the batch: nothing of it becomes a dead letter."""
    door = Door()
    failing(monkeypatch, "intake", lambda *_: True, error)
    with pytest.raises(type(error)):
        IntakeProcess(POLICIES, NAMES)(0, [door.record(door.delivery(kyb_body()))], DictState())
    event = CaseEvent(event_id="e", tenant="acme", case_id=SERVICE_ID, received_at=START, kind="kyb")
    failing(monkeypatch, "case", lambda *_: True, error)
    with pytest.raises(type(error)):
        CasesProcess(POLICIES, NAMES)(
            0, [as_record(NAMES.case_events, entity_key("acme", SERVICE_ID), encode(event))], DictState()
        )

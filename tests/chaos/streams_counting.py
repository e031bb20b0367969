"""What the worker told of a load, counted in the topics, against what the load must come to."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Generic, TypeVar

import msgspec
from aiokafka import ConsumerRecord

from kybstream.settings import Settings
from schemas.codec import decode
from schemas.records import Case, CaseEvent, DeadLetter, Delivery, Event, Record
from schemas.topics import CASE_EVENTS, CASES, DEAD_LETTERS, DELIVERIES, EVENTS
from tests.chaos.streams_expected import Expected, merge_of
from tests.streams.model import Rules, expected_case
from tests.support.topics import whole_topic

R = TypeVar("R", bound=Record)


@dataclass(frozen=True)
class Told(Generic[R]):
    """The records of a topic, each once, and how many there were."""

    records: list[R]
    written: int

    @property
    def copies(self) -> int:
        """How many were written again."""
        return self.written - len(self.records)


@dataclass(frozen=True)
class Count:
    """What a run came to: of each topic the records, and those written again."""

    deliveries: Told[Delivery]
    events: Told[Event]
    case_events: Told[CaseEvent]
    cases: Told[Case]
    current_cases: int
    moved: int

    def __str__(self) -> str:
        topics: dict[str, Told[Any]] = {
            "deliveries": self.deliveries,
            "events": self.events,
            "case events": self.case_events,
            "snapshots": self.cases,
        }
        told = ", ".join(f"{len(each.records)} {name} (+{each.copies} again)" for name, each in topics.items())
        return f"{told}; {self.current_cases} cases, {self.moved} subjects whose link was read after a result"


async def count(settings: Settings, expected: Expected) -> Count:
    """Reads the topics with a consumer that has nothing of ours, and fails on the first thing that is not as expected.

    - Records of one id are equal to the byte, key and headers too, and lie in one partition.
    - Every delivery has one verdict, the one that it must have; every event is there once, of the delivery that came first.
    - Every case has the events that it must have, and its newest snapshot is what the rules of `tests.streams.model` say of
      them; its versions go up by one without a gap.
    """
    deliveries = await _read(settings, DELIVERIES, Delivery, lambda each: each.delivery_id)
    events = await _read(settings, EVENTS, Event, lambda each: each.event_id)
    letters = await _read(settings, DEAD_LETTERS, DeadLetter, lambda each: each.dead_letter_id)
    _check_deliveries(deliveries.records, events.records, letters.records, expected)

    case_events = await _read(settings, CASE_EVENTS, CaseEvent, lambda each: (each.case_id, each.event_id))
    by_case: defaultdict[str, list[CaseEvent]] = defaultdict(list)
    for event in case_events.records:
        by_case[event.case_id].append(event)
    moved = _check_case_events(by_case, events.records, expected)

    cases = await _read(settings, CASES, Case, lambda each: (each.case_id, each.version))
    newest: dict[str, Case] = {}
    for case in cases.records:
        if case.case_id not in newest or newest[case.case_id].version < case.version:
            newest[case.case_id] = case
    (tenant,) = settings.tenants
    rules = Rules(timedelta(days=tenant.case_deadline_days), kyc_always=False)
    assert newest.keys() == by_case.keys()
    for case_id, told in by_case.items():
        assert newest[case_id] == expected_case(tenant.name, case_id, told, rules)
    # So each version is there: none is above the number of the case's events.
    assert len(cases.records) == len(case_events.records)
    return Count(deliveries, events, case_events, cases, len(newest), moved)


def _check_deliveries(
    deliveries: Iterable[Delivery], events: Iterable[Event], letters: Iterable[DeadLetter], expected: Expected
) -> None:
    verdicts = {each.delivery_id: each for each in deliveries}
    assert verdicts.keys() == expected.first.keys()
    made = {each.delivery_id: each for each in events}
    assert sorted(each.delivery_id for each in events) == sorted(
        name for name, first in expected.first.items() if first == name
    )
    for name, first in expected.first.items():
        verdict = verdicts[name]
        if first is None:
            assert (verdict.verdict, verdict.reason, verdict.event_id) == ("quarantined", "not_json", None)
        else:
            assert verdict.verdict == ("new" if first == name else "duplicate")
            assert verdict.first_delivery_id == first
            assert (verdict.event_id, verdict.case_id) == (made[first].event_id, made[first].case_id)
    assert sorted(each.delivery_id or "" for each in letters) == sorted(
        name for name, first in expected.first.items() if first is None
    )


def _check_case_events(by_case: dict[str, list[CaseEvent]], events: Iterable[Event], expected: Expected) -> int:
    """Fails unless each case has the events it must have; returns how many subjects had a result before their link was read."""
    early = Counter(each.subject for each in events if each.placement == "unlinked" and each.subject in expected.moving)
    want = {case_id: list(told) for case_id, told in expected.told.items()}
    for subject, results in early.items():
        assert subject is not None
        want[f"kyc:{subject}"] = merge_of(expected, subject, expected.moving[subject][1][:results])
    assert by_case.keys() == want.keys()
    for case_id, told in by_case.items():
        assert Counter(map(_content, told)) == Counter(map(_content, want[case_id])), case_id
    ids = {
        event_id for told in by_case.values() for event in told if event.kind in {"kyb", "kyc"} for event_id in [event.event_id]
    }
    assert ids == {each.event_id for each in events}
    return len(early)


def _content(event: CaseEvent) -> CaseEvent:
    """The event without the ids that only processing knows."""
    return msgspec.structs.replace(event, event_id="", moved_events=())


async def _read(settings: Settings, suffix: str, kind: type[R], identify: Callable[[R], Hashable]) -> Told[R]:
    """The records of a topic by their id; a copy that is not equal to the byte, or lies in another partition, is an error."""
    records = await whole_topic(settings.kafka, settings.topic(suffix), settings.kafka.partitions)
    kept: dict[Hashable, ConsumerRecord] = {}
    found: list[R] = []
    for record in records:
        value = decode(record.value, kind)
        name = identify(value)
        first = kept.setdefault(name, record)
        if first is record:
            found.append(value)
        same = (first.partition, first.key, first.value, first.headers)
        assert same == (record.partition, record.key, record.value, record.headers), f"two records of {kind.__name__} {name}"
    return Told(found, len(records))

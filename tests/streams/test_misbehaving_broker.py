"""Intake and cases together on a broker that redelivers, reorders and repeats, with a worker that is killed at any step."""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable
from datetime import timedelta
from typing import TypeVar

import msgspec
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from kybstream.privacy import make_case_token
from schemas.codec import decode
from schemas.links import make_link, make_withdrawal
from schemas.records import Case, CaseEvent, DeadLetter, Delivery, Event, Record
from streams.batching.records import Record as KafkaRecord
from streams.flood import BOUNDS
from streams.policy import DEFAULT_DEADLINE
from tests.streams.membership import is_here
from tests.streams.misbehaving_broker import PARTITIONS, Broker, Kill
from tests.streams.model import Rules, expected_case
from tests.streams.pipeline import (
    NAMES,
    OTHER_SERVICE_ID,
    SERVICE_ID,
    START,
    TOKEN_KEY,
    Door,
    kyb_body,
    kyc_body,
    link_record,
    subject_of,
)

R = TypeVar("R", bound=Record)

COMPANIES = {"a" * 32: SERVICE_ID, "b" * 32: SERVICE_ID}
"""Whom each person belongs to; whoever says otherwise is wrong."""

PERSONS = st.sampled_from(sorted(COMPANIES))
KILLS = st.none() | st.builds(Kill, st.integers(0, 3), st.sampled_from([0.0, 0.5, 1.0]), st.booleans(), st.booleans())
PLACES = st.sampled_from(Broker().places)
TURNS = st.lists(st.tuples(st.integers(0, 11), st.integers(1, 6), KILLS), min_size=1, max_size=8)
"""Which of the partitions that are behind, how many records of it, and a kill."""
FEW = 2 * BOUNDS.edge
"""Links, and withdrawals, that are all kept one by one: of more, the case says that there are many, and the model does not."""


class MisbehavingBroker(RuleBasedStateMachine):
    """What is written is drawn; so is what the broker makes of it, and when the worker is killed."""

    def __init__(self) -> None:
        super().__init__()
        self.broker = Broker()
        self.door = Door()
        self.now = timedelta(0)
        self.first: dict[bytes, str] = {}
        self.expected: dict[str, str | None] = {}
        self.results: Counter[str] = Counter()
        self.named: defaultdict[str, set[str]] = defaultdict(set)
        self.tokened: set[str] = set()
        self.links: list[tuple[str, str, timedelta]] = []
        self.withdrawals: list[tuple[str, str, timedelta]] = []

    # -- what is written

    @initialize()
    def begin(self) -> None:
        """There is something to deliver: a company, its persons, and a link."""
        self._send(kyb_body())
        for person in COMPANIES:
            self.send_kyc(person, 3, 0, tokened=False)
        self.register(min(COMPANIES), wrong=False)

    @rule(
        case_id=st.sampled_from([SERVICE_ID, OTHER_SERVICE_ID]), resolved=st.booleans(), service=st.sampled_from(["aml", "kyc"])
    )
    def send_kyb(self, case_id: str, service: str, *, resolved: bool) -> None:
        """A KYB webhook, often one that was sent before."""
        kind, status = ("service_resolved", "resolved") if resolved else ("service_initiated", "pending")
        self._send(kyb_body(service_id=case_id, type=kind, status=status, services=[service]))

    @rule(
        person=PERSONS, status=st.sampled_from([1, 3]), attempt=st.integers(0, 3), tokened=st.sampled_from([False, False, True])
    )
    def send_kyc(self, person: str, status: int, attempt: int, *, tokened: bool) -> None:
        """A KYC callback, often one that was sent before, with or without a token for the person's company."""
        body = kyc_body(userNo=person, kycStatus=status, remark=f"attempt {attempt}")
        if tokened:
            self.tokened.add(person)
            self.named[person].add(COMPANIES[person])
        if self._send(body, make_case_token(COMPANIES[person], TOKEN_KEY) if tokened else None):
            self.results[person] += 1

    @rule()
    def send_garbage(self) -> None:
        """A webhook that is no JSON."""
        self._send(b"no json")

    @precondition(lambda self: len(self.links) < FEW)
    @rule(person=PERSONS, wrong=st.sampled_from([False, False, False, True]))
    def register(self, person: str, *, wrong: bool) -> None:
        """A link, seldom to another company than the person's."""
        case_id = OTHER_SERVICE_ID if wrong else COMPANIES[person]
        self._tick()
        self.named[person].add(case_id)
        self.links.append((person, case_id, self.now))
        link = make_link("acme", case_id, self._subject(person), expected_subjects=None, registered_at=START + self.now)
        self._append(link_record(link))

    @precondition(lambda self: self.links and len(self.withdrawals) < FEW)
    @rule(data=st.data())
    def withdraw(self, data: st.DataObject) -> None:
        """A link is taken back."""
        person, case_id, _ = data.draw(st.sampled_from(self.links))
        self._tick()
        self.withdrawals.append((person, case_id, self.now))
        self._append(link_record(make_withdrawal("acme", case_id, self._subject(person), withdrawn_at=START + self.now)))

    # -- what becomes of it

    @rule(turns=TURNS)
    def deliver(self, turns: list[tuple[int, int, Kill | None]]) -> None:
        """Some batches of any partitions of any topics; the worker may be killed in the middle of each."""
        for place, size, kill in turns:
            behind = self.broker.behind()
            if behind:
                self.broker.deliver(*behind[place % len(behind)], size, kill)

    @rule()
    def commit(self) -> None:
        """The worker commits."""
        self.broker.commit()

    @rule(store_lost=st.booleans())
    def kill(self, *, store_lost: bool) -> None:
        """The worker is killed between two batches, and started with its local state or without."""
        self.broker.start_again(store_lost=store_lost)

    @rule(place=PLACES, share=st.floats(0, 1))
    def deliver_again(self, place: tuple[str, str, int], share: float) -> None:
        """A partition goes back to an earlier offset."""
        _, topic, number = place
        self.broker.read_again(topic, number, int(self.broker.finished[topic, number] * share))

    @rule(place=PLACES, share=st.floats(0, 0.99))
    def write_again(self, place: tuple[str, str, int], share: float) -> None:
        """A record is in its topic twice."""
        _, topic, number = place
        log = self.broker.logs[topic, number]
        if log:
            self.broker.append_again(log[int(len(log) * share)])

    # -- what must have come of it

    def teardown(self) -> None:
        """Everything is delivered; then it is as if nothing had misbehaved."""
        self.broker.drain()
        deliveries = self._once(NAMES.deliveries, Delivery, lambda each: each.delivery_id)
        events = self._once(NAMES.events, Event, lambda each: each.event_id)
        letters = self._once(NAMES.dead_letters, DeadLetter, lambda each: each.dead_letter_id)
        verdicts = {each.delivery_id: (each.verdict, each.first_delivery_id) for each in deliveries}
        assert verdicts == {
            name: ("quarantined", None) if first is None else ("new" if first == name else "duplicate", first)
            for name, first in self.expected.items()
        }
        assert sorted(each.delivery_id for each in events) == sorted(set(self.first.values()))
        assert {each.delivery_id for each in letters} == {name for name, first in self.expected.items() if first is None}

        told: defaultdict[str, list[CaseEvent]] = defaultdict(list)
        for event in self._once(NAMES.case_events, CaseEvent, lambda each: (each.case_id, each.event_id)):
            told[event.case_id].append(event)
        cases = self._once(NAMES.cases, Case, lambda each: (each.case_id, each.version))
        newest = {case.case_id: case for case in sorted(cases, key=lambda case: case.version)}
        rules = Rules(DEFAULT_DEADLINE, kyc_always=False)
        assert newest == {case_id: expected_case("acme", case_id, known, rules) for case_id, known in told.items()}
        assert len(cases) == sum(map(len, told.values()))
        self._check_homes(told, {event.event_id: event for event in events})

    def _check_homes(self, told: dict[str, list[CaseEvent]], events: dict[str, Event]) -> None:
        """Every event is on one case: a company's on its own, a result where what was said of the person, in all, puts it."""
        homes: defaultdict[str, list[str]] = defaultdict(list)
        for case_id, known in told.items():
            for event in known:
                if event.kind in {"kyb", "kyc"} and is_here(event.event_id, known):
                    homes[event.event_id].append(case_id)
        assert homes.keys() == events.keys()
        for made in events.values():
            assert len(homes[made.event_id]) == 1
            if made.subject is None:
                assert homes[made.event_id] == [made.service_id]
        for person, company in COMPANIES.items():
            subject = self._subject(person)
            mine = [homes[each.event_id] for each in events.values() if each.subject == subject]
            assert len(mine) == self.results[person]
            if self.named[person] <= {company}:
                home = company if person in self.tokened or self._is_registered(person) else f"kyc:{subject}"
                assert mine == [[home]] * len(mine)

    def _is_registered(self, person: str) -> bool:
        return any(
            not any(by == person and of == case_id and taken >= at for by, of, taken in self.withdrawals)
            for who, case_id, at in self.links
            if who == person
        )

    def _once(self, topic: str, kind: type[R], identify: Callable[[R], Hashable]) -> list[R]:
        """The records by their id; copies must be equal to the byte."""
        kept: dict[Hashable, KafkaRecord] = {}
        found: list[R] = []
        for record in self.broker.told(topic):
            value = decode(record.value or b"", kind)
            first = kept.setdefault(identify(value), record)
            if first is record:
                found.append(value)
            assert first == record
        return found

    def _send(self, body: dict[str, object] | bytes, case_token: str | None = None) -> bool:
        """Writes a delivery; whether it is one that makes an event."""
        self._tick()
        delivery = self.door.delivery(body, after=self.now, case_token=case_token)
        is_new = False
        if isinstance(body, bytes):
            self.expected[delivery.delivery_id] = None
        else:
            content = msgspec.json.encode(body)
            is_new = content not in self.first
            self.expected[delivery.delivery_id] = self.first.setdefault(content, delivery.delivery_id)
        self._append(self.door.record(delivery))
        return is_new

    def _append(self, record: KafkaRecord) -> None:
        self.broker.append(record.topic, record.key, record.value)

    def _tick(self) -> None:
        self.now += timedelta(minutes=7)

    def _subject(self, person: str) -> str:
        return subject_of(kyc_body(userNo=person))


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("step", range(4))
def test_a_kill_within_any_step_and_then_a_lost_store_make_no_difference(step: int, share: float) -> None:
    """What the machine below seldom draws: after a kill a link is read first; what was read again is not remembered twice.

    The worker is killed within a step of the intake and of the cases, reads again, loses its store, and more comes.
    """
    for link_first, committed in itertools.product([False, True], repeat=2):
        machine = MisbehavingBroker()
        broker = machine.broker
        machine.begin()
        kill = Kill(step, share, committed, store_lost=False)
        for number in range(PARTITIONS):
            broker.deliver("intake", NAMES.raw, number, 2, kill)
        for topic in (NAMES.links, NAMES.raw) if link_first else (NAMES.raw, NAMES.links):
            for number in range(PARTITIONS):
                broker.deliver("intake", topic, number, 6)
        for number in range(PARTITIONS):
            broker.deliver("cases", NAMES.case_events, number, 2, kill)
        broker.drain()
        broker.commit()
        broker.start_again(store_lost=True)
        machine.send_kyb(SERVICE_ID, "aml", resolved=True)
        for person in COMPANIES:
            machine.send_kyc(person, 1, 1, tokened=False)
        machine.teardown()


TestMisbehavingBroker = MisbehavingBroker.TestCase
TestMisbehavingBroker.settings = settings(
    max_examples=80,
    stateful_step_count=40,
    deadline=None,
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
    suppress_health_check=[HealthCheck.too_slow],
)

"""What Kafka refuses for its size becomes a dead letter of its record, and its neighbours go on."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from hypothesis import given as drawn
from hypothesis import strategies as st

from deploy.embedded.apache_kafka import KafkaNode
from schemas.codec import decode
from schemas.records import Case, DeadLetter, Delivery
from schemas.topics import CASES, DEAD_LETTERS, DELIVERIES, EVENTS
from streams.batching.producer import BatchProducer
from streams.batching.records import Output, Record
from streams.batching.sizes import TopicSizes, alone_bytes, estimated_bytes
from streams.processing import CasesProcess, IntakeProcess
from streams.worker import CASES_TABLE, INTAKE_TABLE
from tests.streams.pipeline import NAMES, POLICIES, DictState, Door, Told, as_record, kyb_body, run_intake
from tests.streams.running import Lab, lab, running_worker
from tests.support.waiting import wait_until

FAT = [f"service-{number:04}-{'x' * 30}" for number in range(60)]


def sizes(limits: Mapping[str, int]) -> TopicSizes:
    """Topics with limits."""
    made = TopicSizes()
    made.set(limits)
    return made


class TestSizes:
    """`TopicSizes`."""

    @drawn(
        st.one_of(st.none(), st.binary(max_size=80)),
        st.one_of(st.none(), st.binary(max_size=400)),
        st.lists(st.tuples(st.text(max_size=9), st.binary(max_size=90)), max_size=4),
    )
    def test_the_border_is_kafkas(self, key: bytes | None, value: bytes | None, headers: list[tuple[str, bytes]]) -> None:
        """A record fits to the byte, and the estimate is never below."""
        output = Output("t", key, value, headers)
        size = alone_bytes(output)
        assert size <= estimated_bytes(key, value, headers) <= size + 21
        limits = sizes({"t": size})
        assert limits.fits(output)
        assert limits.exceeded() == frozenset()
        limits.set({"t": size - 1})
        assert not limits.fits(output)
        assert limits.exceeded() == {"t"}
        assert limits.fits(Output("another", key, value, headers))

    def test_what_a_topic_refuses_although_it_should_take_it_is_remembered(self) -> None:
        """As where nobody may ask for its limit: a lone record is too large then, and of several the next batch is smaller."""
        limits = TopicSizes()
        output = Output("t", b"k", b"v" * 100)
        limits.refused("t", 10_000, 7)
        assert (limits.together("t", 1_000_000), limits.fits(output)) == (5_000, True)
        limits.refused("t", alone_bytes(output), 1)
        assert not limits.fits(output)
        assert limits.set({"t": 9_000})
        assert limits.fits(output)
        assert not limits.set({"t": 9_000})


def test_the_intake_goes_on_as_if_the_records_had_not_come() -> None:
    """Several of a batch, for an event and for a state: each is quarantined, and the others say what they say without them."""
    door = Door()
    lean = [door.record(door.delivery(kyb_body(service_id=name))) for name in ("one", "two", "three")]
    fat = [door.record(door.delivery(kyb_body(service_id=name, services=FAT))) for name in ("one", "four")]
    limited = sizes({NAMES.events: 800})
    result = IntakeProcess(POLICIES, NAMES, fits=limited.fits)(0, [fat[0], *lean[:2], fat[1], lean[2]], DictState())
    told, without = Told(list(result.outputs)), IntakeProcess(POLICIES, NAMES)(0, lean, DictState())
    assert result.writes == without.writes
    assert [verdict.verdict for verdict in told.deliveries] == ["quarantined", "new", "new", "quarantined", "new"]
    assert [(dead.reason, dead.may_be_ours) for dead in result.dead] == [("too_large", False)] * 2
    assert [letter.origin_value for letter in told.dead_letters] == [record.value for record in fat]
    assert {letter.reason for letter in told.dead_letters} == {"too_large"}
    assert NAMES.events in (told.dead_letters[0].detail or "")
    state = sizes({"the-changelog": max(len(each or b"") for each in without.writes.values()) // 2})
    refusing = IntakeProcess(POLICIES, NAMES, changelog="the-changelog", fits=state.fits)(0, lean, DictState())
    assert (refusing.writes, len(refusing.dead)) == ({}, 3)


def test_a_case_stays_as_it_was_before_an_event_that_makes_it_too_large() -> None:
    """Its version goes on from there with the next event."""
    door = Door()
    bodies = [kyb_body(), kyb_body(services=FAT, status="resolved"), kyb_body(type="service_resolved", status="resolved")]
    outputs = run_intake([door.record(door.delivery(body)) for body in bodies]).outputs
    records = [
        as_record(each.topic, each.key, each.value, at) for at, each in enumerate(outputs) if "case-events" in each.topic
    ]
    assert len(records) == 3
    limited = sizes({NAMES.cases: 600})
    result = CasesProcess(POLICIES, NAMES, fits=limited.fits)(0, records, DictState())
    without = CasesProcess(POLICIES, NAMES)(0, [records[0], records[2]], DictState())
    assert result.writes == without.writes
    cases = [decode(each.value or b"", Case).version for each in result.outputs if each.topic == NAMES.cases]
    assert cases == [1, 2]
    assert [dead.offset for dead in result.dead] == [records[1].offset]


@pytest.mark.parametrize(("most", "headers_kept"), [(1_500, True), (900, False)])
def test_a_letter_that_does_not_fit_itself_lacks_the_value(most: int, headers_kept: bool) -> None:  # noqa: FBT001
    """It says so, keeps what fits, and the verdict stands."""
    door = Door()
    record = door.record(door.delivery(kyb_body(services=FAT)))
    record = Record(record.topic, 0, 7, record.timestamp_ms, record.key, record.value, [("x", b"h" * 700)])
    limited = sizes({NAMES.events: 800, NAMES.dead_letters: most})
    told = Told(list(IntakeProcess(POLICIES, NAMES, fits=limited.fits)(0, [record], DictState()).outputs))
    (letter,) = told.dead_letters
    assert (letter.origin_value, bool(letter.origin_headers)) == (None, headers_kept)
    assert f"the value of {len(record.value or b'')} bytes is left out" in (letter.detail or "")
    assert (letter.delivery_id, letter.origin_key) == (told.deliveries[0].delivery_id, record.key)


async def limit(given: Lab, most: int, *topics: str) -> None:
    """Gives topics another `max.message.bytes`, and waits until Kafka says so."""
    resources = [ConfigResource(ConfigResourceType.TOPIC, topic, {"max.message.bytes": str(most)}) for topic in topics]
    await given.admin.alter_configs(resources)
    asked = [ConfigResource(ConfigResourceType.TOPIC, topic) for topic in topics]

    async def changed() -> bool:
        found = [answer.resources for answer in await given.admin.describe_configs(asked)]
        return all(
            {entry[0]: entry[1] for entry in each[4]}["max.message.bytes"] == str(most) for part in found for each in part
        )

    await wait_until(changed, 10, "the limits are others")


async def dead(given: Lab) -> Counter[tuple[str, str]]:
    """Stages and reasons of the dead letters."""
    letters = [decode(value, DeadLetter) for value in await given.read(DEAD_LETTERS)]
    return Counter((letter.stage, letter.reason) for letter in letters)


async def verdicts(given: Lab) -> Counter[str]:
    """Verdicts of the deliveries, each once."""
    found = {each.delivery_id: each.verdict for each in (decode(value, Delivery) for value in await given.read(DELIVERIES))}
    return Counter(found.values())


def webhooks(door: Door, bodies: Sequence[dict[str, object]]) -> list[Record]:
    """Raw records."""
    return [door.record(door.delivery(body)) for body in bodies]


def answered_together(monkeypatch: pytest.MonkeyPatch, topic: str) -> Callable[[], bool]:
    """Lets Kafka answer two partitions of a topic at once, the second while the first is seen to; tells whether it did."""
    original = BatchProducer._raise_refused
    partitions: set[int] = set()
    both, turn = asyncio.Event(), asyncio.Lock()

    async def together(producer: BatchProducer, name: str, partition: int, *given: Any) -> None:
        if name != topic:
            return await original(producer, name, partition, *given)
        partitions.add(partition)
        if len(partitions) > 1:
            both.set()
        with suppress(TimeoutError):
            await asyncio.wait_for(both.wait(), 5)
        async with turn:
            return await original(producer, name, partition, *given)

    monkeypatch.setattr(BatchProducer, "_raise_refused", together)
    return both.is_set


@pytest.mark.kafka
@pytest.mark.timeout(240)
async def test_no_size_that_kafka_refuses_stops_the_worker(
    apache_kafka: KafkaNode, topic_prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Changelogs and outputs of both agents, several in a batch; also when a topic's limit changes while the worker runs."""
    door = Door()
    async with lab(apache_kafka.bootstrap_servers, topic_prefix, tmp_path) as given:
        topic, group = given.settings.topic, given.settings.worker.group
        await limit(
            given, 4_000, topic(EVENTS), topic(CASES), *(f"{group}-{each}-changelog" for each in (INTAKE_TABLE, CASES_TABLE))
        )
        fat = [kyb_body(service_id=f"fat-{number}", services=FAT) for number in range(3)]
        flood = [kyb_body(service_id="flood", type=f"kind-{number}") for number in range(150)]
        lean = [kyb_body(service_id=f"lean-{number}") for number in range(20)]
        await given.send(webhooks(door, [fat[0], *lean[:10], *flood, *fat[1:], *lean[10:]]))
        async with running_worker(given.settings) as running:
            await given.all_committed(173)
            first = await verdicts(given)
            assert first.total() == 173
            assert 3 <= first["quarantined"] < 153
            letters = await dead(given)
            assert letters["intake", "too_large"] == first["quarantined"]
            assert {reason for _, reason in letters} == {"too_large"}

            # Kafka refuses now what the worker takes for small enough, of two partitions at once.
            refused_together = answered_together(monkeypatch, topic(EVENTS))
            await limit(given, 300, topic(EVENTS))
            await given.send(webhooks(door, [kyb_body(service_id=f"later-{number}") for number in range(10)]))
            await given.all_committed(183)
            assert (await verdicts(given))["quarantined"] == first["quarantined"] + 10
            assert refused_together()

            # And takes it again.
            await limit(given, 1_000_000, topic(EVENTS))
            await given.send(webhooks(door, [kyb_body(service_id=f"last-{number}") for number in range(10)]))
            await given.all_committed(193)
            assert await verdicts(given) == Counter(new=first["new"] + 10, quarantined=first["quarantined"] + 10)

            async def told() -> bool:
                cases = [decode(value, Case) for value in await given.read(CASES)]
                return {each.case_id for each in cases} >= {f"last-{number}" for number in range(10)}

            await wait_until(told, 30, "the cases of the last ones are told")
            assert not running.done()


@pytest.mark.kafka
async def test_an_event_that_makes_a_case_too_large_is_a_dead_letter_of_the_cases(
    apache_kafka: KafkaNode, topic_prefix: str, tmp_path: Path
) -> None:
    """The intake takes it; its case stays as it was, and other cases go on. A restart does the same again."""
    door = Door()
    async with lab(apache_kafka.bootstrap_servers, topic_prefix, tmp_path) as given:
        changelog = f"{given.settings.worker.group}-{CASES_TABLE}-changelog"
        await limit(given, 600, given.settings.topic(CASES), changelog)
        lean = [kyb_body(service_id=f"lean-{number}") for number in range(4)]
        for at in (0, 1):
            fat = [kyb_body(service_id=f"fat-{at}", services=FAT), *lean[at * 2 : at * 2 + 2]]
            await given.send(webhooks(door, fat))
            async with running_worker(given.settings):
                await given.all_committed((at + 1) * 3)

                async def told(at: int = at) -> bool:
                    cases = {decode(value, Case).case_id for value in await given.read(CASES)}
                    return len(cases) == (at + 1) * 2 and (await dead(given))["cases", "too_large"] == at + 1

                await wait_until(told, 30, "the lean ones are told, the fat one is a dead letter")
        assert (await verdicts(given))["new"] == 6

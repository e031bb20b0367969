"""The count that the chaos tests end with: it passes for what the worker must tell, and fails for every kind of damage."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec
import pytest

from deploy.embedded.configuration import new_configuration, write_configuration
from kybstream.encryption import body_decryptor
from kybstream.partitions import partition_of
from kybstream.settings import KafkaSettings, Settings, load_settings
from schemas.codec import decode_any, encode
from schemas.records import Case, CaseEvent, DeadLetter, Delivery, Event, Record
from schemas.topics import CASE_EVENTS, CASES, DEAD_LETTERS, DELIVERIES, EVENTS
from streams.batching.records import Output
from streams.batching.records import Record as KafkaRecord
from streams.policy import policies
from streams.processing import CasesProcess, IntakeProcess, TopicNames
from tests.chaos import streams_counting
from tests.chaos.streams_load import Load
from tests.streams.pipeline import DictState
from tests.support.body_keys import ENCRYPTION

DELIVERIES_SENT = 400


class Lying(NamedTuple):
    """A record as a consumer would read it."""

    partition: int
    key: bytes | None
    value: bytes
    headers: tuple[tuple[str, bytes], ...]


Topics = dict[str, list[Lying]]
"""By the name of the topic without its prefix."""

Damage = Callable[[list[Lying]], None]


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A tenant with fixed keys; nothing runs where they point."""
    path = tmp_path_factory.mktemp("counting") / "kyb-stream.toml"
    keys = {"pseudonym_key": "pseudonym-key-of-acme", "case_token_keys": ["token-key-of-acme-000"]}
    values = new_configuration(bootstrap_servers="127.0.0.1:1", clickhouse_port=1, ingress_port=1)
    values |= {"encryption": ENCRYPTION, "tenants": [{"name": "acme", **keys}]}
    write_configuration(path, values, comment="Made by the tests.")
    return load_settings(path, {})


@pytest.fixture(scope="module")
def load(settings: Settings) -> Load:
    """A small load of the chaos tests."""
    start = datetime(2026, 3, 1, 9, tzinfo=UTC)
    return Load(settings, DELIVERIES_SENT, random.Random(7), start)  # noqa: S311


@pytest.fixture(scope="module")
def told(settings: Settings, load: Load) -> Topics:
    """What intake and cases tell of the load when nothing breaks."""
    names, rules = TopicNames(settings.kafka.topic_prefix), policies(settings)
    given = [
        KafkaRecord(settings.topic(each.topic), 0, offset, 0, each.key, each.value, each.headers)
        for offset, each in enumerate(load.messages())
    ]
    state = DictState()
    outputs = list(IntakeProcess(rules, names, body_decryptor(settings.encryption))(0, given, state).outputs)
    events = [
        KafkaRecord(each.topic, 0, offset, 0, each.key, each.value, each.headers)
        for offset, each in enumerate(outputs)
        if each.topic == names.case_events
    ]
    outputs += CasesProcess(rules, names)(0, events, DictState()).outputs
    topics: Topics = {suffix: [] for suffix in (DELIVERIES, EVENTS, CASE_EVENTS, CASES, DEAD_LETTERS)}
    for each in outputs:
        topics[each.topic.removeprefix(settings.kafka.topic_prefix)].append(_lying(each, settings.kafka.partitions))
    return topics


def _lying(output: Output, partitions: int) -> Lying:
    assert output.key is not None
    assert output.value is not None
    return Lying(partition_of(output.key, partitions), output.key, output.value, tuple(output.headers))


async def counted(settings: Settings, load: Load, topics: Topics, monkeypatch: pytest.MonkeyPatch) -> streams_counting.Count:
    """The count over these topics, in place of a broker's."""

    async def whole_topic(_kafka: KafkaSettings, topic: str, _partitions: int) -> list[Lying]:
        return topics[topic.removeprefix(settings.kafka.topic_prefix)]

    monkeypatch.setattr(streams_counting, "whole_topic", whole_topic)
    return await streams_counting.count(settings, load.expected)


def lost(number: int, of: type[Record], **fields: object) -> Damage:
    """The n-th record with these fields is gone."""

    def damage(records: list[Lying]) -> None:
        del records[_places(records, of, fields)[number]]

    return damage


def changed(number: int, kind: type[Record], fields: dict[str, object], **to: object) -> Damage:
    """The n-th record with these fields says something else."""

    def damage(records: list[Lying]) -> None:
        place = _places(records, kind, fields)[number]
        records[place] = records[place]._replace(value=_changed(records[place], to))

    return damage


def told_again(number: int, kind: type[Record], **to: object) -> Damage:
    """The n-th record is there again, saying something else, or lying elsewhere."""

    def damage(records: list[Lying]) -> None:
        original = records[_places(records, kind, {})[number]]
        lies = {name: to.pop(name) for name in ("headers", "key") if name in to}
        other = (original.partition + 1) if to.pop("elsewhere", False) else original.partition
        records.append(original._replace(partition=other, value=_changed(original, to), **lies))  # type: ignore[arg-type]

    return damage


def _changed(record: Lying, to: dict[str, object]) -> bytes:
    return encode(msgspec.structs.replace(decode_any(record.value), **to))


def _places(records: list[Lying], kind: type[Record], fields: dict[str, object]) -> list[int]:
    found: list[int] = []
    for place, record in enumerate(records):
        content: Any = decode_any(record.value)
        assert type(content) is kind
        if all(getattr(content, name) == value for name, value in fields.items()):
            found.append(place)
    return found


async def test_what_the_worker_must_tell_is_counted(
    settings: Settings, load: Load, told: Topics, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Undamaged topics pass, also with copies that are equal to the byte."""
    topics = {suffix: [*records, *(Lying(*each) for each in records[::7])] for suffix, records in told.items()}
    found = await counted(settings, load, topics, monkeypatch)
    assert len(found.deliveries.records) == load.deliveries >= DELIVERIES_SENT
    assert found.deliveries.copies == len(topics[DELIVERIES]) - load.deliveries > 0
    assert found.moved > 0  # the load has subjects whose link comes late


DAMAGES: dict[str, tuple[str, Damage]] = {
    "a verdict is missing": (DELIVERIES, lost(100, Delivery)),
    "a duplicate was taken for new": (DELIVERIES, changed(0, Delivery, {"verdict": "duplicate"}, verdict="new")),
    "a new delivery was taken for a duplicate": (DELIVERIES, changed(9, Delivery, {"verdict": "new"}, verdict="duplicate")),
    "a verdict names another case": (DELIVERIES, changed(50, Delivery, {"verdict": "new"}, case_id="case-of-another")),
    "a verdict names another event": (DELIVERIES, changed(50, Delivery, {"verdict": "new"}, event_id="event-of-another")),
    "a delivery nobody sent is judged": (DELIVERIES, told_again(3, Delivery, delivery_id="delivery-of-nobody")),
    "a delivery has two verdicts": (DELIVERIES, told_again(3, Delivery, verdict="quarantined")),
    "an event is missing": (EVENTS, lost(100, Event)),
    "an event is there twice": (EVENTS, told_again(100, Event, event_id="another-id")),
    "a dead letter is missing": (DEAD_LETTERS, lost(0, DeadLetter)),
    "a dead letter is there twice": (DEAD_LETTERS, told_again(0, DeadLetter, dead_letter_id="another-id")),
    "a KYB event did not reach its case": (CASE_EVENTS, lost(5, CaseEvent, kind="kyb")),
    "a callback did not reach its case": (CASE_EVENTS, lost(5, CaseEvent, kind="kyc")),
    "a link did not reach its case": (CASE_EVENTS, lost(5, CaseEvent, kind="link")),
    "a merge did not reach its case": (CASE_EVENTS, lost(0, CaseEvent, kind="merge")),
    "a callback was joined to another case": (CASE_EVENTS, changed(5, CaseEvent, {"kind": "kyc"}, case_id="case-0")),
    "a callback says another result": (CASE_EVENTS, changed(5, CaseEvent, {"kind": "kyc"}, status="nothing")),
    "a snapshot is missing": (CASES, lost(0, Case, version=2)),
    "a case's newest snapshot says something else": (CASES, changed(-1, Case, {}, resubmissions=99)),
    "a snapshot is of an event nobody sent": (CASES, told_again(-1, Case, version=99)),
    "a copy has other headers": (CASES, told_again(10, Case, headers=(("ce_id", b"another"),))),
    "a copy has another key": (EVENTS, told_again(10, Event, key=b"acme/another")),
    "a copy lies in another partition": (CASE_EVENTS, told_again(10, CaseEvent, elsewhere=True)),
}


@pytest.mark.parametrize("damage", DAMAGES)
async def test_damage_is_seen(
    settings: Settings, load: Load, told: Topics, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    """One record lost, doubled, changed or misplaced fails the count."""
    suffix, do = DAMAGES[damage]
    topics = told | {suffix: list(told[suffix])}
    do(topics[suffix])
    with pytest.raises(AssertionError):
        await counted(settings, load, topics, monkeypatch)

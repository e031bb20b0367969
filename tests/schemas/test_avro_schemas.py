from __future__ import annotations

import copy
import io
import json
from collections.abc import Callable
from datetime import datetime
from itertools import permutations
from typing import Any, Literal, get_args, get_origin, get_type_hints

import avro.schema
import fastavro
import msgspec
import pytest
from avro.compatibility import ReaderWriterCompatibilityChecker, SchemaCompatibilityType

from kybstream.ids import EPOCH
from schemas import records, topics
from schemas.codec import HEADER_SIZE, NEWEST, all_schemas, encode, newest_schema
from schemas.records import Record
from tests.schemas.samples import KINDS

Json = dict[str, Any]


def compatible(reader: Json, writer: Json) -> bool:
    """Whether Apache Avro reads what the writer's schema wrote with the reader's."""
    result = ReaderWriterCompatibilityChecker().get_compatibility(
        avro.schema.parse(json.dumps(reader)), avro.schema.parse(json.dumps(writer))
    )
    return bool(result.compatibility is SchemaCompatibilityType.compatible)


def incompatible_pairs(versions: list[Json]) -> list[tuple[int, int]]:
    """Pairs of versions (reader, writer) that break FULL_TRANSITIVE: each must read each."""
    numbered = range(len(versions))
    return [
        (reader, writer) for reader, writer in permutations(numbered, 2) if not compatible(versions[reader], versions[writer])
    ]


def subjects() -> dict[str, list[Json]]:
    """All kept versions of each subject."""
    found: dict[str, list[Json]] = {}
    for schema in all_schemas().values():
        found.setdefault(schema.subject, []).append(schema.json)
    return found


@pytest.mark.parametrize("subject", sorted(subjects()))
def test_all_versions_of_a_subject_read_each_other(subject: str) -> None:
    """FULL_TRANSITIVE over everything that was ever written, by Apache Avro's own checker."""
    versions = subjects()[subject]
    assert all(compatible(version, version) for version in versions)
    assert incompatible_pairs(versions) == []


Fields = dict[str, Json]


def _kind(fields: Fields) -> Json:
    kind: Json = fields["kind"]["type"]
    return kind


def _without_default(fields: Fields) -> list[str]:
    del _kind(fields)["default"]
    symbols: list[str] = _kind(fields)["symbols"]
    return symbols


CHANGES: dict[str, tuple[bool, Callable[[Fields], object]]] = {
    "nothing": (True, lambda _: None),
    "field added with a default": (
        True,
        lambda fields: fields.update(note={"name": "note", "type": ["null", "string"], "default": None}),
    ),
    "field added without a default": (False, lambda fields: fields.update(note={"name": "note", "type": "string"})),
    "field with a default removed": (True, lambda fields: fields.pop("moved_events")),
    "field without a default removed": (False, lambda fields: fields.pop("case_id")),
    "field renamed": (False, lambda fields: fields["event_id"].update(name="identifier")),
    "field renamed, with an alias": (
        False,
        lambda fields: fields["event_id"].update(name="identifier", aliases=["event_id"]),
    ),
    "another type": (False, lambda fields: fields["event_id"].update(type="long")),
    "a wider type": (False, lambda fields: fields["expected_subjects"].update(type=["null", "long"])),
    "made optional": (False, lambda fields: fields["event_id"].update(type=["null", "string"])),
    "symbol added": (True, lambda fields: _kind(fields)["symbols"].append("erasure")),
    "symbol removed": (True, lambda fields: _kind(fields)["symbols"].remove("expiry")),
    "symbol removed, and no default": (False, lambda fields: _without_default(fields).remove("expiry")),
    "enum renamed": (False, lambda fields: _kind(fields).update(name="Kind")),
}
"""Changes to the schema of case events: whether both versions read each other then, and how to make it."""


def changed(change: str) -> Json:
    """The schema of case events as a next version would have it."""
    schema = copy.deepcopy(newest_schema(records.CaseEvent).json)
    fields: Fields = {field["name"]: field for field in schema["fields"]}
    CHANGES[change][1](fields)
    return schema | {"fields": list(fields.values())}


@pytest.mark.parametrize("change", CHANGES)
def test_the_check_finds_what_would_break_a_reader(change: str) -> None:
    """Changes made by hand: the check above speaks up for those that one of two readers could not follow."""
    pairs = incompatible_pairs([newest_schema(records.CaseEvent).json, changed(change)])
    assert (pairs == []) is CHANGES[change][0]


def test_a_version_between_two_does_not_hide_that_they_disagree() -> None:
    """Transitive: a field that is dropped, and comes back as another type, is found though neighbours read each other."""
    first, second = newest_schema(records.CaseEvent).json, changed("field with a default removed")
    third = copy.deepcopy(second)
    third["fields"].append({"name": "moved_events", "type": "string", "default": ""})
    assert incompatible_pairs([first, second]) == incompatible_pairs([second, third]) == []
    assert incompatible_pairs([first, second, third]) == [(0, 2), (2, 0)]


def test_older_readers_take_a_new_symbol_for_the_default() -> None:
    """What the compatibility of enums rests on, seen in bytes: a withdrawal is `other` to a reader of the first version."""
    withdrawal = records.CaseEvent(event_id="e", tenant="acme", case_id="c", received_at=EPOCH, kind="withdrawal")
    old = next(schema for schema in all_schemas().values() if schema.name == "case-event.v1")
    body = io.BytesIO(encode(withdrawal)[HEADER_SIZE:])
    read = fastavro.schemaless_reader(body, newest_schema(records.CaseEvent).parsed, old.parsed)
    assert isinstance(read, dict)
    assert (read["kind"], read["event_id"]) == ("other", "e")


def avro_type(annotation: object) -> str:
    """The Avro type that a field with this annotation needs, in short."""
    if get_origin(annotation) is Literal:
        return f"enum({','.join(get_args(annotation))})"
    if get_origin(annotation) is tuple:
        return f"array({avro_type(get_args(annotation)[0])})"
    if isinstance(annotation, type) and issubclass(annotation, Record):
        return f"record({annotation.__name__})"
    plain = {str: "string", bytes: "bytes", bool: "boolean", int: "integer", datetime: "timestamp-micros"}
    if annotation in plain:
        return plain[annotation]
    if annotation == dict[str, bytes]:
        return "map(bytes)"
    (one,) = [choice for choice in get_args(annotation) if choice is not type(None)]
    return f"null|{avro_type(one)}"


def short(kind: object) -> str:
    """An Avro type in the same words."""
    if isinstance(kind, list):
        return "|".join(short(choice) for choice in kind)
    if not isinstance(kind, dict):
        return "integer" if kind in {"int", "long"} else str(kind)
    inner = {"enum": ",".join(kind.get("symbols", ())), "record": kind.get("name")}
    inner |= {"array": short(kind.get("items")), "map": short(kind.get("values"))}
    return f"{kind['type']}({inner[kind['type']]})" if kind["type"] in inner else str(kind["logicalType"])


@pytest.mark.parametrize("kind", [*KINDS, records.Service, records.Subject], ids=lambda kind: kind.__name__)
def test_struct_and_schema_have_the_same_fields(kind: type[Record]) -> None:
    """Names, order, types and defaults; what a struct may leave out, an older reader may miss."""
    if kind in NEWEST:
        schema = newest_schema(kind).json
    else:
        name = {records.Service: "services", records.Subject: "subjects"}[kind]
        field = next(field for field in newest_schema(records.Case).json["fields"] if field["name"] == name)
        schema = field["type"]["items"]
    hints = get_type_hints(kind)
    assert [(field["name"], short(field["type"])) for field in schema["fields"]] == [
        (name, avro_type(hints[name])) for name in kind.__struct_fields__
    ]
    for info, field in zip(msgspec.structs.fields(kind), schema["fields"], strict=True):
        default = info.default if info.default is not msgspec.NODEFAULT else info.default_factory
        if default is msgspec.NODEFAULT:
            assert "default" not in field, info.name
        else:
            # Lists of the schema are tuples in the struct, and an empty map is made anew for each record.
            expected = {} if default is dict else [] if default == () else default
            assert field["default"] == expected, info.name


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_field_says_what_it_means_and_every_enum_has_a_default(kind: type[Record]) -> None:
    """A reader that meets a symbol of a later version takes the default instead of failing."""
    for field in newest_schema(kind).json["fields"]:
        assert field["doc"].endswith("."), field["name"]
        if isinstance(field["type"], dict) and field["type"]["type"] == "enum":
            assert field["type"]["default"] in field["type"]["symbols"]


def test_every_topic_carries_a_record_that_has_a_schema() -> None:
    """And every kind of record has its topic."""
    assert {kind for topic in topics.ALL_TOPICS for kind in topic.records} == set(NEWEST)
    assert len({topic.suffix for topic in topics.ALL_TOPICS}) == len(topics.ALL_TOPICS) == 9

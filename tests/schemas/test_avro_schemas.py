from __future__ import annotations

import copy
import json
from datetime import datetime
from itertools import permutations
from typing import Any, Literal, get_args, get_origin, get_type_hints

import avro.schema
import msgspec
import pytest
from avro.compatibility import ReaderWriterCompatibilityChecker, SchemaCompatibilityType

from schemas import records, topics
from schemas.codec import NEWEST, all_schemas, newest_schema
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


def changed(change: str) -> Json:
    """The link schema as a next version would have it."""
    schema = copy.deepcopy(newest_schema(records.Link).json)
    fields: list[Json] = schema["fields"]
    match change:
        case "added with a default":
            fields.append({"name": "note", "type": ["null", "string"], "default": None})
        case "added without a default":
            fields.append({"name": "note", "type": "string"})
        case "removed without a default":
            fields[:] = [field for field in fields if field["name"] != "case_id"]
        case "renamed":
            fields[0]["name"] = "identifier"
        case "another type":
            fields[0]["type"] = "long"
        case "made optional":
            fields[0]["type"] = ["null", "string"]
    return schema


@pytest.mark.parametrize(
    ("change", "allowed"),
    [
        ("added with a default", True),
        ("added without a default", False),
        ("removed without a default", False),
        ("renamed", False),
        ("another type", False),
        ("made optional", False),
    ],
)
def test_the_check_finds_what_would_break_a_reader(change: str, *, allowed: bool) -> None:
    """While each subject has one version, this shows that the check above would speak up for a second."""
    pairs = incompatible_pairs([newest_schema(records.Link).json, changed(change)])
    assert (pairs == []) is allowed


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
    assert {topic.record for topic in topics.ALL_TOPICS} == set(NEWEST)
    assert len({topic.suffix for topic in topics.ALL_TOPICS}) == len(topics.ALL_TOPICS) == 8

"""XES and OCEL 2.0 from rows: what the standards ask for, names of any kind, and memory that does not grow with the log."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Iterable
from typing import Any
from xml.etree.ElementTree import Element, fromstring

import jsonschema
import pytest

from kybstream.operations.export.escaping import joined
from kybstream.operations.export.log import LogRow
from kybstream.operations.export.ocel import OcelWriter
from kybstream.operations.export.xes import XesWriter
from tests.export.history import row

HOSTILE = "a\"<b>&'\n\t]]>\x00\x1b\ufffe/%漢"
KYC = {"type": "kyc_result", "activity": "kyc_result success", "transition": "complete", "status": "success"}
_NS = "{http://www.xes-standard.org/}"

# What the standard's own JSON schema demands, in our words: ids, types, times and relationships, and nothing else.
_NAMED = {
    "type": "object",
    "required": ["name", "attributes"],
    "properties": {
        "name": {"type": "string"},
        "attributes": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["name", "type"],
                "properties": {"name": {"type": "string"}, "type": {"enum": ["string", "time", "integer", "float", "boolean"]}},
            },
        },
    },
}
_RELATED = {
    "type": "array",
    "items": {
        "type": "object",
        "required": ["objectId", "qualifier"],
        "properties": {"objectId": {"type": "string"}, "qualifier": {"type": "string"}},
    },
}
_TIME = {"type": "string", "format": "date-time", "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$"}


def _with_attributes(*required: str) -> dict[str, Any]:
    value = {"type": "object", "required": list(required), "properties": {"name": {"type": "string"}, "time": _TIME}}
    return {
        "id": {"type": "string"},
        "type": {"type": "string"},
        "time": _TIME,
        "attributes": {"type": "array", "items": value},
        "relationships": _RELATED,
    }


OCEL_SCHEMA = {
    "type": "object",
    "required": ["eventTypes", "objectTypes", "events", "objects"],
    "additionalProperties": False,
    "properties": {
        "eventTypes": {"type": "array", "items": _NAMED},
        "objectTypes": {"type": "array", "items": _NAMED},
        "events": {
            "type": "array",
            "items": {"required": ["id", "type", "time"], "properties": _with_attributes("name", "value")},
        },
        "objects": {
            "type": "array",
            "items": {"required": ["id", "type"], "properties": _with_attributes("name", "value", "time")},
        },
    },
}


def xes(rows: Iterable[LogRow], tenant: str | None = "acme") -> Element:
    """The rows as XES, read as XML."""
    writer = XesWriter(tenant)
    text = writer.begin() + "".join(writer.add(each) for each in rows) + "".join(writer.end())
    return fromstring(text.encode())  # noqa: S314 (our own)


def ocel(rows: Iterable[LogRow]) -> dict[str, Any]:
    """The rows as OCEL, read as JSON and held to the schema and to what a schema cannot say."""
    with OcelWriter() as writer:
        read: dict[str, Any] = json.loads(writer.begin() + "".join(writer.add(each) for each in rows) + "".join(writer.end()))
    check_ocel(read)
    return read


def check_ocel(read: dict[str, Any]) -> None:
    """Held to the schema; ids are unique, what is referred to is there, types and attributes are declared."""
    jsonschema.validate(read, OCEL_SCHEMA)
    ids = {each["id"] for each in read["objects"]}
    assert len(ids) == len(read["objects"])
    assert len({each["id"] for each in read["events"]}) == len(read["events"])
    for kind in ("event", "object"):
        declared = {each["name"]: {found["name"] for found in each["attributes"]} for each in read[f"{kind}Types"]}
        assert len(declared) == len(read[f"{kind}Types"])
        for each in read[f"{kind}s"]:
            assert {found["name"] for found in each["attributes"]} <= declared[each["type"]]
            assert {found["objectId"] for found in each["relationships"]} <= ids


def _values(element: Element) -> dict[str, str]:
    return {str(each.get("key")): str(each.get("value")) for each in element if each.get("key")}


def test_a_log_is_what_the_standard_asks_for() -> None:
    """Extensions declared, globals there in every trace and event, classifiers of their keys, children in order."""
    log = xes(
        [row(), row(at="2026-03-10T00:00:02.000000Z", **KYC, subject="v1.p", event_id="e2"), row(case_id="s2", event_id="e3")]
    )
    assert (log.tag, log.get("xes.version"), log.get("xes.features")) == (f"{_NS}log", "1849.2016", "")
    order = [each.tag.removeprefix(_NS) for each in log]
    assert order == ["extension"] * 4 + ["global"] * 2 + ["classifier"] * 2 + ["string"] * 2 + ["trace"] * 2
    prefixes = {each.get("prefix"): each.get("uri") for each in log.iter(f"{_NS}extension")}
    assert prefixes == {each: f"http://www.xes-standard.org/{each}.xesext" for each in ("concept", "time", "lifecycle", "org")}
    of_all = {each.get("scope"): _values(each).keys() for each in log.iter(f"{_NS}global")}
    traces = list(log.iter(f"{_NS}trace"))
    assert all(of_all["trace"] <= _values(trace).keys() for trace in traces)
    assert all(of_all["event"] <= _values(event).keys() for trace in traces for event in trace.iter(f"{_NS}event"))
    for classifier in log.iter(f"{_NS}classifier"):
        assert set(str(classifier.get("keys")).split()) <= of_all["event"]
    used = {key.partition(":")[0] for each in log.iter() for key in _values(each) if ":" in key}
    assert used <= prefixes.keys()
    for trace in traces:
        keys = [str(each.get("key")) for each in trace if each.get("key")]
        assert len(keys) == len(set(keys))


def test_traces_and_events() -> None:
    """A trace a case with what is known of it; its events with names, times and who; nothing where there is nothing."""
    log = xes(
        [row(), row(at="2026-03-10T00:00:02.000000Z", **KYC, subject="v1.p", event_id="e2"), row(case_id="new", outcome="")]
    )
    first, second = log.iter(f"{_NS}trace")
    assert _values(first) == {
        "concept:name": "s1",
        "tenant": "acme",
        "case_id": "s1",
        "outcome": "open",
        "match_state": "kyb_only",
        "kyb_status": "pending",
        "kyc_status": "none",
        "opened_at_source": "event",
        "opened_at": "2026-03-10T00:00:01.000000Z",
    }
    assert "opened_at" not in _values(second)
    initiated, result = first.iter(f"{_NS}event")
    assert _values(initiated) == {
        "time:timestamp": "2026-03-10T00:00:01.000000Z",
        "concept:name": "aml",
        "lifecycle:transition": "start",
        "org:resource": "kyb",
        "event_id": "e1",
        "type": "service_initiated",
        "status": "pending",
        "placement": "own",
    }
    assert _values(result)["subject"] == "v1.p"
    assert result[0].tag == f"{_NS}date"


def test_names_of_any_kind_stay_apart_in_xes() -> None:
    """Whatever a provider calls a case is text; what XML cannot hold is replaced; cases of two tenants never share a name."""
    log = xes([row(case_id=HOSTILE, activity=HOSTILE)])
    shown = HOSTILE.replace("\x00", "\ufffd").replace("\x1b", "\ufffd").replace("\ufffe", "\ufffd")
    [trace] = log.iter(f"{_NS}trace")
    assert _values(trace)["concept:name"] == shown
    assert [_values(event)["concept:name"] for event in trace.iter(f"{_NS}event")] == [shown]
    several = xes([row(tenant="a", case_id="b/c"), row(tenant="a/b", case_id="c"), row(tenant="b", case_id="c")], None)
    assert [_values(each)["concept:name"] for each in several.iter(f"{_NS}trace")] == ["a/b%2Fc", "a%2Fb/c", "b/c"]
    assert joined("%2F") != joined("/")


def test_an_empty_log_is_a_log() -> None:
    """No cases: both files are whole all the same."""
    assert [each.tag for each in xes([]).iter(f"{_NS}trace")] == []
    assert ocel([])["events"] == []


def test_one_webhook_is_one_event_of_several_objects() -> None:
    """Two services of one event: one event, related to the case and to both; the case names them."""
    read = ocel([row(), row(activity="kyb_check"), row(**KYC, event_id="e2", subject="v1.p")])
    assert [(each["id"], each["type"]) for each in read["events"]] == [
        ("event:acme/e1", "service_initiated"),
        ("event:acme/e2", "kyc_result success"),
    ]
    assert [(each["objectId"], each["qualifier"]) for each in read["events"][0]["relationships"]] == [
        ("case:acme/s1", "case"),
        ("service:acme/s1/aml", "service"),
        ("service:acme/s1/kyb_check", "service"),
    ]
    assert read["events"][1]["relationships"][1] == {"objectId": "subject:acme/v1.p", "qualifier": "subject"}
    case, aml, kyb_check, person = read["objects"]
    assert [each["id"] for each in (aml, kyb_check, person)] == [each["objectId"] for each in case["relationships"]]
    assert [each["qualifier"] for each in case["relationships"]] == ["has", "has", "verifies"]
    attributes = {each["name"]: (each["value"], each["time"]) for each in case["attributes"]}
    assert attributes["outcome"] == ("open", "2026-03-10T00:00:09.000000Z")
    assert attributes["opened_at_source"] == ("event", "2026-03-10T00:00:01.000000Z")


def test_a_person_of_several_cases_is_one_object() -> None:
    """Persons are told once however many cases name them, and apart from a person of the same pseudonym at another tenant."""
    rows = [row(case_id=f"s{n}", **KYC, event_id=f"e{n}", subject="v1.p") for n in range(3)]
    read = ocel([*rows, row(tenant="globex", **KYC, subject="v1.p")])
    assert [each["id"] for each in read["objects"] if each["type"] == "subject"] == ["subject:acme/v1.p", "subject:globex/v1.p"]


def test_steps_of_a_case_and_unknown_events() -> None:
    """What follows from events has ids of its own; an event that names no service is of its type; unknown types are kept."""
    own = {"type": "case", "status": "", "event_id": "", "placement": ""}
    read = ocel(
        [
            row(activity="linked", **own),
            row(activity="service_initiated", event_id="e0"),
            row(activity="brand_new", type="brand_new", event_id="e9"),
            row(activity="completed", **own),
            row(case_id="s2", activity="completed", outcome="", **own),
        ]
    )
    assert [each["id"] for each in read["events"]] == [
        "step:acme/s1/linked",
        "event:acme/e0",
        "event:acme/e9",
        "step:acme/s1/completed",
        "step:acme/s2/completed",
    ]
    assert [each["name"] for each in read["eventTypes"]] == ["brand_new", "completed", "linked", "service_initiated"]
    assert {each["type"] for each in read["objects"]} == {"case"}


def test_names_of_any_kind_stay_apart_in_ocel() -> None:
    """Ids are unique even for names that are made to collide."""
    read = ocel(
        [
            row(case_id="s", activity="x/aml"),
            row(case_id="s/x", activity="aml", event_id="e2"),
            row(case_id=HOSTILE, event_id="e3"),
        ]
    )
    assert len([each for each in read["objects"] if each["type"] == "service"]) == 3
    assert HOSTILE.replace("%", "%25").replace("/", "%2F") in [each["id"] for each in read["objects"]][4]


@pytest.mark.parametrize("kind", ["xes", "ocel"])
def test_memory_does_not_grow_with_the_log(kind: str) -> None:
    """Six times as many cases take no more memory, but for a piece of the temporary file."""

    def peak(cases: int) -> int:
        writer = XesWriter(None) if kind == "xes" else OcelWriter()
        tracemalloc.start()
        written = len(writer.begin())
        for number in range(cases):
            for step in range(3):
                made = row(case_id=f"s{number}", event_id=f"{number}-{step}", subject=f"v1.{number}", **({} if step else KYC))
                written += len(writer.add(made))
        written += sum(len(piece) for piece in writer.end())
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        if isinstance(writer, OcelWriter):
            writer.__exit__()
        assert written > cases * 1_000
        return most

    assert peak(3_000) < peak(500) + 1_000_000

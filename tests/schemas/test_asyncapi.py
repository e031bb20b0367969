from __future__ import annotations

import copy
import io
import json
import os
import shutil
import subprocess
import tarfile
from typing import Any

import fastavro
import jsonschema
import msgspec
import pytest
from fastavro.schema import fingerprint, to_parsing_canonical_form
from hypothesis import given, settings

from kybstream.settings import KafkaSettings
from kybstream.settings.secret import Secret
from schemas.asyncapi import asyncapi_document
from schemas.cloudevents import cloud_event_headers
from schemas.codec import HEADER_SIZE, NEWEST, all_schemas, encode
from schemas.records import Record
from schemas.topics import ALL_TOPICS
from tests.schemas.samples import ANY_RECORD

Json = dict[str, Any]

OFFICIAL = "@asyncapi/specs@6.11.1"
"""The AsyncAPI initiative's own schemas of its specification; Apache-2.0."""

DOCUMENT: Json = json.loads(msgspec.json.encode(asyncapi_document(KafkaSettings())))


@pytest.fixture(scope="module")
def official_schema(tmp_path_factory: pytest.TempPathFactory) -> Json:
    """The official JSON schema of AsyncAPI 3.0.0 and its bindings: published on npm alone, so npm fetches it."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip(f"npm is not installed: it fetches {OFFICIAL}")
    folder = tmp_path_factory.mktemp("asyncapi")
    done = subprocess.run(
        [npm, "pack", "--silent", "--prefer-offline", OFFICIAL],
        cwd=folder,
        check=False,
        capture_output=True,
        text=True,
        timeout=100,
    )
    if done.returncode != 0:
        # As with everything that is fetched: in CI a guarantee that goes untested is a failure.
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"npm could not fetch {OFFICIAL}")
    [package] = folder.glob("*.tgz")
    with tarfile.open(package) as archive:
        member = archive.extractfile("package/schemas/3.0.0.json")
        assert member is not None
        schema: Json = json.load(member)
        return schema


def test_the_document_is_valid_by_asyncapis_own_schema(official_schema: Json) -> None:
    """AsyncAPI 3.0.0 with its Kafka bindings 0.5.0; a document with one mistake is not."""
    validator = jsonschema.Draft7Validator(official_schema)
    assert [f"{error.json_path}: {error.message}" for error in validator.iter_errors(DOCUMENT)] == []
    for path, wrong in (
        (("channels", "cases", "bindings", "kafka", "partitions"), "8"),
        (("channels", "cases", "bindings", "kafka", "topicConfiguration", "cleanup.policy"), "compact"),
        (("components", "messages", "Case", "bindings", "kafka", "schemaIdLocation"), "body"),
        (("operations", "sendCases", "action"), "publish"),
        (("servers", "kafka1", "host"), None),
    ):
        broken = copy.deepcopy(DOCUMENT)
        target = broken
        for name in path[:-1]:
            target = target[name]
        assert path[-1] in target
        target[path[-1]] = wrong
        assert not validator.is_valid(broken), path


def at(pointer: str) -> Json:
    """What a reference within the document leads to."""
    assert pointer.startswith("#/"), pointer
    found: Json = DOCUMENT
    for name in pointer[2:].split("/"):
        found = found[name.replace("~1", "/").replace("~0", "~")]
    return found


def references(value: object) -> list[str]:
    """All references of a part of the document."""
    if isinstance(value, dict):
        own = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
        return own + [one for inner in value.values() for one in references(inner)]
    return [one for inner in value for one in references(inner)] if isinstance(value, list) else []


def test_every_reference_leads_somewhere() -> None:
    """And an operation's messages are those of its channel, as the specification asks."""
    assert len(references(DOCUMENT)) > 30
    for reference in references(DOCUMENT):
        assert at(reference)
    for operation in DOCUMENT["operations"].values():
        channel = operation["channel"]["$ref"]
        of_the_channel = {f"{channel}/messages/{name}" for name in at(channel)["messages"]}
        assert {message["$ref"] for message in operation["messages"]} == of_the_channel


def test_every_topic_is_a_channel_as_migrate_makes_it() -> None:
    """Address, partitions, replicas and configuration; who may write is told by the operations."""
    kafka = KafkaSettings()
    channels = {channel["address"]: channel for channel in DOCUMENT["channels"].values()}
    assert set(channels) == {kafka.topic_prefix + topic.suffix for topic in ALL_TOPICS}
    for topic in ALL_TOPICS:
        channel = channels[kafka.topic_prefix + topic.suffix]
        binding = channel["bindings"]["kafka"]
        assert (binding["partitions"], binding["replicas"]) == (kafka.partitions, kafka.replication_factor)
        for name, value in binding["topicConfiguration"].items():
            said = ",".join(value) if isinstance(value, list) else str(value)
            assert said == topic.config(kafka)[name], (topic.suffix, name)
        assert set(channel["messages"]) == {kind.__name__ for kind in topic.records}
    received = {name for name, operation in DOCUMENT["operations"].items() if operation["action"] == "receive"}
    assert received == {"receiveLinks"}


@given(record=ANY_RECORD)
@settings(max_examples=150, deadline=None)
def test_what_is_written_is_as_the_document_says(record: Record) -> None:
    """Headers fit the message's schema of headers, and the value can be read with what the document holds, and nothing else."""
    message = DOCUMENT["components"]["messages"][type(record).__name__]
    headers = {name: value.decode() for name, value in cloud_event_headers(record, traceparent="00-1-2-01")}
    jsonschema.Draft7Validator(message["headers"]).validate(headers)
    assert headers["ce_type"] == message["name"]
    assert headers["content-type"] == message["contentType"] == DOCUMENT["defaultContentType"]

    value = encode(record)
    payload = at(message["payload"]["$ref"])
    assert value[:2].hex() == "c301"
    assert value[2:HEADER_SIZE].hex() == payload["x-crc-64-avro"]
    assert payload["schemaFormat"] == "application/vnd.apache.avro+json;version=1.9.0"
    read = fastavro.schemaless_reader(
        io.BytesIO(value[HEADER_SIZE:]), fastavro.parse_schema(copy.deepcopy(payload["schema"])), None
    )
    assert set(read) == set(msgspec.structs.asdict(record))


def test_every_kept_schema_is_there_under_its_fingerprint() -> None:
    """Old records can be read, too; each kind of record is a message with the newest of its schemas."""
    kept = DOCUMENT["components"]["schemas"]
    assert set(kept) == {schema.name for schema in all_schemas().values()}
    for each in kept.values():
        assert each["x-crc-64-avro"] == fingerprint(to_parsing_canonical_form(each["schema"]), "CRC-64-AVRO")
    payloads = {name: message["payload"]["$ref"] for name, message in DOCUMENT["components"]["messages"].items()}
    assert payloads == {kind.__name__: f"#/components/schemas/{name}" for kind, name in NEWEST.items()}


def test_the_document_is_of_the_configuration_and_tells_no_secret() -> None:
    """Prefix, addresses and security of these settings; not who logs in, and not how."""
    kafka = KafkaSettings(
        bootstrap_servers="b1.example:9093, b2.example:9093",
        topic_prefix="test.",
        partitions=3,
        security_protocol="SASL_SSL",
        sasl_username="somebody",
        sasl_password=Secret(b"very-secret-password"),
    )
    text = msgspec.json.encode(asyncapi_document(kafka)).decode()
    document = json.loads(text)
    assert [(server["host"], server["protocol"]) for server in document["servers"].values()] == [
        ("b1.example:9093", "kafka-secure"),
        ("b2.example:9093", "kafka-secure"),
    ]
    assert all(channel["address"].startswith("test.") for channel in document["channels"].values())
    assert document["channels"]["cases"]["bindings"]["kafka"]["partitions"] == 3
    assert "somebody" not in text
    assert "very-secret-password" not in text

"""The topics as an AsyncAPI 3.0 document, for people and for generators of clients.

Made of what the code itself goes by: `schemas.topics`, the Avro schemas and the CloudEvents headers. `kyb-stream asyncapi`
prints it for a configuration; docs/reference/asyncapi.json is that of the defaults.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

import msgspec

from kybstream.ids import EPOCH
from kybstream.settings import KafkaSettings
from schemas.cloudevents import CONTENT_TYPE, cloud_event_headers
from schemas.codec import all_schemas, newest_schema
from schemas.records import Record
from schemas.topics import ALL_TOPICS, LINKS, Topic

Object = dict[str, Any]

AVRO = "application/vnd.apache.avro+json;version=1.9.0"
"""How AsyncAPI calls an Avro schema in JSON."""

BINDING = "0.5.0"
"""Version of AsyncAPI's Kafka bindings."""

_ABOUT = """\
What kyb-stream writes to Kafka: webhooks of KYB and KYC providers as they came in, deduplicated events, and cases.

- A value is Avro in single-object encoding: the bytes C3 01, the CRC-64-AVRO fingerprint of the writer's schema (8 bytes,
  little-endian), then the Avro body. Read it with the schema of that fingerprint: `x-crc-64-avro` of each schema below. Every
  version that was ever written is kept here; the newest is a message's payload.
- Schemas of one subject are FULL_TRANSITIVE compatible: each version reads each other.
- Records may come more than once. Each has an id that follows from its content (`ce_id`): drop what you have seen.
- Records of one key are in order. A key is UTF-8 text.
"""

_OUTSIDERS_WRITE = frozenset({LINKS})
"""Topics that others may write to; the rest is kyb-stream's own."""


def asyncapi_document(kafka: KafkaSettings) -> Object:
    """The document for topics of this prefix at this address; no credentials are in it.

    Operations are told from kyb-stream's side, as AsyncAPI asks: what it sends, a consumer receives.
    """
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "kyb-stream topics",
            "version": version("kyb-stream"),
            "description": _ABOUT,
            "license": {"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
        },
        "defaultContentType": CONTENT_TYPE.decode(),
        "servers": _servers(kafka),
        "channels": {_name(topic): _channel(topic, kafka) for topic in ALL_TOPICS},
        "operations": dict(operation for topic in ALL_TOPICS for operation in _operations(topic)),
        "components": {
            "messages": {kind.__name__: _message(topic, kind) for topic in ALL_TOPICS for kind in topic.records},
            "schemas": {
                schema.name: {"schemaFormat": AVRO, "schema": schema.json, "x-crc-64-avro": schema.fingerprint.hex()}
                for schema in sorted(all_schemas().values(), key=lambda schema: schema.name)
            },
            "correlationIds": {
                "request": {
                    "description": "The trace that the webhook's request had, if any; all that it causes has the same.",
                    "location": "$message.header#/traceparent",
                }
            },
        },
    }


def ce_type(kind: type[Record]) -> str:
    """The CloudEvents type of a kind of record."""
    return dict(cloud_event_headers(blank(kind)))["ce_type"].decode()


def blank(kind: type[Record]) -> Record:
    """A record of the kind with nothing in it: null, zero or empty in every field."""
    fields = newest_schema(kind).json["fields"]
    return msgspec.convert({field["name"]: _blank(field["type"]) for field in fields}, kind, strict=True)


def _blank(avro: Any) -> object:
    if isinstance(avro, list):
        return None
    if isinstance(avro, str):
        return {"string": "", "bytes": b"", "int": 0, "long": 0, "boolean": False}[avro]
    if "logicalType" in avro:
        return EPOCH
    return avro["symbols"][0] if avro["type"] == "enum" else {} if avro["type"] == "map" else []


def _name(topic: Topic) -> str:
    """`caseEvents` for `case-events.v1`."""
    first, *others = topic.suffix.rpartition(".v")[0].replace(".", "-").split("-")
    return first + "".join(other.title() for other in others)


def _servers(kafka: KafkaSettings) -> Object:
    is_secret = kafka.security_protocol.endswith("SSL")
    return {
        f"kafka{number}": {
            "host": address.strip(),
            "protocol": "kafka-secure" if is_secret else "kafka",
            "description": f"security.protocol {kafka.security_protocol}",
            "bindings": {"kafka": {"bindingVersion": BINDING}},
        }
        for number, address in enumerate(kafka.bootstrap_servers.split(","), start=1)
    }


def _channel(topic: Topic, kafka: KafkaSettings) -> Object:
    config = topic.config(kafka)
    limits = {name: int(config[name]) for name in ("retention.ms", "max.message.bytes") if name in config}
    return {
        "address": kafka.topic_prefix + topic.suffix,
        "title": kafka.topic_prefix + topic.suffix,
        "description": f"Key: {topic.key}. {_kept(topic, kafka)}",
        "messages": {kind.__name__: {"$ref": f"#/components/messages/{kind.__name__}"} for kind in topic.records},
        "bindings": {
            "kafka": {
                "topic": kafka.topic_prefix + topic.suffix,
                "partitions": kafka.partitions,
                "replicas": kafka.replication_factor,
                "topicConfiguration": {"cleanup.policy": config["cleanup.policy"].split(","), **limits},
                "bindingVersion": BINDING,
            }
        },
    }


def _kept(topic: Topic, kafka: KafkaSettings) -> str:
    if topic.retention is None:
        return "Compacted: the newest record of each key is kept."
    return f"Kept for {getattr(kafka.retention_hours, topic.retention)} hours."


def _operations(topic: Topic) -> list[tuple[str, Object]]:
    name = _name(topic)
    title = name[0].upper() + name[1:]
    sends = ("send" + title, _operation(topic, "send", "kyb-stream writes it; consumers read it."))
    if topic.suffix not in _OUTSIDERS_WRITE:
        return [sends]
    return [sends, ("receive" + title, _operation(topic, "receive", "Others may write it, too; kyb-stream reads it."))]


def _operation(topic: Topic, action: str, summary: str) -> Object:
    channel = f"#/channels/{_name(topic)}"
    messages = [{"$ref": f"{channel}/messages/{kind.__name__}"} for kind in topic.records]
    return {"action": action, "summary": summary, "channel": {"$ref": channel}, "messages": messages}


def _message(topic: Topic, kind: type[Record]) -> Object:
    schema = newest_schema(kind)
    return {
        "name": ce_type(kind),
        "title": kind.__name__,
        "summary": schema.json["doc"],
        "contentType": CONTENT_TYPE.decode(),
        "headers": _headers(kind),
        "payload": {"$ref": f"#/components/schemas/{schema.name}"},
        "correlationId": {"$ref": "#/components/correlationIds/request"},
        "bindings": {
            "kafka": {
                "key": {"type": "string", "description": topic.key},
                "schemaIdLocation": "payload",
                "schemaIdPayloadEncoding": "avro-single-object",
                "bindingVersion": BINDING,
            }
        },
    }


def _headers(kind: type[Record]) -> Object:
    """The headers of CloudEvents 1.0, Kafka binding, binary mode."""
    return {
        "type": "object",
        "required": ["ce_specversion", "ce_id", "ce_source", "ce_type", "ce_time", "content-type"],
        "properties": {
            "ce_specversion": {"type": "string", "const": "1.0"},
            "ce_id": {"type": "string", "description": "The record's id: the same record always has the same."},
            "ce_source": {"type": "string", "format": "uri-reference", "description": "Who made it: /kyb-stream/…"},
            "ce_type": {"type": "string", "const": ce_type(kind)},
            "ce_time": {"type": "string", "format": "date-time", "description": "The record's time, UTC."},
            "content-type": {"type": "string", "const": CONTENT_TYPE.decode()},
            "traceparent": {"type": "string", "description": "W3C trace context, if the webhook's request had one."},
        },
    }

"""A topic's records as JSON, without personal data and secrets."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec

from kybstream.errors import BadRecordError
from kybstream.operations.topic_reader import ReadRecord
from kybstream.terminal import visible_json
from schemas.codec import decode_any
from schemas.records import DeadLetter, Record, WebhookDelivery

HIDDEN: dict[type[Record], tuple[str, ...]] = {
    WebhookDelivery: ("body", "case_token"),
    DeadLetter: ("origin_value", "origin_headers"),
}
"""Fields that hold bodies, personal data or tokens; all others hold ids, pseudonyms and codes."""


def tail_line(record: ReadRecord) -> str:
    """One record as a line of JSON: where it lies, and its fields; of hidden fields only the size."""
    shown: dict[str, Any] = {
        "partition": record.partition,
        "offset": record.offset,
        "timestamp": datetime.fromtimestamp(record.timestamp_ms / 1000, UTC),
        "key": None if record.key is None else record.key.decode("utf-8", "replace"),
    }
    if record.value is None:
        shown["record"] = None
    else:
        try:
            shown["record"] = visible(decode_any(record.value))
        except BadRecordError as error:
            shown["error"] = error.message
            shown["value_size"] = len(record.value)
    return visible_json(msgspec.json.encode(shown))


def visible(record: Record) -> dict[str, Any]:
    """The fields of a record without personal data and secrets; of hidden fields only the size."""
    fields: dict[str, Any] = msgspec.structs.asdict(record)
    for name in HIDDEN.get(type(record), ()):
        value = fields.pop(name)
        if value is not None:
            fields[f"{name}_size"] = len(value)
    if isinstance(record, DeadLetter) and record.origin_key is not None:
        fields["origin_key"] = record.origin_key.decode("utf-8", "replace")
    return fields

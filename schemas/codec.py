"""Records to bytes and back: Avro single-object encoding.

A value on our topics is `C3 01`, the CRC-64-AVRO fingerprint of the writer's schema (8 bytes, little-endian), and the Avro
body. The folder `schemas/avro` is the registry: every version of every schema is kept there, so that every record ever written
can be read. A record is always read with its writer's schema: Avro gives wrong values without an error otherwise.
"""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, TypeVar

import fastavro
import msgspec
from fastavro.schema import fingerprint, parse_schema, to_parsing_canonical_form

from kybstream.errors import BadRecordError
from schemas import records
from schemas.reader import Read, compile_reader
from schemas.records import Record
from schemas.writer import Write, compile_writer

MAGIC = b"\xc3\x01"
HEADER_SIZE = 10
"""Bytes before the Avro body: magic and fingerprint."""

R = TypeVar("R", bound=Record)

NEWEST: dict[type[Record], str] = {
    records.WebhookDelivery: "webhook-delivery.v2",
    records.Link: "link.v1",
    records.LinkWithdrawal: "link-withdrawal.v1",
    records.Delivery: "delivery.v1",
    records.Event: "event.v1",
    records.CaseEvent: "case-event.v2",
    records.Case: "case.v1",
    records.DeadLetter: "dead-letter.v1",
    records.Rejection: "rejection.v1",
    records.Replay: "replay.v1",
}
"""The schema that each kind of record is written with."""

READ_OFTEN: tuple[type[Record], ...] = (records.WebhookDelivery, records.CaseEvent)
"""What the worker reads: these have compiled readers."""


@dataclass(frozen=True)
class Schema:
    """One version of one record's schema.

    Attributes:
        name: `<subject>.v<version>`, the file's name without its ending.
        json: The schema as in the file.
        fingerprint: CRC-64-AVRO of the parsing canonical form, 8 bytes, little-endian.
    """

    name: str
    json: dict[str, Any]
    fingerprint: bytes
    parsed: Any

    @property
    def subject(self) -> str:
        """The name without its version."""
        return self.name.rpartition(".v")[0]


@cache
def all_schemas() -> dict[bytes, Schema]:
    """Every kept schema by its fingerprint."""
    found: dict[bytes, Schema] = {}
    for file in sorted(resources.files("schemas").joinpath("avro").iterdir(), key=lambda entry: entry.name):
        if not file.name.endswith(".avsc"):
            continue
        content = json.loads(file.read_text(encoding="utf-8"))
        # fastavro already gives this algorithm's value in little-endian order.
        print_ = bytes.fromhex(fingerprint(to_parsing_canonical_form(content), "CRC-64-AVRO"))
        found[print_] = Schema(file.name.removesuffix(".avsc"), content, print_, parse_schema(content, named_schemas={}))
    return found


@cache
def newest_schema(kind: type[Record]) -> Schema:
    """The schema that records of this kind are written with."""
    name = NEWEST[kind]
    return next(schema for schema in all_schemas().values() if schema.name == name)


@cache
def _kind_of(subject: str) -> type[Record]:
    return next(kind for kind, name in NEWEST.items() if name.rpartition(".v")[0] == subject)


def encode(record: Record) -> bytes:
    """The record as single-object encoded Avro under its newest schema."""
    return _writer(type(record))(record)


@cache
def _writer(kind: type[Record]) -> Write:
    schema = newest_schema(kind)
    return compile_writer(schema.json, MAGIC + schema.fingerprint)


def schema_of(value: bytes) -> Schema:
    """The writer's schema of an encoded record.

    Raises:
        BadRecordError: It is not single-object encoded, or no kept schema has its fingerprint.
    """
    if len(value) < HEADER_SIZE or value[:2] != MAGIC:
        raise BadRecordError("the value is not single-object encoded Avro")
    schema = all_schemas().get(value[2:HEADER_SIZE])
    if schema is None:
        raise BadRecordError(f"no kept schema has the fingerprint {value[2:HEADER_SIZE].hex()}")
    return schema


def decode(value: bytes, kind: type[R]) -> R:
    """The record behind the bytes, read with its writer's schema.

    Raises:
        BadRecordError: The bytes are not a record of this kind, end early, or have bytes left over.
    """
    record = decode_any(value)
    if not isinstance(record, kind):
        raise BadRecordError(f"expected a {kind.__name__}, found a {type(record).__name__}")
    return record


def decode_any(value: bytes) -> Record:
    """The record behind the bytes, of whatever kind its schema says.

    Raises:
        BadRecordError: As `decode`.
    """
    read = _readers().get(value[:HEADER_SIZE])
    if read is None:
        return decode_with_fastavro(value)
    try:
        record, end = read(value, HEADER_SIZE)
    except (ValueError, IndexError, KeyError, OverflowError) as error:
        raise _misfit(schema_of(value), error) from None
    if end > len(value):
        raise _misfit(schema_of(value), EOFError())
    if end < len(value):
        raise _left_over(schema_of(value), len(value) - end)
    return record


def decode_with_fastavro(value: bytes) -> Record:
    """`decode_any`, by the reference: for what is read seldom, and for all schemas but the newest.

    Raises:
        BadRecordError: As `decode`.
    """
    schema = schema_of(value)
    source = io.BytesIO(value)
    source.seek(HEADER_SIZE)
    try:
        content = fastavro.schemaless_reader(source, schema.parsed, None)
        kind = _kind_of(schema.subject)
        record = msgspec.convert(content, kind, strict=True)
    except (EOFError, ValueError, IndexError, OverflowError, TypeError, msgspec.ValidationError) as error:
        raise _misfit(schema, error) from None
    if source.tell() != len(value):
        raise _left_over(schema, len(value) - source.tell())
    return record


@cache
def _readers() -> dict[bytes, Read[Record]]:
    """Compiled readers by what an encoded record begins with."""
    return {MAGIC + newest_schema(kind).fingerprint: compile_reader(newest_schema(kind).json, kind) for kind in READ_OFTEN}


def _misfit(schema: Schema, error: Exception) -> BadRecordError:
    return BadRecordError(f"the body does not fit {schema.name} ({type(error).__name__})")


def _left_over(schema: Schema, size: int) -> BadRecordError:
    return BadRecordError(f"{size} bytes are left over after {schema.name}")

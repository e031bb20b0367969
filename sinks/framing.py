"""Encoded records into an Avro object container, without decoding them.

A container is a header with the schema, then blocks of record bodies. A topic's values are exactly such bodies behind ten
bytes of magic and fingerprint, so a container is made by cutting those off and putting topic, partition and offset (three
fields of the container's schema) in their place. Each record is a block of its own: a body that is shorter or longer than its
schema says can then not shift its neighbours. It costs 17 to 20 bytes a record and, measured, no time.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

from kybstream.errors import BadRecordError
from schemas.codec import HEADER_SIZE, Schema, schema_of
from sinks.tables import POSITION_COLUMNS

_POSITION_TYPES = ("string", "int", "long")
_SYNC_BYTES = 16
_VARINT_MORE = 0x80
_LOW = tuple(bytes((number,)) for number in range(256))


class Message(Protocol):
    """A consumed Kafka record; aiokafka's ConsumerRecord is one."""

    @property
    def topic(self) -> str: ...  # noqa: D102
    @property
    def partition(self) -> int: ...  # noqa: D102
    @property
    def offset(self) -> int: ...  # noqa: D102
    @property
    def timestamp(self) -> int:
        """Milliseconds since the epoch; -1 for none."""

    @property
    def key(self) -> bytes | None: ...  # noqa: D102
    @property
    def value(self) -> bytes | None: ...  # noqa: D102
    @property
    def headers(self) -> Sequence[tuple[str, bytes]]: ...  # noqa: D102


@dataclass(frozen=True)
class Piece:
    """Neighbours of one partition written with one schema: one insert.

    Attributes:
        schema: Their writer's schema.
        messages: Ascending offsets; at least one. Between them lie only offsets that hold no row (compacted, tombstones, bad).
    """

    schema: Schema
    messages: tuple[Message, ...]

    @property
    def first(self) -> int:
        """Offset of the first record."""
        return self.messages[0].offset

    @property
    def last(self) -> int:
        """Offset of the last record."""
        return self.messages[-1].offset


@dataclass(frozen=True)
class Unframable:
    """A record that cannot be a row.

    Attributes:
        message: As consumed.
        reason: A code: `no_value`, `not_avro`, `unknown_schema`, `wrong_record`, `bad_body` or `rejected_by_clickhouse`.
        detail: In words, without content.
    """

    message: Message
    reason: str
    detail: str


def sort_out(
    messages: Sequence[Message], subject: str, *, tombstones: bool
) -> tuple[tuple[Piece, ...], tuple[Unframable, ...]]:
    """Parts a partition's neighbours into inserts and what cannot be inserted.

    A piece ends where the writer's schema changes, and nowhere else: pieces are written in their order, so that the newest
    offset in the table always says how far the partition is.

    Args:
        messages: Of one partition, ascending offsets.
        subject: The schemas' name without version (`delivery`) that belongs here.
        tombstones: Whether an absent value means "deleted" (compacted topics) and is passed over.
    """
    pieces: list[Piece] = []
    bad: list[Unframable] = []
    current: list[Message] = []
    current_head = b""
    schema: Schema | None = None
    for message in messages:
        value = message.value
        if value is None:
            if not tombstones:
                bad.append(Unframable(message, "no_value", "the record has no value"))
            continue
        head = value[:HEADER_SIZE]
        if head != current_head or schema is None:
            found = _schema_or_reason(value, subject)
            if not isinstance(found, Schema):
                bad.append(Unframable(message, *found))
                continue
            if current and schema is not None:
                pieces.append(Piece(schema, tuple(current)))
                current = []
            schema, current_head = found, head
        current.append(message)
    if current and schema is not None:
        pieces.append(Piece(schema, tuple(current)))
    return tuple(pieces), tuple(bad)


def _schema_or_reason(value: bytes, subject: str) -> Schema | tuple[str, str]:
    try:
        schema = schema_of(value)
    except BadRecordError as error:
        return ("unknown_schema" if value[:2] == b"\xc3\x01" and len(value) >= HEADER_SIZE else "not_avro"), error.message
    if schema.subject != subject:
        return "wrong_record", f"expected a {subject}, found a {schema.subject}"
    return schema


def frame(piece: Piece) -> bytes:
    """The piece as an Avro object container; the same piece always gives the same bytes."""
    header, sync = _container(piece.schema.name, piece.schema.fingerprint)
    position = _text(piece.messages[0].topic.encode()) + _number(piece.messages[0].partition)
    fixed = len(position) - HEADER_SIZE
    out = [header]
    lengths: dict[int, bytes] = {}
    # Sixty-four neighbouring offsets differ in the first byte of their varint alone.
    high, rest = -1, b""
    for message in piece.messages:
        value = message.value or b""
        zigzag = message.offset << 1
        if zigzag < _VARINT_MORE:
            offset = _LOW[zigzag]
        else:
            if zigzag >> 7 != high:
                high = zigzag >> 7
                rest = _varint(high)
            offset = _LOW[zigzag & 0x7F | _VARINT_MORE] + rest
        size = fixed + len(offset) + len(value)
        length = lengths.get(size)
        if length is None:
            length = lengths[size] = _number(size)
        # A block: how many records (one), how many bytes, the bytes, the marker.
        out += (b"\x02", length, position, offset, value[HEADER_SIZE:], sync)
    return b"".join(out)


def columns(schema: Schema, of_table: frozenset[str]) -> tuple[str, ...]:
    """The columns an insert of this writer's schema fills; the table's other columns take their defaults.

    Fields the table leaves out on purpose (`dead_letters` without the record as it was) are skipped by ClickHouse.
    """
    fields = (str(field["name"]) for field in schema.json["fields"])
    return (*POSITION_COLUMNS, *(name for name in fields if name in of_table))


@lru_cache(maxsize=64)
def _container(name: str, fingerprint: bytes) -> tuple[bytes, bytes]:
    """Header and sync marker of containers with this writer's schema."""
    schema = schema_of(b"\xc3\x01" + fingerprint).json
    position = [{"name": column, "type": kind} for column, kind in zip(POSITION_COLUMNS, _POSITION_TYPES, strict=True)]
    framed = json.dumps({**schema, "fields": [*position, *schema["fields"]]}, separators=(",", ":")).encode()
    # Any 16 bytes would do; derived ones keep equal pieces equal.
    sync = hashlib.sha256(b"kyb-stream sync " + name.encode() + fingerprint).digest()[:_SYNC_BYTES]
    meta = _number(2) + _text(b"avro.schema") + _text(framed) + _text(b"avro.codec") + _text(b"null") + _number(0)
    return b"Obj\x01" + meta + sync, sync


def _text(raw: bytes) -> bytes:
    return _number(len(raw)) + raw


def _number(value: int) -> bytes:
    """An Avro int or long: zig-zag, then as `_varint`."""
    return _varint((value << 1) ^ (value >> 63))


def _varint(rest: int) -> bytes:
    """Seven bits a byte, low ones first."""
    out = bytearray()
    while rest >= _VARINT_MORE:
        out.append(rest & 0x7F | _VARINT_MORE)
        rest >>= 7
    out.append(rest)
    return bytes(out)

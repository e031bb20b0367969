"""Encoded records into an Avro object container, without decoding them.

A container is a header with the schema, then blocks of record bodies. A topic's values are exactly such bodies behind ten
bytes of magic and fingerprint, so a container is made by cutting those off and putting topic, partition and offset (three
fields of the container's schema) in their place. Each record is a block of its own: a body that is shorter or longer than its
schema says can then not shift its neighbours. It costs 17 to 20 bytes a record and, measured, no time.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from operator import attrgetter
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
    """Neighbours in some partitions of a topic, written with one schema: one insert.

    Attributes:
        schema: Their writer's schema.
        messages: At least one, partition by partition, ascending offsets in each. Between two neighbours of a partition lie
            only offsets that hold no row (compacted, tombstones, bad).
    """

    schema: Schema
    messages: tuple[Message, ...]

    def ranges(self) -> list[tuple[int, int, int]]:
        """Of each partition: its number, its first and its last offset."""
        return [(partition, run[0].offset, run[-1].offset) for partition, run in by_partition(self.messages)]


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
    """Parts neighbours into inserts and what cannot be inserted.

    A partition's records go into different pieces where the writer's schema changes, and nowhere else. Pieces are written
    in their order, and none holds what lies behind records of a later one: so the newest offset in the table always says
    how far a partition is.

    Args:
        messages: Of one topic, partition by partition, ascending offsets in each.
        subject: The schemas' name without version (`delivery`) that belongs here.
        tombstones: Whether an absent value means "deleted" (compacted topics) and is passed over.
    """
    bad: list[Unframable] = []
    # The nth stretches of all partitions, by schema: one piece each.
    turns: list[dict[bytes, tuple[Schema, list[Message]]]] = []
    for _, run in by_partition(messages):
        for turn, (schema, stretch) in enumerate(_stretches(run, subject, bad, tombstones=tombstones)):
            if turn == len(turns):
                turns.append({})
            turns[turn].setdefault(schema.fingerprint, (schema, []))[1].extend(stretch)
    return tuple(Piece(schema, tuple(those)) for turn in turns for schema, those in turn.values()), tuple(bad)


def by_partition(messages: Sequence[Message]) -> Iterator[tuple[int, list[Message]]]:
    """Each partition's number and records; they must lie partition by partition."""
    for partition, run in groupby(messages, attrgetter("partition")):
        yield partition, list(run)


def _stretches(
    messages: Sequence[Message], subject: str, bad: list[Unframable], *, tombstones: bool
) -> Iterator[tuple[Schema, list[Message]]]:
    """The good records of one partition, up to each change of the schema; the others are added to `bad`."""
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
                yield schema, current
                current = []
            schema, current_head = found, head
        current.append(message)
    if current and schema is not None:
        yield schema, current


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
    topic = _text(piece.messages[0].topic.encode())
    out = [header]
    lengths: dict[int, bytes] = {}
    for partition, run in by_partition(piece.messages):
        position = topic + _number(partition)
        fixed = len(position) - HEADER_SIZE
        # Sixty-four neighbouring offsets differ in the first byte of their varint alone.
        high, rest = -1, b""
        for message in run:
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

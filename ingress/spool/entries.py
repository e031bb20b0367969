"""What the spool keeps, and the bytes it keeps of it.

A record is a header (magic, length, checksum, sequence number) and a msgpack body. The checksum tells a flipped bit from a
delivery; the magic lets `carving` find records in a file that SQLite cannot read any more.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple
from zlib import crc32

import msgspec

MAGIC = b"\x89KYBspl\x01"
# Magic, length of the delivery id in the row beside the record, length of the body, checksum, sequence number.
_HEADER = struct.Struct(">8sHIIQ")
HEADER_BYTES = _HEADER.size


class SpoolEntry(msgspec.Struct, frozen=True, array_like=True):
    """One record for Kafka, as it would have been produced.

    Attributes:
        delivery_id: Names the delivery, here and downstream: one id is kept once.
        topic: Where it goes.
        key: The record's key.
        value: The record's value.
        headers: The record's headers.
        stored_at: When it was handed to the spool, UTC.
    """

    delivery_id: str
    topic: str
    key: bytes
    value: bytes
    headers: Sequence[tuple[str, bytes]]
    stored_at: datetime

    def __repr__(self) -> str:
        # Key and value must not reach a log by accident.
        return f"SpoolEntry({self.delivery_id}, topic={self.topic!r}, value_size={len(self.value)})"


class StoredEntry(NamedTuple):
    """An entry in the spool. `id` grows in the order of insertion and is never used twice; `size` is in bytes."""

    id: int
    entry: SpoolEntry
    size: int


class SpoolStats(NamedTuple):
    """How full the spool is.

    Attributes:
        depth: Entries waiting.
        bytes: What they take, without SQLite's own overhead.
        file_bytes: What the files take on the disk.
        pending_bytes: Handed over and not on the disk yet.
        oldest_seconds: Age of the oldest entry; 0 when there is none.
        set_aside: Entries that will not be sent: damaged, or refused by Kafka for good.
        transactions: Commits of entries since the start.
    """

    depth: int
    bytes: int
    file_bytes: int
    pending_bytes: int
    oldest_seconds: float
    set_aside: int
    transactions: int


class DamagedRecordError(ValueError):
    """The bytes are not what was stored."""


class Header(NamedTuple):
    """The header of a record."""

    id_bytes: int
    body_bytes: int
    checksum: int
    sequence: int

    @property
    def record_bytes(self) -> int:
        """Length of the whole record."""
        return HEADER_BYTES + self.body_bytes


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(SpoolEntry)


def body_of(entry: SpoolEntry) -> bytes:
    """The entry as bytes, without a header."""
    return _encoder.encode(entry)


def record_of(delivery_id: str, body: bytes, sequence: int) -> bytes:
    """The bytes that are stored."""
    return _HEADER.pack(MAGIC, len(delivery_id.encode()), len(body), _checksum(body, sequence), sequence) + body


def header_at(data: bytes) -> Header | None:
    """The header that `data` begins with, or None when it does not begin with one."""
    if len(data) < HEADER_BYTES:
        return None
    magic, *fields = _HEADER.unpack_from(data)
    return Header(*fields) if magic == MAGIC else None


def entry_of(record: bytes) -> SpoolEntry:
    """The entry in a stored record.

    Raises:
        DamagedRecordError: The record is not as it was stored.
    """
    header = header_at(record)
    body = record[HEADER_BYTES:]
    if header is None or len(body) != header.body_bytes or _checksum(body, header.sequence) != header.checksum:
        raise DamagedRecordError("the checksum does not match")
    try:
        return _decoder.decode(body)
    except msgspec.MsgspecError as error:
        raise DamagedRecordError("not an entry of this version") from error


def _checksum(body: bytes, sequence: int) -> int:
    return crc32(sequence.to_bytes(8, "big"), crc32(body))

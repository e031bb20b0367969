"""Reads the delivery ids of fetched batches as Kafka wrote them, without an object for each record."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from aiokafka.record import MemoryRecords

from kybstream.errors import BadRecordError
from schemas.codec import MAGIC, decode, newest_schema
from schemas.records import Delivery, WebhookDelivery

_BATCH = struct.Struct(">qiibIhiqqqhii")  # KIP-98: base offset, length, …, magic, CRC, attributes, …, number of records
_BEFORE_LENGTH = 12
_MAGIC_AT = 3
_ATTRIBUTES_AT = 5
_BASE_TIME_AT = 7
_FORMAT = 2
_COMPRESSED = 0x07
_CONTROL = 0x20
_MORE = 0x80
_ID_SIZE = 36
_ID_ENDS = 1 + _ID_SIZE  # behind the header of a value: the zigzag length of the id, one byte, and the id


class BatchReader:
    """Reads batches of one kind of record."""

    def __init__(self, kind: type[WebhookDelivery | Delivery], found: Callable[[list[bytes]], None]) -> None:
        self._kind = kind
        self._found = found
        self._begins = MAGIC + newest_schema(kind).fingerprint + bytes([2 * _ID_SIZE])
        self.records = 0
        self.undecodable = 0
        self.first_ms: dict[int, tuple[int, int]] = {}
        """By partition: when its first record was written, and when that delivery was received."""

    def forget_first(self, partition: int) -> None:
        """Retention has cut off what was read first: the oldest record is yet to come."""
        self.first_ms.pop(partition, None)

    def read(self, partition: int, data: bytes, position: int, end: int) -> int:
        """Hands on the ids of what lies at `position` and after, before `end`; gives the offset that comes next.

        The last batch of a fetch is cut off where the fetch's size ended, and left out.
        """
        ids: list[bytes] = []
        at, size = 0, len(data)
        while at + _BATCH.size <= size and position < end:
            head = _BATCH.unpack_from(data, at)
            behind = at + _BEFORE_LENGTH + head[1]
            if behind > size:
                break
            if partition not in self.first_ms:
                self.first_ms[partition] = head[_BASE_TIME_AT], self._received_ms(data[at:behind], head[_BASE_TIME_AT])
            plain = head[_MAGIC_AT] == _FORMAT and not head[_ATTRIBUTES_AT] & (_COMPRESSED | _CONTROL)
            if plain and head[0] >= position and head[0] + head[6] < end:
                self._walk(data, at + _BATCH.size, head[-1], ids)
            else:
                self._decode(data[at:behind], position, end, ids)
            position = max(position, head[0] + head[6] + 1)
            at = behind
        self._found(ids)
        return position

    def _walk(self, data: bytes, at: int, count: int, ids: list[bytes]) -> None:
        """The ids of `count` records that lie one after another in an uncompressed batch."""
        begins, head_size = self._begins, len(self._begins)
        for _ in range(count):
            length, at = _varint(data, at)
            behind = at + length
            # Where it says so first is the beginning of the value: keys are UTF-8, in which C3 is never followed by 01.
            found = data.find(begins, at, behind)
            if 0 <= found <= behind - head_size - _ID_SIZE:
                ids.append(data[found + head_size : found + head_size + _ID_SIZE])
            else:
                self._take(_value(data, at), ids)
            at = behind
        self.records += count

    def _decode(self, batch: bytes, position: int, end: int, ids: list[bytes]) -> None:
        """The same of one batch by aiokafka: it may be compressed, or begin before `position`."""
        records: Any = MemoryRecords(batch)
        while records.has_next():
            one = records.next_batch()
            if one.is_control_batch:
                continue
            for record in one:
                if position <= record.offset < end:
                    self.records += 1
                    self._take(record.value or b"", ids)

    def _received_ms(self, batch: bytes, written_ms: int) -> int:
        records: Any = MemoryRecords(batch)
        for record in records.next_batch() if records.has_next() else ():
            try:
                return int(decode(record.value or b"", self._kind).received_at.timestamp() * 1000)
            except BadRecordError:
                continue
        return written_ms

    def _take(self, value: bytes, ids: list[bytes]) -> None:
        try:
            ids.append(decode(value, self._kind).delivery_id.encode())
        except BadRecordError:
            self.undecodable += 1


def _value(data: bytes, at: int) -> bytes:
    """The value of the record whose fields begin at `at`."""
    _, at = _varint(data, at + 1)  # time, behind a byte of attributes
    _, at = _varint(data, at)  # offset
    key_size, at = _varint(data, at)
    value_size, at = _varint(data, at + max(0, key_size))
    return data[at : at + max(0, value_size)]


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A zigzag number of variable length, and where it ends."""
    byte = data[at]
    at += 1
    if byte < _MORE:
        return (byte >> 1) ^ -(byte & 1), at
    number, shift = byte & 0x7F, 7
    while byte >= _MORE:
        byte = data[at]
        at += 1
        number |= (byte & 0x7F) << shift
        shift += 7
    return (number >> 1) ^ -(number & 1), at

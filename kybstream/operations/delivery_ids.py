"""The delivery ids of a whole topic, at the speed of its bytes: without an object for each record, in bounded memory.

aiokafka makes an object of each record, with key, value and headers: some 4 µs. Here the fetched batches are walked as Kafka
wrote them (message format 2, the only one since Kafka 3), and of each record only the first field of its value is read:
deliveries and what became of them begin with `delivery_id`. Batches that are compressed, and records of another form, take the
slow way: decoded whole.

The ids go into buckets by their last two characters, which in our ids are random, and from 32 MiB on to files of a folder. Two
collections are then compared bucket by bucket.
"""

from __future__ import annotations

import asyncio
import struct
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError, OffsetOutOfRangeError, for_code
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.record import MemoryRecords

from kybstream.errors import BadRecordError
from kybstream.kafka import partitions_of, reading, unreachable
from kybstream.settings import KafkaSettings
from schemas.codec import MAGIC, decode, newest_schema
from schemas.records import Delivery, WebhookDelivery

HOLD_BYTES = 32 * 1024 * 1024
"""Ids that a process holds in memory before they go to files."""

_FETCH_BYTES = 4 * 1024 * 1024
_PARTITION_BYTES = 1024 * 1024
_FETCH_WAIT_MS = 500
_AT_ONCE = 2
"""Fetches under way: the broker reads for one while the answer to the other is walked."""
_RETRY_SECONDS = 0.2
_GIVE_UP_SECONDS = 30.0
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

Kind = TypeVar("Kind", WebhookDelivery, Delivery)


class IdBuckets:
    """Ids, repeats included, by their last two characters.

    Args:
        folder: Where they go when there are many.
        hold_bytes: How many bytes stay in memory.
    """

    def __init__(self, folder: Path, hold_bytes: int = HOLD_BYTES) -> None:
        self._folder = folder
        self._hold_bytes = hold_bytes
        self._held: defaultdict[bytes, bytearray] = defaultdict(bytearray)
        self._bytes = 0
        self._spilled: set[bytes] = set()
        self._others: list[Path] = []

    def add(self, ids: Iterable[bytes]) -> None:
        """Takes ids in."""
        held = self._held
        size = 0
        for each in ids:
            held[each[-2:]] += each + b"\n"
            size += len(each) + 1
        self._bytes += size
        if self._bytes >= self._hold_bytes:
            self.write_out()

    def keys(self) -> Iterator[str]:
        """The last two characters of all ids, each once, sorted."""
        elsewhere = {bytes.fromhex(file.name) for folder in self._others for file in folder.iterdir()}
        return iter(sorted(key.decode() for key in self._spilled | self._held.keys() | elsewhere))

    def take(self, key: str) -> list[str]:
        """The ids that end in these characters."""
        end = key.encode()
        folders = [*self._others, *([self._folder] if end in self._spilled else [])]
        files = [folder / end.hex() for folder in folders]
        text = b"".join([file.read_bytes() for file in files if file.exists()])
        return (text + self._held.get(end, b"")).decode().split("\n")[:-1]

    def join(self, folder: Path) -> None:
        """Takes in what others have written out to a folder; it stays there."""
        self._others.append(folder)

    def write_out(self) -> None:
        """Puts all that is in memory into files, to make room or for `join` of others."""
        for key, text in self._held.items():
            with self._path(key).open("ab") as file:
                file.write(text)
        self._spilled |= self._held.keys()
        self._held.clear()
        self._bytes = 0

    def _path(self, key: bytes) -> Path:
        return self._folder / key.hex()


@dataclass
class TopicScan:
    """What a scan of a topic found beside the ids.

    Attributes:
        records: How many records there were.
        undecodable: How many of them are none of the kind.
        cut_ms: When the first records of the partitions that retention has cut were written, the newest of them; None where it
            has cut none. In milliseconds since the epoch.
        oldest_ms: The oldest receipt; None for an empty topic.
        ends: Where each partition ended when the scan began.
    """

    records: int = 0
    undecodable: int = 0
    cut_ms: int | None = None
    oldest_ms: int | None = None
    ends: dict[int, int] = field(default_factory=dict)

    @property
    def complete_since_ms(self) -> int | None:
        """What was received from then on still lies in the topic, in milliseconds since the epoch. None for an empty topic."""
        return self.oldest_ms if self.cut_ms is None else self.cut_ms

    def and_of(self, other: TopicScan) -> TopicScan:
        """Both, of different partitions, as one."""
        return TopicScan(
            self.records + other.records,
            self.undecodable + other.undecodable,
            max((each.cut_ms for each in (self, other) if each.cut_ms is not None), default=None),
            min((each.oldest_ms for each in (self, other) if each.oldest_ms is not None), default=None),
            self.ends | other.ends,
        )


async def scan_ids(
    kafka: KafkaSettings,
    topic: str,
    kind: type[Kind],
    found: Callable[[list[bytes]], None],
    *,
    begin: dict[int, int] | None = None,
    only: Collection[int] | None = None,
) -> TopicScan:
    """Reads a topic to where it ended when the scan began, and hands on the delivery ids.

    A record that begins as its schema says counts as one of the kind: whether all of it can be decoded, the worker knows.

    Args:
        kafka: Where.
        topic: Its full name.
        kind: What lies there.
        found: Is given the ids of some records at a time.
        begin: Offsets to begin with by partition; the oldest records unless given.
        only: Partitions to read; all unless given.

    Raises:
        UnavailableError: Kafka cannot be reached.
        RunError: There is no such topic.
    """
    partitions = [each for each in await partitions_of(kafka, topic) if only is None or each in only]
    places = [TopicPartition(topic, partition) for partition in partitions]
    async with reading(kafka) as consumer:
        try:
            consumer.assign(places)
            consumer.pause(*places)  # only its connections are used
            oldest = {place.partition: offset for place, offset in (await consumer.beginning_offsets(places)).items()}
            ends = {place.partition: offset for place, offset in (await consumer.end_offsets(places)).items()}
            reader = _Reader(kind, found)
            positions = {each: max(oldest[each], (begin or oldest).get(each, 0)) for each in partitions}
            halves = [{each: positions[each] for each in partitions[start::_AT_ONCE]} for start in range(_AT_ONCE)]
            client = consumer._client  # noqa: SLF001 (aiokafka, pinned)

            async def cut(partition: int) -> int:
                place = TopicPartition(topic, partition)
                oldest[partition] = begins = int((await consumer.beginning_offsets([place]))[place])
                reader.forget_first(partition)
                return begins

            await asyncio.gather(*(_fetch_all(client, topic, half, ends, read=reader.read, cut=cut) for half in halves))
        except (KafkaError, OSError) as error:
            raise unreachable(kafka, error) from None
    return TopicScan(
        reader.records,
        reader.undecodable,
        max((written for partition, (written, _) in reader.first_ms.items() if oldest[partition] > 0), default=None),
        min((received for _, received in reader.first_ms.values()), default=None),
        ends,
    )


class _Reader:
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


async def _fetch_all(
    client: Any,
    topic: str,
    positions: dict[int, int],
    ends: dict[int, int],
    *,
    read: Callable[[int, bytes, int, int], int],
    cut: Callable[[int], Awaitable[int]],
) -> None:
    """Fetches from all leaders at once, each as soon as its answer was read, until every partition is at its end.

    Where retention has removed what is next, `cut` says where the partition begins by now.
    """
    failing_since: float | None = None
    while unfinished := [partition for partition, position in positions.items() if position < ends[partition]]:
        nodes: defaultdict[int, list[int]] = defaultdict(list)
        for partition in unfinished:
            leader = client.cluster.leader_for_partition(TopicPartition(topic, partition))
            if leader is None or leader < 0:  # for the moment; the others go on
                await client.force_metadata_update()
            else:
                nodes[leader].append(partition)
        moved = False
        answers = await asyncio.gather(*(_fetch(client, node, topic, which, positions) for node, which in nodes.items()))
        for partition, error, data in [each for answer in answers for each in answer]:
            if error == OffsetOutOfRangeError.errno and (oldest := await cut(partition)) > positions[partition]:
                positions[partition] = oldest
                moved = True
                continue
            if error:
                if not for_code(error).retriable:
                    raise for_code(error)
                await client.force_metadata_update()
                continue
            behind = read(partition, data, positions[partition], ends[partition])
            moved |= behind > positions[partition]
            positions[partition] = behind
        if moved:
            failing_since = None
            continue
        now = asyncio.get_running_loop().time()
        failing_since = failing_since or now
        if now - failing_since > _GIVE_UP_SECONDS:
            raise TimeoutError
        await asyncio.sleep(_RETRY_SECONDS)


async def _fetch(
    client: Any, node: int, topic: str, which: list[int], positions: dict[int, int]
) -> list[tuple[int, int, bytes]]:
    """Partition, error code and bytes, for each partition of one broker."""
    wanted = [(partition, positions[partition], _PARTITION_BYTES) for partition in which]
    answer = await client.send(node, FetchRequest(_FETCH_WAIT_MS, 1, _FETCH_BYTES, 0, [(topic, wanted)]))
    return [(each[0], each[1], bytes(each[-1] or b"")) for _, found in answer.topics for each in found]

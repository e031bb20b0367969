"""Neighbours of some partitions into the table: dead letters first, then one insert a piece, sent again until it landed."""

from __future__ import annotations

import asyncio
import re
import time
import zlib
from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import structlog

from kybstream.errors import BadRecordError
from kybstream.producing import RecordTooLargeError, ReplacedProducer
from kybstream.settings import Settings
from schemas import topics
from schemas.cloudevents import cloud_event_headers
from schemas.codec import NEWEST, decode, encode
from schemas.records import DeadLetter
from sinks.clickhouse import Client, in_our_words
from sinks.dead_letters import dead_letter_of, without_record
from sinks.derived import INSERT_SETTINGS as DERIVED_INSERT_SETTINGS
from sinks.errors import OUT_OF_MEMORY, Blame, NotNowError, RefusedError
from sinks.framing import Message, Piece, Unframable, by_partition, columns, frame, sort_out
from sinks.limit import REJECTED, RejectionLimit
from sinks.metrics import SinkMetrics
from sinks.retrying import Retrying
from sinks.tables import TABLES, Table

_log = structlog.get_logger(__name__)

INSERTS_UNDER_WAY = 4
"""Inserts of one process at a time, over all partitions; more gained nothing on two cores."""

_PRODUCE_SECONDS = 15.0
"""How long a dead letter waits for its acknowledgement; then it is sent again by another producer, as the same dead letter."""
_TOO_LONG = 131  # TOO_LARGE_STRING_SIZE
_WORD = re.compile(r"\w+")

_INSERT_SETTINGS: Mapping[str, str] = {
    "async_insert": "0",  # 1 by default in newer versions: it would answer before the rows are there
    "insert_deduplicate": "1",
    "max_insert_block_size": "1048576",  # above any flush_rows: one insert is one block, one part, all or nothing
    **DERIVED_INSERT_SETTINGS,
}


@dataclass(frozen=True)
class Written:
    """What became of a batch: rows landed, records sent to the dead letters."""

    rows: int
    dead: int


def token(piece: Piece, framed: bytes) -> str:
    """The name by which ClickHouse knows a repeated insert: `topic:partition:first-last:crc32`.

    With rows of several partitions it is `topic:partition:first-last,partition:first-last:crc32`, and so on.
    The checksum is there because other rows under a known token are dropped without a word: a topic that was made anew has
    the same offsets with other records.
    """
    ranges = ",".join(f"{partition}:{first}-{last}" for partition, first, last in piece.ranges())
    return f"{piece.messages[0].topic}:{ranges}:{zlib.crc32(framed):08x}"


def _place(message: Message) -> tuple[int, int]:
    return message.partition, message.offset


@dataclass(frozen=True)
class _Batch:
    """What is written at one time, and where it stands in the limit's count."""

    table: Table
    messages: Sequence[Message]
    number: int

    def numbers_of(self, bad: Sequence[Unframable]) -> list[int]:
        """The limit's numbers of these records."""
        return [self.number + bisect_left(self.messages, _place(each.message), key=_place) for each in bad]


class Writer:
    """Writes batches of any partitions; safe to call for several at once, as long as no partition is in two of them."""

    def __init__(
        self,
        settings: Settings,
        client: Client,
        producer: ReplacedProducer,
        table_columns: Mapping[str, frozenset[str]],
        metrics: SinkMetrics,
        *,
        tables: Sequence[Table] = TABLES,
    ) -> None:
        self._settings = settings
        self._client = client
        self._producer = producer
        self._columns = table_columns
        self._metrics = metrics
        self._slots = asyncio.Semaphore(INSERTS_UNDER_WAY)
        share, window = settings.sink.dead_letter_share, settings.sink.dead_letter_window
        self._limits = {table.name: RejectionLimit(table.name, share=share, window=window) for table in tables}
        self._retrying = Retrying(metrics)
        self.last_insert: float | None = None
        """When rows landed last, in seconds of the monotonic clock."""
        self.settled: Counter[tuple[str, int]] = Counter()
        """How many records of each partition are done with: in ClickHouse or in the dead letters."""

    async def write(self, table: Table, messages: Sequence[Message]) -> Written:
        """Returns when all of them are in ClickHouse or, the bad ones, acknowledged in the dead letters topic.

        The order that correctness rests on:
          1. a bad record is acknowledged in the dead letters before anything behind it lands, because the newest row in the
             table is where a restart goes on;
          2. pieces, and the halves of a rejected piece, land so that no partition's offsets go back, each sent again with the
             same bytes and token until the answer is clear;
          3. only then does the caller move the group's offsets and hand in the next batch of one of these partitions.

        Args:
            table: Where to.
            messages: Of its topic, partition by partition in ascending order, ascending offsets in each.

        Waits for as long as Kafka or ClickHouse is unavailable; to give up, cancel it.

        Raises:
            RefusedError: ClickHouse refuses an insert for no record's fault.
            RejectionLimitError: So many records are bad that it cannot be their fault.
        """
        subject = NEWEST[table.record].rpartition(".v")[0]
        compacted = topics.topic_named(table.topic, "")
        pieces, bad = sort_out(messages, subject, tombstones=compacted is not None and compacted.retention is None)
        batch = _Batch(table, messages, self._limits[table.name].begin(len(messages)))
        await self._bury(batch, bad)
        dead = len(bad)
        for piece in pieces:
            dead += await self._land(batch, piece)
        return Written(rows=sum(len(piece.messages) for piece in pieces) + len(bad) - dead, dead=dead)

    async def _land(self, batch: _Batch, piece: Piece, *, decoded: bool = False) -> int:
        """Brings a piece into the table, without the records that ClickHouse rejects; how many those are.

        Args:
            batch: What it is of.
            piece: Not empty.
            decoded: Whether each of its records is known to fit its schema.
        """
        try:
            await self._insert(batch.table, piece)
        except RefusedError as error:
            if error.cause.blame is not Blame.RECORD:
                raise
            refused = error
        else:
            return 0
        if not decoded:
            bad = _bad_bodies(batch.table, piece)
            if bad:
                await self._bury(batch, bad)
                buried = {_place(unframable.message) for unframable in bad}
                good = tuple(message for message in piece.messages if _place(message) not in buried)
                return len(bad) + (await self._land(batch, Piece(piece.schema, good), decoded=True) if good else 0)
        if len(piece.messages) == 1:
            await self._bury(batch, [Unframable(piece.messages[0], REJECTED, self._said(batch.table, refused))])
            return 1
        # Nothing of it has landed: an insert is one block. So each half is an insert of its own, with a token of its own.
        middle = len(piece.messages) // 2
        dead = await self._land(batch, Piece(piece.schema, piece.messages[:middle]), decoded=True)
        return dead + await self._land(batch, Piece(piece.schema, piece.messages[middle:]), decoded=True)

    def _said(self, table: Table, refused: RefusedError) -> str:
        """ClickHouse's words without values: the error's name and code, what it means, and the columns that it names."""
        words = set(_WORD.findall(refused.message))
        named = sorted(column for column in self._columns[table.name] if column in words)
        about = f"; it names {', '.join(named)}" if named else ""
        return f"{refused.cause.name} (code {refused.code}): {refused.cause.meaning}{about}"

    async def _insert(self, table: Table, piece: Piece) -> None:
        framed = frame(piece)
        name = token(piece, framed)

        async def send() -> None:
            try:
                async with self._slots:
                    began = time.monotonic()
                    with in_our_words(self._settings.clickhouse):
                        await self._client.raw_insert(
                            table=f"{self._settings.clickhouse.database}.{table.name}",
                            column_names=columns(piece.schema, self._columns[table.name]),
                            insert_block=framed,
                            settings={**_INSERT_SETTINGS, "insert_deduplication_token": name},
                            fmt="Avro",
                        )
            except NotNowError as error:
                # A damaged length asks for more memory than any server has; without one, memory may come back.
                if error.code == OUT_OF_MEMORY and _bad_bodies(table, piece):
                    raise RefusedError(error.message, code=_TOO_LONG) from None
                raise
            self.last_insert = time.monotonic()
            self._metrics.inserted(table.name, len(piece.messages), self.last_insert - began)

        await self._retrying.until_it_works(send, "clickhouse", "sink.insert_delayed", table=table.name, token=name)
        self._settle(piece.messages)

    def _settle(self, messages: Sequence[Message]) -> None:
        for partition, run in by_partition(messages):
            self.settled[run[0].topic, partition] += len(run)

    async def _bury(self, batch: _Batch, bad: Sequence[Unframable]) -> None:
        self._limits[batch.table.name].reject(batch.numbers_of(bad), bad)
        for unframable in bad:
            letter, place = dead_letter_of(unframable), unframable.message
            try:
                await self.tell(letter)
            except RecordTooLargeError:
                letter = without_record(letter, place)
                await self.tell(letter)
            self._settle([place])
            self._metrics.rejected.labels(batch.table.name, letter.reason).inc()
            _log.warning(
                "sink.dead_letter",
                dead_letter_id=letter.dead_letter_id,
                reason=letter.reason,
                detail=letter.detail,
                topic=place.topic,
                partition=place.partition,
                offset=place.offset,
            )

    async def tell(self, letter: DeadLetter) -> None:
        """Returns when Kafka has a dead letter; the same one sent twice is one row.

        Raises:
            RecordTooLargeError: Its topic does not take a record of its size.
        """

        async def send() -> None:
            await self._producer.send(
                self._settings.topic(topics.DEAD_LETTERS),
                encode(letter),
                key=letter.origin_key,
                headers=cloud_event_headers(letter),
                seconds=_PRODUCE_SECONDS,
            )

        await self._retrying.until_it_works(send, "kafka", "sink.dead_letter_delayed", topic=letter.origin_topic)

    @property
    def slots(self) -> int:
        """How many batches may be under way; those that rest before they are sent again take no slot."""
        return INSERTS_UNDER_WAY + self._retrying.at_rest

    @property
    def inserts_delayed(self) -> bool:
        """Whether an insert has failed and is to be sent again."""
        return self._retrying.delayed["clickhouse"] > 0


def _bad_bodies(table: Table, piece: Piece) -> list[Unframable]:
    """The records that do not fit their schema, found by decoding each."""
    bad: list[Unframable] = []
    for message in piece.messages:
        try:
            decode(message.value or b"", table.record)
        except BadRecordError as error:
            bad.append(Unframable(message, "bad_body", error.message))
    return bad

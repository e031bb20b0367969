"""A partition's neighbours into the table: dead letters first, then one insert a piece, sent again until it landed."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import structlog
from aiokafka.errors import KafkaError
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, wait_random_exponential

from kybstream.errors import BadRecordError, KybStreamError, RunError, UnavailableError
from kybstream.settings import Settings
from schemas import topics
from schemas.cloudevents import cloud_event_headers
from schemas.codec import NEWEST, decode, encode
from sinks.clickhouse import Client, RefusedError, in_our_words
from sinks.dead_letters import dead_letter_of
from sinks.framing import Message, Piece, Unframable, columns, frame, sort_out
from sinks.tables import Table

_log = structlog.get_logger(__name__)

INSERTS_UNDER_WAY = 4
"""Inserts of one process at a time, over all partitions; more gained nothing on two cores."""

_RETRY_FIRST_SECONDS = 0.1
_RETRY_MOST_SECONDS = 5.0
_RETRY_LOG_EVERY = 10
_PRODUCE_SECONDS = 30.0

# The parser's codes for bytes that do not fit the schema: these are looked at one by one. Everything else that ClickHouse
# refuses is no record's fault.
_OUT_OF_MEMORY = 241
_BAD_DATA = frozenset({6, 27, 33, 49, 117, 128, 131, 173, _OUT_OF_MEMORY, 1001, 1002})

_INSERT_SETTINGS: Mapping[str, str] = {
    "async_insert": "0",  # 1 by default in newer versions: it would answer before the rows are there
    "insert_deduplicate": "1",
    "max_insert_block_size": "1048576",  # above any flush_rows: one insert is one block, one part, all or nothing
}


@dataclass(frozen=True)
class Written:
    """What became of a batch: rows landed, records sent to the dead letters."""

    rows: int
    dead: int


def token(piece: Piece, framed: bytes) -> str:
    """The name by which ClickHouse knows a repeated insert: `topic:partition:first-last:crc32`.

    The checksum is there because other rows under a known token are dropped without a word: a topic that was made anew has
    the same offsets with other records.
    """
    place = piece.messages[0]
    return f"{place.topic}:{place.partition}:{piece.first}-{piece.last}:{zlib.crc32(framed):08x}"


class Writer:
    """Writes batches of any partition; safe to call for several partitions at once, one batch a partition."""

    def __init__(self, settings: Settings, client: Client, producer: Any, table_columns: Mapping[str, frozenset[str]]) -> None:
        self._settings = settings
        self._client = client
        self._producer = producer
        self._columns = table_columns
        self._slots = asyncio.Semaphore(INSERTS_UNDER_WAY)

    async def write(self, table: Table, messages: Sequence[Message]) -> Written:
        """Returns when all of them are in ClickHouse or, the bad ones, acknowledged in the dead letters topic.

        The order that correctness rests on:
          1. bad records are acknowledged in the dead letters;
          2. the pieces land, in the order of their offsets, each sent again with the same bytes and token until it did;
          3. only then does the caller move the group's offset and hand in the partition's next batch.

        Waits for as long as Kafka or ClickHouse is unavailable; to give up, cancel it.

        Raises:
            RunError: ClickHouse refuses an insert that has no bad record in it.
        """
        subject = NEWEST[table.record].rpartition(".v")[0]
        compacted = topics.topic_named(table.topic, "")
        pieces, bad = sort_out(messages, subject, tombstones=compacted is not None and compacted.retention is None)
        await self._bury(bad)
        rows, dead = 0, len(bad)
        for piece in pieces:
            try:
                await self._insert(table, piece)
                rows += len(piece.messages)
            except RefusedError as error:
                if error.code not in _BAD_DATA:
                    raise
                buried = await self._insert_without_bad(table, piece, error)
                rows += len(piece.messages) - buried
                dead += buried
        return Written(rows=rows, dead=dead)

    async def _insert(self, table: Table, piece: Piece) -> None:
        framed = frame(piece)
        name = token(piece, framed)

        async def send() -> None:
            try:
                async with self._slots:
                    with in_our_words(self._settings.clickhouse):
                        await self._client.raw_insert(
                            table=f"{self._settings.clickhouse.database}.{table.name}",
                            column_names=columns(piece.schema, self._columns[table.name]),
                            insert_block=framed,
                            settings={**_INSERT_SETTINGS, "insert_deduplication_token": name},
                            fmt="Avro",
                        )
            except RefusedError as error:
                # A damaged length asks for more memory than any server has; without one, memory may come back.
                if error.code == _OUT_OF_MEMORY and not _bad_bodies(table, piece):
                    raise UnavailableError("ClickHouse has no memory for the insert now") from None
                raise

        await _until_it_works(send, "sink.insert_delayed", table=table.name, token=name)

    async def _insert_without_bad(self, table: Table, piece: Piece, refused: RefusedError) -> int:
        """Buries the records that do not fit their schema, inserts the others; how many it buried."""
        bad = _bad_bodies(table, piece)
        if not bad:
            raise RunError(
                f"table {table.name} does not take {piece.schema.name}: {refused.message}", hint=refused.hint
            ) from None
        await self._bury(bad)
        buried = {unframable.message.offset for unframable in bad}
        good = tuple(message for message in piece.messages if message.offset not in buried)
        if good:
            await self._insert(table, Piece(piece.schema, good))
        return len(bad)

    async def _bury(self, bad: Sequence[Unframable]) -> None:
        for unframable in bad:
            letter = dead_letter_of(unframable)
            place = unframable.message

            async def send(letter: Any = letter, place: Message = place) -> None:
                try:
                    # A producer's own send waits for ever where the broker is gone; the same letter twice is one row.
                    await asyncio.wait_for(
                        self._producer.send_and_wait(
                            self._settings.topic(topics.DEAD_LETTERS),
                            encode(letter),
                            key=place.key,
                            headers=cloud_event_headers(letter),
                        ),
                        _PRODUCE_SECONDS,
                    )
                except (KafkaError, TimeoutError) as error:
                    raise UnavailableError(f"the dead letters topic does not take records ({type(error).__name__})") from None

            await _until_it_works(send, "sink.dead_letter_delayed", topic=place.topic)
            _log.warning(
                "sink.dead_letter",
                dead_letter_id=letter.dead_letter_id,
                reason=letter.reason,
                topic=place.topic,
                partition=place.partition,
                offset=place.offset,
            )


def _bad_bodies(table: Table, piece: Piece) -> list[Unframable]:
    """The records that do not fit their schema, found by decoding each."""
    bad: list[Unframable] = []
    for message in piece.messages:
        try:
            decode(message.value or b"", table.record)
        except BadRecordError as error:
            bad.append(Unframable(message, "bad_body", error.message))
    return bad


async def _until_it_works(attempt: Any, event: str, **fields: str) -> None:
    """Tries again while the error is retriable, after at most 5 s; says so at first and at every tenth time."""

    def say(state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        if state.attempt_number % _RETRY_LOG_EVERY == 1:
            _log.warning(event, error=getattr(error, "message", ""), attempt=state.attempt_number, **fields)

    async for trial in AsyncRetrying(
        retry=retry_if_exception(lambda error: isinstance(error, KybStreamError) and error.retriable),
        wait=wait_random_exponential(multiplier=_RETRY_FIRST_SECONDS, max=_RETRY_MOST_SECONDS),
        before_sleep=say,
        reraise=True,
    ):
        with trial:
            await attempt()

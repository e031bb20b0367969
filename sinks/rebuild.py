"""A table built anew from its topic, beside the live one, and then put in its place.

The order that correctness rests on:
  1. a new table, empty, as the live one is; what an earlier attempt left is dropped;
  2. the topic from its beginning to its end of now (the marks), into it;
  3. rows of the live table whose records the topic no longer holds (retention, compaction, an earlier topic), as they
     are;
  4. what is derived from the table (`sinks.derived`), from the new one, likewise beside the live ones; the marks are written
     on all of them;
  5. each changes places with its live one, in one statement each, the table first: who asks sees the one or the other, whole;
  6. what came to the topic between the marks and now, from the topic again: a sink that runs meanwhile put it into the old
     table until 5, and puts everything later into the new one. What both wrote is one row by its id;
  7. the marks are taken off, the old tables are dropped.
ClickHouse's materialized views go by names, so that from 5 on they read and feed the new tables.
A process that is killed before 5 has changed nothing; one that is killed after it is finished by the next call, which finds the
marks on the live table.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from kybstream.errors import RunError, UsageError
from kybstream.kafka import durable_producer, partitions_of, reading, unreachable
from kybstream.producing import ReplacedProducer
from kybstream.settings import ClickHouseSettings, Settings
from sinks.clickhouse import Client, connected, in_our_words, quoted
from sinks.cluster import Place
from sinks.derived import Derived, derived_from, feed
from sinks.errors import MIGRATE_HINT
from sinks.metrics import SinkMetrics
from sinks.migrate import STATEMENT_SECONDS, missing_migrations, table_columns
from sinks.tables import TABLES, Table
from sinks.writer import Writer

_log = structlog.get_logger(__name__)

SHADOW = "__rebuild"
"""What the name of the table beside ends in."""

MARKS = "kyb-stream: being rebuilt, complete up to "
"""What the comment of a table begins with that is to be completed; then offsets by partition, as JSON."""

_START_SECONDS = 10.0

Say = Callable[[str], None]


@dataclass(frozen=True)
class Rebuilt:
    """What came of it.

    Attributes:
        from_topic: Rows written from the topic.
        kept: Rows taken over from the live table, because the topic no longer holds their records.
        finished_earlier: Whether it was the end of an attempt that had been interrupted.
    """

    from_topic: int
    kept: int
    finished_earlier: bool


def table_named(name: str) -> Table:
    """The table of that name.

    Raises:
        UsageError: There is none.
    """
    for table in TABLES:
        if table.name == name:
            return table
    raise UsageError(f"there is no table {name!r}", hint=f"Tables are {', '.join(table.name for table in TABLES)}.")


def marks_of(comment: str) -> dict[int, int] | None:
    """The marks on a table, if it has any: the first offset by partition that may be missing."""
    if not comment.startswith(MARKS):
        return None
    return {int(partition): int(offset) for partition, offset in json.loads(comment.removeprefix(MARKS)).items()}


async def unfinished(clickhouse: ClickHouseSettings, client: Client) -> list[str]:
    """The tables whose rebuild was interrupted after the exchange: rows may be missing until it is run again.

    Raises:
        UnavailableError: ClickHouse does not answer.
    """
    with in_our_words(clickhouse):
        result = await client.query(
            "SELECT name, comment FROM system.tables WHERE database = {database:String}",
            parameters={"database": clickhouse.database},
        )
    marked = {str(name) for name, comment in result.result_rows if marks_of(str(comment))}
    return [table.name for table in TABLES if table.name in marked]


async def rebuild(settings: Settings, name: str, say: Say = lambda _: None) -> Rebuilt:
    """Builds a table anew; sinks may run meanwhile.

    Args:
        settings: Sections kafka, clickhouse and sink.
        name: Of the table.
        say: Is told how far it is, in words.

    Raises:
        UsageError: There is no such table.
        RunError: Tables are missing or older than this version, or ClickHouse refuses.
        UnavailableError: Kafka or ClickHouse does not answer.
    """
    table = table_named(name)
    async with connected(settings.clickhouse, answer_seconds=STATEMENT_SECONDS) as client:
        missing = await missing_migrations(settings.clickhouse, client)
        if missing:
            raise RunError(f"the database {settings.clickhouse.database!r} lacks {missing[0]}", hint=MIGRATE_HINT)
        producer = ReplacedProducer(lambda: durable_producer(settings.kafka))
        try:
            await producer.start(_START_SECONDS)
            return await _Rebuild(settings, client, producer, table, await table_columns(settings.clickhouse, client)).run(say)
        except KafkaError as error:
            raise unreachable(settings.kafka, error) from None
        finally:
            await producer.stop()


class _Rebuild:
    def __init__(
        self,
        settings: Settings,
        client: Client,
        producer: ReplacedProducer,
        table: Table,
        columns: Mapping[str, frozenset[str]],
    ) -> None:
        self._settings = settings
        self._client = client
        self._table = table
        self._derived = derived_from(table.name)
        self._shadow = replace(table, name=table.name + SHADOW)
        self._place = Place.of(settings.clickhouse)
        known = {table.name: columns[table.name], self._shadow.name: columns[table.name]}
        self._writer = Writer(settings, client, producer, known, SinkMetrics(), tables=(table, self._shadow))

    async def run(self, say: Say) -> Rebuilt:
        marks = marks_of(await self._comment(self._table.name))
        finished_earlier = marks is not None
        rows = kept = 0
        if marks is None:
            say("building the table beside the live one")
            await self._run("DROP TABLE IF EXISTS ${database}.{shadow} SYNC")
            await self._run("CREATE TABLE ${database}.{shadow} AS ${database}.{table}")
            began = int((await self._ask("SELECT toUnixTimestamp64Micro(now64(6))"))[0][0])
            rows, marks = await self._copy(self._shadow, {})
            say(f"{rows} rows from the topic")
            kept = await self._keep(began)
            say(f"{kept} rows kept whose records the topic no longer holds")
            comment = MARKS + json.dumps({str(each): offset for each, offset in marks.items()})
            for each in self._derived:
                await self._derive(each, comment)
                say(f"{each.name} derived from them")
            await self._mark(self._shadow.name, comment)
            await self._exchange(self._table.name)
        for each in self._derived:
            if marks_of(await self._comment(each.name + SHADOW)) is not None:
                await self._exchange(each.name)
        late, _ = await self._copy(self._table, marks)
        say(f"{late} rows that came meanwhile")
        for name in (*(each.name for each in self._derived), self._table.name):
            await self._finish(name)
        return Rebuilt(rows + late, kept, finished_earlier)

    async def _derive(self, target: Derived, comment: str) -> None:
        """Derives a table from the new one, beside the live one."""
        await self._run(f"DROP TABLE IF EXISTS ${{database}}.{target.name}{SHADOW} SYNC")
        await self._run(f"CREATE TABLE ${{database}}.{target.name}{SHADOW} AS ${{database}}.{target.name}")
        await feed(self._settings.clickhouse, self._client, target, beside=SHADOW)
        await self._mark(target.name + SHADOW, comment)

    async def _exchange(self, name: str) -> None:
        await self._run(f"EXCHANGE TABLES ${{database}}.{name} AND ${{database}}.{name}{SHADOW}")
        _log.debug("rebuild.exchanged", table=name)

    async def _finish(self, name: str) -> None:
        """Takes the marks off a table that changed places, and drops the one that it came for."""
        if await self._exists(name + SHADOW):
            # The live table of before has the comment that migrations gave it.
            await self._mark(name, await self._comment(name + SHADOW))
            await self._run(f"DROP TABLE IF EXISTS ${{database}}.{name}{SHADOW} SYNC")
        elif marks_of(await self._comment(name)) is not None:
            await self._mark(name, "")

    async def _copy(self, into: Table, begin: Mapping[int, int]) -> tuple[int, dict[int, int]]:
        """Writes the topic from these offsets, else its beginning, to its end of now; rows written, and that end."""
        rows = 0
        topic = self._settings.topic(self._table.topic)
        places = [TopicPartition(topic, number) for number in await partitions_of(self._settings.kafka, topic)]
        async with reading(self._settings.kafka, auto_offset_reset="earliest") as consumer:
            consumer.assign(places)
            beginnings, ends = await consumer.beginning_offsets(places), await consumer.end_offsets(places)
            for place in places:
                consumer.seek(place, max(beginnings[place], min(begin.get(place.partition, 0), ends[place])))
            async for batches in _until(consumer, ends):
                written = await asyncio.gather(*(self._writer.write(into, messages) for messages in batches))
                rows += sum(each.rows for each in written)
        return rows, {place.partition: offset for place, offset in ends.items()}

    async def _keep(self, began: int) -> int:
        """Rows of the live table whose identity the new one lacks; both lie sorted by it, so that memory stays bounded."""
        columns = await self._all_columns()
        using = ", ".join(self._table.identity)
        await self._run(
            f"INSERT INTO ${{database}}.{{shadow}} ({', '.join(columns)}) "  # noqa: S608 (our own names)
            f"SELECT {', '.join(f'l.{column} AS {column}' for column in columns)} "
            "FROM (SELECT * FROM ${database}.{table} FINAL) AS l "
            f"LEFT JOIN (SELECT {using}, _topic AS found FROM ${{database}}.{{shadow}}) AS n USING ({using}) "
            "WHERE n.found = '' SETTINGS join_algorithm = 'full_sorting_merge', join_use_nulls = 0"
        )
        # They keep the time at which they landed; what came from the topic has a later one.
        sql = f"SELECT count() FROM {self._settings.clickhouse.database}.{self._shadow.name} WHERE _inserted_at < "  # noqa: S608
        return int((await self._ask(f"{sql}fromUnixTimestamp64Micro({began})"))[0][0])

    async def _all_columns(self) -> list[str]:
        sql = "SELECT name FROM system.columns WHERE database = {database:String} AND table = {table:String} ORDER BY position"
        return [str(name) for (name,) in await self._ask(sql, self._table.name)]

    async def _comment(self, table: str) -> str:
        rows = await self._ask(
            "SELECT comment FROM system.tables WHERE database = {database:String} AND name = {table:String}", table
        )
        return str(rows[0][0]) if rows else ""

    async def _exists(self, table: str) -> bool:
        sql = "SELECT 1 FROM system.tables WHERE database = {database:String} AND name = {table:String}"
        return bool(await self._ask(sql, table))

    async def _ask(self, sql: str, table: str = "") -> list[tuple[Any, ...]]:
        with in_our_words(self._settings.clickhouse):
            result = await self._client.query(sql, parameters={"database": self._settings.clickhouse.database, "table": table})
        return list(result.result_rows)

    async def _mark(self, table: str, comment: str) -> None:
        await self._run(f"ALTER TABLE ${{database}}.{table} MODIFY COMMENT {quoted(comment)}")

    async def _run(self, sql: str) -> None:
        named = sql.replace("{table}", self._table.name).replace("{shadow}", self._shadow.name)
        with in_our_words(self._settings.clickhouse):
            await self._client.command(self._place.statement(named))


async def _until(consumer: AIOKafkaConsumer, ends: Mapping[TopicPartition, int]) -> AsyncIterator[list[tuple[Any, ...]]]:
    """What is there up to these ends, chunk by chunk, of each partition in order."""
    left = set(ends)
    while left:
        for place in sorted(left):
            if await consumer.position(place) >= ends[place]:  # also behind markers and what compaction removed
                left.discard(place)
                consumer.pause(place)
        if left:
            came = await consumer.getmany(*left, timeout_ms=200)
            batches = (tuple(each for each in messages if each.offset < ends[place]) for place, messages in came.items())
            yield [batch for batch in batches if batch]

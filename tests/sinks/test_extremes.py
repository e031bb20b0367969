"""Values at the ends of what the columns can say, through the sink: each is read back as it was sent."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec

from kybstream.settings import Settings
from schemas import records
from schemas.records import Record
from sinks.clickhouse import connected
from sinks.tables import TABLES, Table
from tests.sinks.making import case, dead_letter, delivery, event, rejection, replay
from tests.sinks.running import landed, produce, running

_INT32, _INT64 = 2**31, 2**63
_LONGS = frozenset({"body_size", "count", "records"})
"""Fields that are 64 bits wide on the topic and in the table; every other number is an int."""
_TIMES = [
    datetime(1900, 1, 1, tzinfo=UTC),
    datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
    datetime(2106, 2, 7, 6, 28, 16, tzinfo=UTC),
    datetime(2262, 4, 11, 23, 47, 16, 854_776, tzinfo=UTC),
    datetime(2299, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
]
_TEXTS = ["", "\0", "line\nfeed\r\u2028\x1b[2J'\"\\\t", "\U0010ffff", "x" * 100_000]
_MADE: Mapping[type[Record], Record] = {
    type(one): one for one in (case("c"), dead_letter(0), delivery(0), event(0), rejection(0), replay(0))
}


def _extremes(name: str, kind: Any) -> Iterator[Any]:
    """Values of a field of this type."""
    if typing.get_origin(kind) is types.UnionType:
        yield None
        (kind,) = (each for each in typing.get_args(kind) if each is not types.NoneType)
    origin = typing.get_origin(kind)
    if kind is datetime:
        yield from _TIMES
    elif kind is bool:
        yield from (False, True)
    elif kind is int:
        largest = _INT64 if name in _LONGS else _INT32
        yield from (0, largest - 1)
    elif kind is str:
        yield from _TEXTS
    elif origin is Literal:
        yield from typing.get_args(kind)
    elif origin is tuple:
        inner = typing.get_args(kind)[0]
        yield ()
        if isinstance(inner, type) and issubclass(inner, Record):
            yield from ((one,) for one in _records(inner))
        else:
            yield from (("",), ("\0", "\n"), ("x",) * 1_000)


def _records(kind: type[Record]) -> Iterator[Record]:
    plain: dict[str, Any] = {"name": "aml"} if kind is records.Service else {"subject": "s", "status": "success", "attempts": 1}
    for field in msgspec.structs.fields(kind):
        for value in _extremes(field.name, field.type):
            yield kind(**plain | {field.name: value})


def _varied(table: Table, columns: frozenset[str]) -> list[Record]:
    """Records of a table, each with one extreme value, and an id of its own where that is not it."""
    made: list[Record] = []
    key = table.identity[1]
    for field in msgspec.structs.fields(table.record):
        if field.name in columns:
            for value in _extremes(field.name, field.type):
                changed: dict[str, Any] = {key: f"{field.name}-{len(made)}", field.name: value}
                made.append(msgspec.structs.replace(_MADE[table.record], **changed))
    return made


def _plain(value: Any) -> Any:
    """A value as ClickHouse's client gives it: times in UTC without saying so, structs as dictionaries."""
    if isinstance(value, Record):
        return {name: _plain(each) for name, each in msgspec.structs.asdict(value).items()}
    if isinstance(value, Mapping):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(each) for each in value]
    return value.replace(tzinfo=UTC) if isinstance(value, datetime) else value


async def test_the_ends_of_every_column_are_read_back(settings: Settings) -> None:
    """Times from 1900 to 2299, numbers from 0 on, any text, lists that are empty or long: no value stops or spoils a row."""
    async with connected(settings.clickhouse) as client:
        described = await client.query(
            "SELECT table, name FROM system.columns WHERE database = {database:String}",
            parameters={"database": settings.clickhouse.database},
        )
        columns = {table.name: frozenset(name for of, name in described.result_rows if of == table.name) for table in TABLES}
        varied = {table: _varied(table, columns[table.name]) for table in TABLES}
        for table, those in varied.items():
            await produce(settings, those, table.topic)
        async with running(settings):
            for table, those in varied.items():
                await landed(settings, table.name, len(those))
        for table, those in varied.items():
            names = [field.name for field in msgspec.structs.fields(table.record) if field.name in columns[table.name]]
            of = f"{settings.clickhouse.database}.{table.name}"
            answer = await client.query(f"SELECT {', '.join(names)} FROM {of} FINAL ORDER BY _offset")  # noqa: S608
            found = [_plain(dict(zip(names, row, strict=True))) for row in answer.result_rows]
            sent = [{name: _plain(getattr(one, name)) for name in names} for one in those]
            for each in sent:
                if "tenant" in each:
                    each["tenant"] = each["tenant"] or ""  # an absent tenant is empty in a table
            assert found == sent

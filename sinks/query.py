"""Queries of people: `kyb-stream sql`, and the reports that the command line prints."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from kybstream.errors import UsageError
from kybstream.settings import ClickHouseSettings
from sinks.clickhouse import connected, in_our_words

Value: TypeAlias = "str | int | float | bool | list[Value] | dict[str, Value] | None"

Parameter: TypeAlias = str | int

TextFormat = Literal["json", "csv"]
_TEXT_FORMATS: dict[TextFormat, str] = {"json": "JSONEachRow", "csv": "CSVWithNames"}

_SETTINGS = {
    "final": "1",  # each row counts once, also before ClickHouse has merged repeats away
    "output_format_json_quote_64bit_integers": "0",
    "output_format_json_quote_denormals": "0",
    "date_time_output_format": "iso",
}


@dataclass(frozen=True)
class Column:
    """Name and ClickHouse type of a column."""

    name: str
    type: str


@dataclass(frozen=True)
class Answer:
    """What a query gave: numbers as numbers, times as ISO 8601 text in UTC; no columns for a statement without result."""

    columns: tuple[Column, ...]
    rows: tuple[tuple[Value, ...], ...]


async def query(
    clickhouse: ClickHouseSettings, sql: str, *, final: bool = True, parameters: Mapping[str, Parameter] | None = None
) -> Answer:
    """Runs one statement in our database and holds its whole result.

    Args:
        clickhouse: Where.
        sql: One statement, without a FORMAT of its own.
        final: Count each row once; False also shows repeats that ClickHouse has not merged away yet.
        parameters: Values of `{name:Type}` in the statement: they travel beside it, so nothing in them is taken for SQL.

    Raises:
        UnavailableError: ClickHouse does not answer.
        RefusedError: It refuses the statement; a RunError with ClickHouse's own words.
        UsageError: The statement names a format of its own.
    """
    async with connected(clickhouse) as client:
        with in_our_words(clickhouse):
            raw = await client.raw_query(
                _prepared(sql),
                parameters=dict(parameters or {}),
                settings=_settings(clickhouse, final=final),
                transport_settings=_in_format("JSONCompact"),
                use_database=False,
            )
    if not raw.strip():
        return Answer((), ())
    try:
        content = json.loads(raw)
        columns = tuple(Column(str(column["name"]), str(column["type"])) for column in content["meta"])
        return Answer(columns, tuple(tuple(row) for row in content["data"]))
    except (ValueError, KeyError, TypeError):
        raise UsageError("the statement has a FORMAT of its own", hint="Leave it out and use --format.") from None


async def stream(
    clickhouse: ClickHouseSettings,
    sql: str,
    text_format: TextFormat,
    *,
    final: bool = True,
    parameters: Mapping[str, Parameter] | None = None,
) -> AsyncGenerator[bytes, None]:
    """As `query`, but as text in pieces of any length: `json` is one object a line, `csv` has a header line.

    A FORMAT clause of the statement's own wins.

    Raises:
        UnavailableError: ClickHouse does not answer.
        RefusedError: It refuses the statement.
    """
    async with connected(clickhouse) as client:
        with in_our_words(clickhouse):
            answer = await client.raw_stream(
                _prepared(sql),
                parameters=dict(parameters or {}),
                settings=_settings(clickhouse, final=final),
                transport_settings=_in_format(_TEXT_FORMATS[text_format]),
                use_database=False,
            )
            async with answer as pieces:
                async for piece in pieces:
                    yield piece


def _prepared(sql: str) -> str:
    """Without the semicolon that people end a statement with."""
    statement = sql.strip().rstrip(";").strip()
    if not statement:
        raise UsageError("the statement is empty")
    return statement


def _in_format(name: str) -> dict[str, str]:
    # A header and not a clause: it also fits statements that end in something else, and those without a result.
    return {"X-ClickHouse-Format": name}


def _settings(clickhouse: ClickHouseSettings, *, final: bool) -> dict[str, str]:
    return {**_SETTINGS, "final": "1" if final else "0", "database": clickhouse.database}

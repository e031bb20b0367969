"""clickhouse-connect's HTTP client, sync and async, against the embedded server."""

from __future__ import annotations

import io
import uuid
from datetime import UTC, datetime

import clickhouse_connect
import fastavro
import pytest
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import DatabaseError
from clickhouse_connect.driver.external import ExternalData

from tests.deploy.clickhouse.serving import Server

_TABLE = """
    CREATE TABLE facts (
        id UInt64,
        name LowCardinality(String) DEFAULT 'none',
        note Nullable(String),
        tags Array(String),
        counts Map(String, Int64),
        at DateTime64(6, 'UTC') DEFAULT now64(6),
        key UUID DEFAULT generateUUIDv4()
    ) ENGINE = ReplacingMergeTree ORDER BY id SETTINGS non_replicated_deduplication_window = 100
"""
_AT = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
_AT_READ = _AT.replace(tzinfo=None)  # the client reads times in UTC as naive ones


def test_native_insert_and_query_keep_every_type(client: Client) -> None:
    """What is inserted as Native comes back the same, and the summary counts the rows."""
    client.command(_TABLE)
    key = uuid.uuid4()
    rows = [[1, "a", None, ["x", "y"], {"k": 1}, _AT, key], [2, "b", "n", [], {}, _AT, key]]
    summary = client.insert("facts", rows)
    assert summary.written_rows == 2
    result = client.query("SELECT * FROM facts ORDER BY id")
    assert [list(row) for row in result.result_rows] == [[*row[:5], _AT_READ, key] for row in rows]
    assert result.summary["read_rows"] == "2"
    assert result.summary["result_rows"] == "2"


def test_parameters_are_bound_by_the_server(client: Client) -> None:
    """`{name:Type}` takes values with quotes, backslashes, line breaks, lists and identifiers."""
    nasty = "it's \\ a\n\ttest ü"
    query = "SELECT {s:String}, {n:Array(UInt8)}, {d:DateTime64(6, 'UTC')}, {o:Nullable(String)}"
    given = {"s": nasty, "n": [1, 2], "d": _AT, "o": None}
    assert client.query(query, parameters=given).first_row == (nasty, [1, 2], _AT_READ, None)
    assert client.query("SELECT count() FROM system.{t:Identifier}", {"t": "one"}).first_row == (1,)


def test_parameters_may_come_in_a_form(server: Server) -> None:
    """`form_encode_query_params` sends query and parameters as multipart/form-data."""
    with server.client(form_encode_query_params=True) as client:
        assert client.query("SELECT {x:UInt8} + 1", {"x": 41}).first_row == (42,)


def test_external_data_are_a_table_for_one_query(client: Client) -> None:
    """A file of the form can be joined, and is gone afterwards."""
    external = ExternalData(file_name="wanted.csv", data=b"1\n3\n", fmt="CSV", structure="number UInt64")
    query = "SELECT number FROM numbers(10) WHERE number IN (SELECT number FROM wanted) ORDER BY number"
    for _ in range(2):
        assert client.query(query, external_data=external).result_rows == [(1,), (3,)]
    with pytest.raises(DatabaseError) as refused:
        client.query("SELECT * FROM wanted")
    assert refused.value.code == 60


def test_avro_fills_every_type_and_the_defaults(client: Client) -> None:
    """An Avro container fills nullable, array, map, low-cardinality, time and UUID columns; absent ones get their default."""
    client.command(_TABLE)
    schema = {
        "type": "record",
        "name": "fact",
        "fields": [
            {"name": "id", "type": "long"},
            {"name": "note", "type": ["null", "string"]},
            {"name": "tags", "type": {"type": "array", "items": "string"}},
            {"name": "counts", "type": {"type": "map", "values": "long"}},
            {"name": "at", "type": {"type": "long", "logicalType": "timestamp-micros"}},
            {"name": "key", "type": {"type": "string", "logicalType": "uuid"}},
        ],
    }
    key = uuid.uuid4()
    records = [{"id": n, "note": None, "tags": ["t"], "counts": {"c": n}, "at": _AT, "key": key} for n in range(3)]
    container = io.BytesIO()
    fastavro.writer(container, schema, records)
    columns = [field["name"] for field in schema["fields"] if isinstance(field, dict)]
    summary = client.raw_insert("facts", columns, container.getvalue(), fmt="Avro")
    assert summary.written_rows == 3
    row = client.query("SELECT id, name, note, tags, counts, at, key FROM facts WHERE id = 2").first_row
    assert row == (2, "none", None, ["t"], {"c": 2}, _AT_READ, key)


@pytest.mark.parametrize("compression", [None, "lz4", "zstd", "gzip"])
def test_raw_insert_of_json_in_every_coding(client: Client, compression: str | None) -> None:
    """JSON lines arrive through every Content-Encoding; a column left out gets its default."""
    import gzip  # noqa: PLC0415 - the codings side by side

    import lz4.frame  # type: ignore[import-untyped] # noqa: PLC0415
    from backports import zstd  # noqa: PLC0415

    client.command(_TABLE)
    lines = b'{"id": 1, "note": "x"}\n{"id": 2}\n'
    pack = {None: bytes, "lz4": lz4.frame.compress, "zstd": zstd.compress, "gzip": gzip.compress}[compression]
    summary = client.raw_insert("facts", insert_block=pack(lines), fmt="JSONEachRow", compression=compression)
    assert summary.written_rows == 2
    assert client.query("SELECT id, name, note FROM facts ORDER BY id").result_rows == [(1, "none", "x"), (2, "none", None)]


def test_errors_carry_code_and_name(client: Client) -> None:
    """An application decides by code: unknown table, syntax, unknown setting, failing query."""
    cases = [("SELECT * FROM nowhere", 60), ("SELEC 1", 62), ("SELECT throwIf(1)", 395), ("SELECT 1 + 'x' + [1]", 43)]
    for query, code in cases:
        with pytest.raises(DatabaseError) as refused:
            client.query(query)
        assert refused.value.code == code
    with pytest.raises(DatabaseError) as refused:
        client.raw_query("SELECT * FROM nowhere")
    assert refused.value.name == "UNKNOWN_TABLE"


def test_the_schema_a_sink_needs(client: Client) -> None:
    """Materialised view, parameterised view, FINAL and a query-wide `final=1` work as in ClickHouse."""
    client.command("CREATE TABLE v (k UInt8, n UInt32) ENGINE = ReplacingMergeTree(n) ORDER BY k")
    client.command(
        "CREATE TABLE agg (k UInt8, c SimpleAggregateFunction(sum, UInt64)) ENGINE = AggregatingMergeTree ORDER BY k"
    )
    client.command("CREATE MATERIALIZED VIEW mv TO agg AS SELECT k, count() AS c FROM v GROUP BY k")
    client.command("CREATE VIEW newest AS SELECT n FROM v FINAL WHERE k = {wanted:UInt8}")
    client.command("SYSTEM STOP MERGES v")
    for n in (1, 2):
        client.insert("v", [[7, n]])
    assert client.query("SELECT count() FROM v").first_row == (2,)
    assert client.query("SELECT count() FROM v", settings={"final": 1}).first_row == (1,)
    assert client.query("SELECT count() FROM v").first_row == (2,)
    assert client.query("SELECT n FROM newest(wanted = 7)").first_row == (2,)
    assert client.query("SELECT sum(c) FROM agg").first_row == (2,)


async def test_the_async_client_inserts_streams_and_fails_like_the_sync_one(server: Server, database: str) -> None:
    """clickhouse-connect's async client: DDL, insert, a streamed query, an error with its code."""
    client = await clickhouse_connect.get_async_client(host="127.0.0.1", port=server.port, database=database)
    try:
        await client.command("CREATE TABLE a (n UInt64) ENGINE = MergeTree ORDER BY n")
        assert (await client.insert("a", [[n] for n in range(1000)], column_names=["n"])).written_rows == 1000
        total = 0
        async with await client.query_rows_stream("SELECT n FROM a") as rows:
            async for row in rows:
                total += row[0]
        assert total == 499_500
        with pytest.raises(DatabaseError) as refused:
            await client.query("SELECT * FROM nowhere")
        assert refused.value.code == 60
    finally:
        await client.close()


def test_a_long_answer_is_streamed_and_a_late_error_is_noticed(client: Client) -> None:
    """Beyond what is held back the answer flows; a query that fails in the middle is an error, not a short answer."""
    query = "SELECT number, repeat('x', 50) FROM numbers({rows:UInt64}) WHERE NOT throwIf(number = {bad:UInt64})"
    with client.query_row_block_stream(query, {"rows": 600_000, "bad": 10**9}) as blocks:
        assert sum(len(block) for block in blocks) == 600_000
    with (
        pytest.raises(DatabaseError, match="FUNCTION_THROW_IF_VALUE_IS_NON_ZERO"),
        client.query_row_block_stream(query, {"rows": 600_000, "bad": 599_000}) as blocks,
    ):
        for _ in blocks:
            pass

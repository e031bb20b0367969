"""The HTTP interface as curl, JDBC drivers and BI tools use it."""

from __future__ import annotations

import gzip
import json
import struct
import zlib

import aiohttp
import lz4.block  # type: ignore[import-untyped]
import lz4.frame  # type: ignore[import-untyped]
import pytest
from backports import zstd

from tests.deploy.clickhouse.serving import Server


async def _post(http: aiohttp.ClientSession, body: bytes = b"", **params: str) -> bytes:
    async with http.post("/", params=params, data=body) as response:
        answer = await response.read()
        assert response.status == 200, answer
        return answer


async def test_health_checks(http: aiohttp.ClientSession) -> None:
    """/ping, /replicas_status and / without a query say Ok."""
    for path in ("/ping", "/replicas_status", "/"):
        async with http.get(path) as response:
            assert (response.status, await response.text()) == (200, "Ok.\n")
    async with http.get("/nothing") as response:
        assert response.status == 404


async def test_the_query_may_be_in_the_url_the_body_or_both(http: aiohttp.ClientSession) -> None:
    """As in ClickHouse, the body goes on where the URL's text ends."""
    assert await _post(http, b"SELECT 1, 'a'") == b"1\ta\n"
    assert await _post(http, query="SELECT 1") == b"1\n"
    assert await _post(http, b"+ 1", query="SELECT 1") == b"2\n"
    async with http.get("/", params={"query": "SELECT 1"}) as response:
        assert await response.read() == b"1\n"


async def test_the_answer_says_what_it_is(http: aiohttp.ClientSession) -> None:
    """Format, content type, query id, zone, name and true counts are in the headers."""
    params = {"query_id": "my-query", "default_format": "JSONCompact", "session_timezone": "Asia/Tokyo"}
    query = b"SELECT count() FROM numbers(1000) WHERE number % 2"
    async with http.post("/", params=params, data=query) as response:
        assert json.loads(await response.read())["data"] == [[500]]
        headers = response.headers
    assert headers["X-ClickHouse-Query-Id"] == "my-query"
    assert headers["X-ClickHouse-Format"] == "JSONCompact"
    assert headers["Content-Type"].startswith("application/json")
    assert headers["X-ClickHouse-Timezone"] == "Asia/Tokyo"
    assert headers["X-ClickHouse-Server-Display-Name"]
    counts = json.loads(headers["X-ClickHouse-Summary"])
    assert (counts["read_rows"], counts["result_rows"]) == ("1000", "1")
    assert int(counts["elapsed_ns"]) > 0


async def test_formats_by_clause_header_and_parameter(http: aiohttp.ClientSession) -> None:
    """FORMAT wins over default_format, that over the header; binary formats come as they are."""
    assert await _post(http, b"SELECT 1 AS a FORMAT JSONEachRow", default_format="CSV") == b'{"a":1}\n'
    async with http.post("/", data=b"SELECT 'x' AS a", headers={"X-ClickHouse-Format": "CSVWithNames"}) as response:
        assert await response.read() == b'"a"\n"x"\n'
        assert response.headers["Content-Type"] == "text/csv; charset=UTF-8; header=present"
    assert await _post(http, b"SELECT 1 AS a", default_format="RowBinaryWithNamesAndTypes") == b"\x01\x01a\x05UInt8\x01"


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ("SELEC 1", 400, 62),
        ("SELECT 1; SELECT 2", 400, 62),
        ("", 400, 62),
        ("SELECT * FROM nowhere", 404, 60),
        ("SELECT * FROM nowhere.t", 404, 81),
        ("SELECT nothing", 404, 47),
        ("SELECT 1 FORMAT Nothing", 404, 73),
        ("SELECT {x:UInt8}", 500, 456),
        ("SELECT throwIf(1)", 500, 395),
        ("INSERT INTO system.one SELECT dummy FROM input('dummy UInt8') FORMAT CSV 1", 501, 48),
    ],
)
async def test_errors_are_worded_and_mapped_as_in_clickhouse(
    http: aiohttp.ClientSession, query: str, status: int, code: int
) -> None:
    """Status, header and text agree on the code, and the text ends with name and version."""
    async with http.post("/", data=query.encode()) as response:
        text = await response.text()
        assert (response.status, response.headers["X-ClickHouse-Exception-Code"]) == (status, str(code))
    assert text.startswith(f"Code: {code}. DB::Exception: ")
    assert " (version 26." in text


async def test_get_only_reads(http: aiohttp.ClientSession, database: str) -> None:
    """DDL and INSERT by GET, or with readonly=1, are refused with READONLY; reading, SHOW and EXPLAIN are not."""
    await _post(http, b"CREATE TABLE t (a UInt8) ENGINE = MergeTree ORDER BY a", database=database)
    for query in ("DROP TABLE t", "INSERT INTO t VALUES (1)", "INSERT INTO t SELECT 1", "SYSTEM FLUSH LOGS"):
        async with http.get("/", params={"database": database, "query": query}) as response:
            assert response.headers["X-ClickHouse-Exception-Code"] == "164"
        async with http.post("/", params={"database": database, "query": query, "readonly": "1"}) as response:
            assert response.headers["X-ClickHouse-Exception-Code"] == "164"
    for query in ("SELECT count() FROM t", "SHOW DATABASES", "EXPLAIN SELECT 1", "SELECT 1 SETTINGS max_threads = 1"):
        async with http.get("/", params={"database": database, "query": query}) as response:
            assert response.status == 200


@pytest.mark.parametrize("coding", ["gzip", "deflate", "zstd", "lz4"])
async def test_bodies_and_answers_in_every_coding(http: aiohttp.ClientSession, database: str, coding: str) -> None:
    """Content-Encoding of the request is undone; Accept-Encoding is answered, unless it is switched off."""
    pack = {"gzip": gzip.compress, "deflate": zlib.compress, "zstd": zstd.compress, "lz4": lz4.frame.compress}[coding]
    unpack = {"gzip": gzip.decompress, "deflate": zlib.decompress, "zstd": zstd.decompress, "lz4": lz4.frame.decompress}
    await _post(http, b"CREATE TABLE coded (a UInt32) ENGINE = MergeTree ORDER BY a", database=database)
    rows = b"".join(b"%d\n" % n for n in range(50_000))
    halves = pack(rows[:1000]) + pack(rows[1000:]) if coding != "deflate" else pack(rows)
    params = {"database": database, "query": "INSERT INTO coded FORMAT TSV"}
    async with http.post("/", params=params, data=halves, headers={"Content-Encoding": coding}) as response:
        assert json.loads(response.headers["X-ClickHouse-Summary"])["written_rows"] == "50000"
    select = b"SELECT a FROM coded ORDER BY a"
    accept = {"Accept-Encoding": f"br, {coding}"}
    for answer_format in ("TabSeparated", "TabSeparatedRaw"):  # one sent blockwise, the other whole
        params = {"database": database, "default_format": answer_format}
        async with http.post("/", params=params, data=select, headers=accept) as response:
            assert response.headers["Content-Encoding"] == coding
            assert unpack[coding](await response.read()) == rows
    async with http.post("/", params={**params, "enable_http_compression": "0"}, data=select, headers=accept) as response:
        assert "Content-Encoding" not in response.headers


async def test_a_damaged_body_leaves_no_row(http: aiohttp.ClientSession, database: str) -> None:
    """A compressed body that is cut off or corrupt is refused, and nothing of it stays."""
    await _post(http, b"CREATE TABLE damaged (a UInt32) ENGINE = MergeTree ORDER BY a", database=database)
    packed = gzip.compress(b"".join(b"%d\n" % n for n in range(200_000)))
    params = {"database": database, "query": "INSERT INTO damaged FORMAT TSV"}
    for body in (packed[:-20], packed[:2000] + b"?" * 100 + packed[2100:]):
        async with http.post("/", params=params, data=body, headers={"Content-Encoding": "gzip"}) as response:
            assert response.headers["X-ClickHouse-Exception-Code"] == "271"
    async with http.post("/", params=params, data=b"x", headers={"Content-Encoding": "snappy"}) as response:
        assert response.status == 501
    assert await _post(http, b"SELECT count() FROM damaged", database=database) == b"0\n"


async def test_insert_without_format_takes_the_requests_format(http: aiohttp.ClientSession, database: str) -> None:
    """`INSERT INTO t` with default_format or X-ClickHouse-Format, VALUES inline, and data behind FORMAT in one body."""
    await _post(http, b"CREATE TABLE t (a UInt8, b String) ENGINE = MergeTree ORDER BY a", database=database)
    await _post(http, b'{"a":1}', database=database, query="INSERT INTO t", default_format="JSONEachRow")
    headers = {"X-ClickHouse-Format": "CSV", "X-ClickHouse-Database": database, "X-ClickHouse-User": "anyone"}
    async with http.post("/", params={"query": "INSERT INTO t"}, data=b"2,x", headers=headers) as response:
        assert response.status == 200
    await _post(http, b"INSERT INTO t VALUES (3, 'y'), (4, concat('z', 'z'))", database=database)
    await _post(http, b"(5, '')", database=database, query="INSERT INTO t VALUES")
    await _post(http, b"INSERT INTO t FORMAT RowBinary\n\x06\x01\n", database=database)
    await _post(http, b"\x07\x00", database=database, query="INSERT INTO {name:Identifier} FORMAT RowBinary", param_name="t")
    assert await _post(http, b"SELECT groupArray((a, b)) FROM (SELECT * FROM t ORDER BY a)", database=database) == (
        b"[(1,''),(2,'x'),(3,'y'),(4,'zz'),(5,''),(6,'\\\\n'),(7,'')]\n"
    ).replace(b"\\\\", b"\\")


async def test_settings_take_effect_for_one_query_only(http: aiohttp.ClientSession) -> None:
    """With and without a session: a setting of the URL is gone in the next query, one of SET stays in its session."""
    ask = b"SELECT getSetting('max_block_size'), getSetting('final'), getSetting('async_insert')"
    plain = b"65409\tfalse\tfalse\n"
    for session in ({}, {"session_id": "leak"}):
        assert await _post(http, ask, **session) == plain
        assert await _post(http, ask, **session, max_block_size="7", final="1", async_insert="1") == b"7\ttrue\ttrue\n"
        assert await _post(http, ask, **session) == plain
    await _post(http, b"SET max_block_size = 5", session_id="leak", final="1")
    assert await _post(http, ask, session_id="leak", max_block_size="9") == plain.replace(b"65409", b"9")
    assert await _post(http, ask, session_id="leak") == plain.replace(b"65409", b"5")
    assert await _post(http, ask) == plain
    async with http.post("/", params={"session_id": "leak", "final": "1", "no_such": "1"}, data=b"SELECT 1") as response:
        assert (response.status, response.headers["X-ClickHouse-Exception-Code"]) == (404, "115")
    assert await _post(http, ask, session_id="leak") == plain.replace(b"65409", b"5")


async def test_a_session_keeps_database_and_temporary_tables(http: aiohttp.ClientSession, database: str) -> None:
    """USE and CREATE TEMPORARY TABLE last for the session; a locked or missing session is an error."""
    await _post(http, f"USE {database}".encode(), session_id="s")
    await _post(http, b"CREATE TEMPORARY TABLE mine (a UInt8)", session_id="s")
    await _post(http, b"INSERT INTO mine VALUES (1)", session_id="s")
    assert await _post(http, b"SELECT currentDatabase(), a FROM mine", session_id="s") == f"{database}\t1\n".encode()
    assert await _post(http, b"SELECT currentDatabase()", session_id="s", database="system") == b"system\n"
    assert await _post(http, b"SELECT currentDatabase()", session_id="s") == f"{database}\n".encode()
    async with http.post("/", params={"session_id": "other", "session_check": "1"}, data=b"SELECT 1") as response:
        assert response.headers["X-ClickHouse-Exception-Code"] == "372"
    async with http.post("/", data=b"SELECT * FROM mine") as response:
        assert response.status == 404


async def test_what_a_jdbc_driver_asks_first(http: aiohttp.ClientSession) -> None:
    """Version, user, zone and the system tables, in the binary format with names and types."""
    binary = {"default_format": "RowBinaryWithNamesAndTypes"}
    assert (await _post(http, b"select 1", **binary)).endswith(b"\x01")
    row = await _post(http, b"SELECT version(), currentUser(), timezone()")
    version, user, _zone = row.decode().rstrip("\n").split("\t")
    assert version.startswith("26.")
    assert user == "default"
    for query in (
        b"SELECT name, engine, total_rows FROM system.tables WHERE database = 'system' LIMIT 5",
        b"SELECT name, type, position FROM system.columns WHERE table = 'one'",
        b"SELECT name FROM system.databases",
        b"SELECT name, value FROM system.settings LIMIT 5",
        b"DESCRIBE TABLE system.one",
        b"SHOW TABLES FROM system",
    ):
        assert len(await _post(http, query, **binary)) > 10


async def test_web_pages_of_other_origins_are_refused(http: aiohttp.ClientSession, server: Server) -> None:
    """There is no password: a foreign Origin, or a name rebound to 127.0.0.1, must not reach the engine."""
    for headers in ({"Origin": "https://evil.example"}, {"Host": f"evil.example:{server.port}"}, {"Origin": "null"}):
        async with http.post("/", data=b"SELECT 1", headers=headers) as response:
            assert response.status == 403
    async with http.post("/", data=b"SELECT 1", headers={"Origin": server.url}) as response:
        assert response.status == 200


async def test_compress_gives_clickhouses_own_blocks(http: aiohttp.ClientSession) -> None:
    """`compress=1`, a JDBC driver's default: checksum, method byte 0x82, both sizes, LZ4 data; errors come plain."""
    query = b"SELECT number FROM numbers(400000)"
    packed, plain = await _post(http, query, compress="1"), bytearray()
    position = 0
    while position < len(packed):
        method, packed_size, plain_size = struct.unpack_from("<BII", packed, position + 16)
        assert method == 0x82
        plain += lz4.block.decompress(packed[position + 25 : position + 16 + packed_size], uncompressed_size=plain_size)
        position += 16 + packed_size
    assert bytes(plain) == await _post(http, query)
    async with http.post("/", params={"compress": "1"}, data=b"SELEC") as response:
        assert (await response.text()).startswith("Code: 62.")
    async with http.post("/", params={"decompress": "1"}, data=b"?") as response:
        assert response.status == 501

"""No query reads or writes a file, reaches another server, or runs a program."""

from __future__ import annotations

import aiohttp
import pytest

from tests.deploy.clickhouse.outside import REFUSALS, SECRET, Outside
from tests.deploy.clickhouse.serving import Server

# {file}: a file that holds SECRET; {out}: one that is not there; {here}: a server that counts who connects.
_READS_FILES = [
    "SELECT * FROM file('{file}', 'LineAsString')",
    "select * from FILE('{file}', LineAsString)",
    "SELECT * FROM /* x */ `file`('{file}', 'LineAsString')",
    "SELECT * FROM `fil\\x65`('{file}', 'LineAsString')",
    "SELECT file('{file}')",
    "SELECT `file`('{file}', 'default')",
    "SELECT * APPLY file FROM (SELECT '{file}')",
    "SELECT arrayMap(x -> file(x), ['{file}'])",
    "SELECT * FROM '{file}'",
    "SELECT * FROM default.`{file}`",
    "SELECT count() FROM numbers(1) WHERE (SELECT file('{file}')) != ''",
    "SELECT 1 SETTINGS additional_result_filter = 'file(\\'{file}\\') = 1'",
    "SELECT * FROM format(JSONEachRow, 'a String, b String DEFAULT file(\\'{file}\\')', '{{\"a\":\"1\"}}')",
    "SELECT * FROM filesystem('{file}')",
    "SELECT * FROM fileCluster('default', '{file}', 'LineAsString')",
    "SELECT * FROM sqlite('{file}', 't')",
    "SELECT * FROM icebergLocal('{file}')",
    "DESCRIBE file('{file}')",
    "EXPLAIN SELECT * FROM file('{file}', 'LineAsString')",
    "SELECT 1 FORMAT Template SETTINGS format_template_resultset = '{file}'",
    "SELECT 1 FORMAT Protobuf SETTINGS format_schema = '{file}:x'",
    "SET format_template_row = '{file}'",
    "INSERT INTO taken FROM INFILE '{file}' FORMAT LineAsString",
    "INSERT INTO taken FROM/**/inFile '{file}' FORMAT LineAsString",
    "INSERT INTO taken SELECT file('{file}')",
    "INSERT INTO taken VALUES (file('{file}'))",
    "CREATE TABLE mine (a String) ENGINE = File(LineAsString, '{file}')",
    "CREATE TEMPORARY TABLE mine (a String) ENGINE = File(LineAsString, '{file}')",
    "CREATE TABLE mine AS file('{file}', 'LineAsString')",
    "CREATE VIEW mine AS SELECT * FROM file('{file}', 'LineAsString')",
    "CREATE DATABASE mine ENGINE = Filesystem('/')",
    "CREATE DATABASE mine ENGINE = SQLite('{file}')",
    "CREATE DICTIONARY mine (a String) PRIMARY KEY a SOURCE(FILE(path '{file}' format 'TSV')) LAYOUT(COMPLEX_KEY_HASHED())",
    "RESTORE TABLE taken FROM File('{file}')",
    "ATTACH TABLE mine FROM '{file}' (a String) ENGINE = MergeTree ORDER BY a",
    "\u00a0ATTACH TABLE mine FROM '{file}' (a String) ENGINE = MergeTree ORDER BY a",
    "/* ALTER */ ATTACH TABLE mine FROM '{file}' (a String) ENGINE = MergeTree ORDER BY a",
    "SELECT * FROM Python(parameters)",
    "SELECT * FROM Python(files)",
    "SELECT * FROM Python(environ)",
]  # fmt: skip
_WRITES_FILES = [
    "SELECT 1 INTO OUTFILE '{out}'",
    "SELECT 1 into -- x\n outfile '{out}'",
    # A lexer that knows no typographic quotes takes this for a comment.
    "SELECT ‘/*’ INTO OUTFILE '{out}' /* */",  # noqa: RUF001
    "EXPLAIN SELECT 1 INTO OUTFILE '{out}'",
    "SHOW DATABASES INTO OUTFILE '{out}'",
    "INSERT INTO FUNCTION file('{out}', 'TSV', 'a String') VALUES ('x')",
    "INSERT INTO TABLE FUNCTION file('{out}', 'TSV', 'a String') SELECT 'x'",
    "BACKUP TABLE taken TO File('{out}')",
    "SELECT 1 FORMAT CapnProto SETTINGS output_format_schema = '{out}'",
    "CREATE TABLE mine (a String) ENGINE = MergeTree ORDER BY a SETTINGS disk = disk(type = 'local', path = '{out}/')",
    "CREATE TABLE mine (a String) ENGINE = EmbeddedRocksDB(0, '{out}') PRIMARY KEY a",
    "CREATE TABLE mine (a String) ENGINE = `Embedded\\x52ocksDB`(0, '{out}') PRIMARY KEY a",
    "DROP TABLE IF EXISTS mine PARALLEL WITH CREATE TABLE mine (a String) ENGINE = EmbeddedRocksDB(0, '{out}') PRIMARY KEY a",
    *(
        f"CREATE DATABASE mine ENGINE = Atomic SETTINGS disk{blank}= disk(type = object_storage, object_storage_type = local, "
        "metadata_type = plain_rewritable, path = '{out}/')"
        for blank in (" \u00a0", "\u2003/**/\ufeff", "// x\n", "/* /* */ */")
    ),
    "CREATE TABLE mine (a Int8) ENGINE = MergeTree ORDER BY a SETTINGS\u200b`disk` -- x\n= disk(type = local, path = '{out}/')",
    "ALTER TABLE taken MODIFY SETTING DISK\u3000= DISK(type = local, path = '{out}/')",
    "CREATE MATERIALIZED VIEW mine ENGINE = MergeTree ORDER BY a SETTINGS disk\u00a0= disk(path = '{out}/') AS SELECT 1 AS a",
    "DROP TABLE IF EXISTS mine PARALLEL WITH CREATE DATABASE mine ENGINE = Atomic SETTINGS disk\u00a0= disk(path = '{out}/')",
    "SELECT 1; CREATE DATABASE mine ENGINE = Atomic SETTINGS disk\u00a0= disk(type = local, path = '{out}/'); 'unfinished",
]
_CALLS_OUT = [
    "SELECT * FROM url('http://{here}/x.csv', 'CSV', 'a String')",
    "INSERT INTO FUNCTION url('http://{here}/x.csv', 'CSV', 'a String') VALUES ('x')",
    "SELECT * FROM s3('http://{here}/bucket/x.csv', 'CSV', 'a String')",
    "SELECT * FROM hdfs('hdfs://{here}/x.csv', 'CSV', 'a String')",
    "SELECT * FROM remote('{here}', system.one)",
    "SELECT * FROM remoteSecure('{here}', system.one)",
    "SELECT * FROM mysql('{here}', 'd', 't', 'u', 'p')",
    "SELECT * FROM postgresql('{here}', 'd', 't', 'u', 'p')",
    "SELECT * FROM mongodb('{here}', 'd', 't', 'u', 'p', 'a String')",
    "SELECT * FROM redis('{here}', 'a', 'a String')",
    "SELECT * FROM jdbc('jdbc:x://{here}', 't')",
    "SELECT * FROM odbc('DSN=x', 't')",
    "SELECT * FROM azureBlobStorage('http://{here}/', 'c', 'b', 'a', 'k')",
    "SELECT * FROM deltaLake('http://{here}/bucket/x/')",
    "DESCRIBE url('http://{here}/x.csv')",
    "CREATE VIEW mine AS SELECT * FROM url('http://{here}/x.csv', 'CSV', 'a String')",
    "CREATE MATERIALIZED VIEW mine TO taken AS SELECT * FROM url('http://{here}/x.csv', 'CSV', 'a String')",
    "CREATE TABLE mine (a String) ENGINE = URL('http://{here}/x.csv', 'CSV')",
    "CREATE TABLE mine (a String) ENGINE = MergeTree ORDER BY a SETTINGS disk = disk(type = 'web', endpoint = 'http://{here}/')",
    "CREATE DATABASE mine ENGINE = Atomic SETTINGS disk = disk(type = 'web', endpoint = 'http://{here}/')",
    "CREATE /* x */ DATABASE mine ENGINE = Atomic settings `d\\x69sk` = `d\\x69sk`(type = 'web', endpoint = 'http://{here}/')",
    "ALTER TABLE taken MODIFY SETTING disk = disk(type = 'web', endpoint = 'http://{here}/')",
    "CREATE DATABASE mine ENGINE = Atomic SETTINGS disk \u00a0= disk(type = web, endpoint = 'http://{here}/')",
    "CREATE TABLE mine (a Int8) ENGINE = MergeTree ORDER BY a SETTINGS disk\u2003 \u2003= disk(type = s3, endpoint = 'http://{here}/b/')",
    *(
        f"CREATE DATABASE mine ENGINE\u00a0=DataLakeCatalog('http://{{here}}/') SETTINGS warehouse='w', catalog_type={kind!r}"
        for kind in ("rest", "unity", "glue")
    ),
    "CREATE DATABASE mine ENGINE = Backup('default', S3('http://{here}/b/', 'a', 'b'))",
    "CREATE DATABASE mine ENGINE = MySQL('{here}', 'd', 'u', 'p')",
    "CREATE DICTIONARY mine (a String) PRIMARY KEY a SOURCE(HTTP(url 'http://{here}/' format 'TSV')) LAYOUT(FLAT())",
    "SELECT * FROM format(AvroConfluent, 'x') SETTINGS format_avro_schema_registry_url = 'http://{here}/'",
    "SELECT * FROM eval('SELECT * FROM url(\\'http://{here}/x.csv\\')') SETTINGS allow_experimental_eval_table_function = 1",
    "CREATE NAMED COLLECTION mine AS url = 'http://{here}/'",
    "?? list the tables",
    "\u0000?? list the tables",
    "SET dialect = 'clickhouse_json'",
    "SELECT 1 SETTINGS dialect = 'kusto'",
]  # fmt: skip
_RUNS_PROGRAMS = [
    "SELECT * FROM executable('x.sh', 'TSV', 'a String')",
    *(
        f"CREATE TABLE mine (a String) ENGINE = {engine}('x.sh', 'TSV')"
        for engine in ("Executable", "ExecutablePool", "FileLog", "KeeperMap", "ArrowStream", "QueryRunner")
    ),
    "CREATE USER mine",
    "GRANT READ ON FILE TO default",
    "GRANT ALL ON *.* TO default",
    "DROP FUNCTION file",
    "CREATE OR REPLACE FUNCTION file AS x -> x",
]


async def test_no_statement_reaches_beyond_the_data(http: aiohttp.ClientSession, database: str, outside: Outside) -> None:
    """Each is refused, in both places a statement can be; no file is read or made, and nobody is called."""
    async with http.post("/", params={"database": database}, data=b"CREATE TABLE taken (a String) ENGINE = Memory") as made:
        assert made.status == 200
    async with outside.listening():
        for name in ("iceberg", "unity_catalog", "glue_catalog"):  # which would otherwise be what refuses
            params = {"session_id": "daring", "query": f"SET allow_database_{name} = 1"}
            async with http.post("/", params=params) as made:
                assert made.status == 200
        for statement in (*_READS_FILES, *_WRITES_FILES, *_CALLS_OUT, *_RUNS_PROGRAMS):
            query = statement.format(file=outside.file, out=outside.out, here=outside.here)
            for params, body in (({}, query), ({"query": query}, "")):
                given = {"session_id": "daring", "database": database, **params}
                async with http.post("/", params=given, data=body.encode()) as answer:
                    text = await answer.text()
                assert answer.status != 200, (query, text)
                assert SECRET not in text, query
                assert answer.headers["X-ClickHouse-Exception-Code"] in REFUSALS, (query, text)
            assert list(outside.out.parent.iterdir()) == [], query
            assert outside.connected == [], query
    async with http.post("/", params={"database": database}, data=b"SELECT count() FROM taken") as left:
        assert await left.text() == "0\n"


async def test_a_function_of_ours_does_as_little_as_file(http: aiohttp.ClientSession, outside: Outside) -> None:
    """It is made of `file`."""
    async with http.post("/", data=b"CREATE FUNCTION reading AS x -> file(x)") as made:
        assert made.status == 200
    async with http.post("/", data=f"SELECT reading('{outside.file}')".encode()) as answer:
        assert answer.headers["X-ClickHouse-Exception-Code"] == "497"
        assert "The embedded server reads no files" in await answer.text()


@pytest.mark.parametrize("end", ["'unfinished", "garb(", "/* open", "\x00", "?? x"])
async def test_nothing_runs_of_a_text_that_does_not_parse(http: aiohttp.ClientSession, database: str, end: str) -> None:
    """Not its first statements either, and least of all by GET."""
    async with http.post("/", params={"database": database}, data=b"CREATE TABLE kept (a UInt8) ENGINE = Memory") as made:
        assert made.status == 200
    for before in (
        "SELECT 1; DROP TABLE kept; ",
        "DROP TABLE kept; ",
        "DROP TABLE kept ",
        "\u00a0INSERT INTO kept VALUES (1) ",
    ):
        statement = f"{before}{end}"
        async with http.get("/", params={"database": database, "query": statement}) as asked:
            assert asked.status != 200, statement
        async with http.post("/", params={"database": database}, data=statement.encode()) as answer:
            text = await answer.text()
            assert "formatQuery" not in text
            assert answer.status == 400, (statement, text)
    async with http.post("/", params={"database": database}, data=b"SELECT count() FROM kept") as left:
        assert await left.text() == "0\n"


async def test_a_setting_in_the_url_changes_no_dialect(http: aiohttp.ClientSession) -> None:
    """A text in another dialect would not be read as SQL by what looks for words in it."""
    async with http.post("/", params={"dialect": "clickhouse_json"}, data=b"{}") as answer:
        assert answer.headers["X-ClickHouse-Exception-Code"] == "452"


async def test_what_people_and_the_sink_do_goes_on(http: aiohttp.ClientSession, database: str) -> None:
    """Tables, views, functions, temporary tables, table functions without a source, and data that name files."""
    statements = {
        "CREATE TABLE t (a String) ENGINE = ReplacingMergeTree ORDER BY a SETTINGS index_granularity = 64": b"",
        "INSERT INTO t (a) VALUES ('INTO OUTFILE x'), ('FROM INFILE y')": b"",
        'INSERT INTO t FORMAT JSONEachRow {"a": "python(x)"}': b"",
        "SELECT a FROM t ORDER BY a": b"FROM INFILE y\nINTO OUTFILE x\npython(x)\n",
        "CREATE VIEW v AS SELECT count() AS n FROM t FINAL": b"",
        "SELECT n FROM v": b"3\n",
        "CREATE FUNCTION twice AS x -> x * 2": b"",
        "SELECT twice(sum(number)) FROM numbers(4)": b"12\n",
        "SELECT * FROM values('a String', 'x')": b"x\n",
        "DETACH TABLE t": b"",
        "ATTACH TABLE t": b"",
        "SYSTEM STOP MERGES t": b"",
        "ALTER TABLE t ADD COLUMN b String": b"",
        "CREATE TABLE t3 AS t": b"",
        "ALTER TABLE t3 ATTACH PARTITION tuple() FROM t": b"",
        "EXCHANGE TABLES t AND t2": b"",
        "DROP FUNCTION twice": b"",
        "CREATE TABLE d (disk String DEFAULT 'disk = x') ENGINE = Log SETTINGS index_granularity = 8 -- disk =": b"",
        "\u00a0INSERT\u2003INTO d VALUES ('it is on disk = x')": b"",
        "CREATE VIEW on_disk AS SELECT disk FROM d SETTINGS max_threads = 1 // disk (none)": b"",
        "SELECT disk FROM on_disk // SETTINGS": b"it is on disk = x\n",
    }
    async with http.post("/", params={"database": database}, data=b"CREATE TABLE t2 (a String) ENGINE = Memory") as made:
        assert made.status == 200
    for statement, wanted in statements.items():
        async with http.post("/", params={"database": database}, data=statement.encode()) as answer:
            assert (answer.status, await answer.read()) == (200, wanted), statement


async def test_default_holds_tables_and_no_files(http: aiohttp.ClientSession, server: Server) -> None:
    """It is an ordinary database, whose tables stay over a restart."""
    for statement in ("CREATE TABLE kept (a UInt8) ENGINE = MergeTree ORDER BY a", "INSERT INTO kept VALUES (7)"):
        async with http.post("/", data=statement.encode()) as answer:
            assert answer.status == 200
    server.stop()
    server.start()
    async with aiohttp.ClientSession(server.url) as again, again.post("/", data=b"SELECT a FROM default.kept") as answer:
        assert await answer.read() == b"7\n"

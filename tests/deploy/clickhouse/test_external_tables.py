"""Tables that come with a request, as files of a form."""

from __future__ import annotations

import aiohttp
import pytest

from tests.deploy.clickhouse.outside import REFUSALS, SECRET, Outside

# {file}, {out} and {here} as in test_confinement.
_STRUCTURES = [
    "a String DEFAULT file('{file}')",
    "a UInt8) AS SELECT 1 INTO OUTFILE '{out}' -- ",
    "a UInt64) ENGINE = EmbeddedRocksDB(0, '{out}') PRIMARY KEY a --",
    "a UInt64) ENGINE\u00a0=\u00a0EmbeddedRocksDB(0, '{out}') PRIMARY KEY a //",
    "a String) ENGINE = Executable('id', 'TSV') /*",
    "a String) ENGINE = MergeTree ORDER BY a SETTINGS disk\u00a0= disk(type = local, path = '{out}/') --",
    "a String) ENGINE = MergeTree ORDER BY a SETTINGS disk = disk(type = web, endpoint = 'http://{here}/') --",
    "a String') LIMIT 0; CREATE TABLE mine (a String) ENGINE = EmbeddedRocksDB(0, '{out}') PRIMARY KEY a --",
    "a String\\') ENGINE = EmbeddedRocksDB(0, '{out}') PRIMARY KEY a --",
    "a String) ENGINE = Log --",
    "a String); DROP TABLE mine; --",
    "a",
    "",
]


@pytest.mark.parametrize("parameter", ["mine_structure", "mine_types"])
@pytest.mark.parametrize("structure", _STRUCTURES)
async def test_the_structure_of_a_table_that_comes_with_a_request_is_a_list_of_columns(
    http: aiohttp.ClientSession, database: str, outside: Outside, structure: str, parameter: str
) -> None:
    """It is no part of a statement: nothing in it closes the list, names an engine or begins a comment."""
    async with outside.listening():
        form = aiohttp.FormData({"query": "SELECT * FROM mine", "database": database})
        form.add_field("mine", b"1", filename="mine")
        given = structure.format(file=outside.file, out=outside.out, here=outside.here).removeprefix(
            "a " * (parameter[5] == "t")
        )
        async with http.post(
            "/", params={parameter: given}, data=(sent := form()), headers={"Content-Type": sent.content_type}
        ) as answer:
            text = await answer.text()
            assert answer.status != 200, text
            assert SECRET not in text
            assert answer.headers["X-ClickHouse-Exception-Code"] in REFUSALS | {"50"}, text
        assert list(outside.out.parent.iterdir()) == []
        assert outside.connected == []


async def test_a_table_that_comes_with_a_request_has_any_columns(http: aiohttp.ClientSession, database: str) -> None:
    """Quoted names, and types with commas in brackets and strings."""
    types = "Tuple(a Nullable(String), b UInt8), Enum8('a,(' = 1, 'it''s' = 2), Map(String, Array(LowCardinality(String)))"
    for described in (
        {"mine_types": types},
        {"mine_structure": f"`a b` {types.replace(', Enum8', ', c Enum8').replace(', Map', ', m Map')}"},
    ):
        form = aiohttp.FormData({"query": "SELECT * FROM mine", "database": database, "mine_format": "TSV"})
        form.add_field("mine", b"('x',1)\ta,(\t{'k':['v']}\n", filename="mine")
        async with http.post(
            "/", params=described, data=(sent := form()), headers={"Content-Type": sent.content_type}
        ) as answer:
            assert (answer.status, await answer.text()) == (200, "('x',1)\ta,(\t{'k':['v']}\n")

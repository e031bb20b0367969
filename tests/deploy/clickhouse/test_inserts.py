"""Inserts: all or nothing, once a token, and no obstacle to readers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial

import aiohttp
import pytest
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import DatabaseError

from tests.deploy.clickhouse.serving import Server
from tests.support.waiting import wait_until

_MANY = 2_000_000
_TABLE = "CREATE TABLE t (a UInt64, b String) ENGINE = MergeTree ORDER BY a SETTINGS non_replicated_deduplication_window = 100"


def _lines(rows: int) -> bytes:
    return b"".join(b"%d,row %d\n" % (n, n) for n in range(rows))


def _count(client: Client) -> int:
    (count,) = client.query("SELECT count() FROM t").first_row
    assert isinstance(count, int)
    return count


def test_a_bad_last_row_of_two_million_leaves_no_row(client: Client) -> None:
    """All or nothing, also beyond the engine's own block size; the same rows without the bad one are one part."""
    client.command(_TABLE)
    good = _lines(_MANY)
    with pytest.raises(DatabaseError) as refused:
        client.raw_insert("t", insert_block=good + b"oops\n", fmt="CSV")
    assert refused.value.code == 27
    assert _count(client) == 0
    assert client.raw_insert("t", insert_block=good, fmt="CSV").written_rows == _MANY
    assert _count(client) == _MANY
    assert client.query("SELECT count() FROM system.parts WHERE table = 't' AND database = currentDatabase()").first_row == (1,)


async def test_a_client_that_hangs_up_leaves_no_row(http: aiohttp.ClientSession, server: Server, client: Client) -> None:
    """A body that ends before its announced length, or inside its chunks, inserts nothing."""
    client.command(_TABLE)
    rows = _lines(300_000)
    target = f"/?database={client.database}&query=INSERT%20INTO%20t%20FORMAT%20CSV"
    for framing in (b"Content-Length: %d" % (2 * len(rows)), b"Transfer-Encoding: chunked"):
        _, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"POST %s HTTP/1.1\r\nHost: localhost\r\n%s\r\n\r\n" % (target.encode(), framing))
        writer.write(rows if b"Length" in framing else b"%x\r\n%s\r\n" % (len(rows), rows))
        await writer.drain()
        await wait_until(partial(_inserts_running, http, 1), 10, "the insert runs")
        writer.close()
        await writer.wait_closed()
        await wait_until(partial(_inserts_running, http, 0), 10, "the insert has ended")
        assert _count(client) == 0


async def _inserts_running(http: aiohttp.ClientSession, number: int) -> bool:
    query = b"SELECT count() FROM system.processes WHERE query LIKE 'INSERT%'"
    async with http.post("/", data=query) as response:
        return int(await response.read()) == number


def test_a_token_inserts_its_rows_once(client: Client) -> None:
    """The same token and rows again change nothing, another token does; the token is not carried into the next query."""
    client.command(_TABLE)
    token = {"insert_deduplication_token": "topic:0:0-1"}
    for _ in range(2):
        client.raw_insert("t", insert_block=b"1,x\n2,y\n", fmt="CSV", settings=token)
    assert _count(client) == 2
    client.raw_insert("t", insert_block=b"3,x\n", fmt="CSV")
    client.raw_insert("t", insert_block=b"4,x\n", fmt="CSV")
    assert _count(client) == 4
    client.raw_insert("t", insert_block=b"1,x\n2,y\n", fmt="CSV", settings={"insert_deduplication_token": "topic:0:2-3"})
    assert _count(client) == 6


async def test_reads_go_on_while_an_insert_is_under_way(http: aiohttp.ClientSession, client: Client) -> None:
    """A slow insert blocks no reader, and no reader sees a part of it."""
    client.command(_TABLE)
    go_on = asyncio.Event()

    async def slowly() -> AsyncIterator[bytes]:
        yield _lines(200_000)
        await go_on.wait()
        yield b"999999,last\n"

    params = {"database": client.database or "", "query": "INSERT INTO t FORMAT CSV"}
    inserting = asyncio.create_task(_status(http, params, slowly()))
    try:
        await wait_until(partial(_inserts_running, http, 1), 10, "the insert runs")
        for _ in range(20):
            assert await asyncio.to_thread(_count, client) == 0
    finally:
        go_on.set()
    assert await inserting == 200
    assert _count(client) == 200_001


async def _status(http: aiohttp.ClientSession, params: dict[str, str], body: AsyncIterator[bytes]) -> int:
    async with http.post("/", params=params, data=body) as response:
        return response.status


async def test_many_clients_at_once_lose_nothing(http: aiohttp.ClientSession, client: Client) -> None:
    """Forty inserts at the same time, with readers between them."""
    client.command(_TABLE)
    params = {"database": client.database or "", "query": "INSERT INTO t FORMAT CSV"}

    async def insert(number: int) -> None:
        async with http.post("/", params=params, data=b"%d,x\n" % number * 10) as response:
            assert response.status == 200

    async def read() -> None:
        async with http.post("/", params={"database": params["database"]}, data=b"SELECT count() FROM t") as response:
            assert int(await response.read()) % 10 == 0

    await asyncio.gather(*(job for n in range(40) for job in (insert(n), read())))
    assert _count(client) == 400


async def test_a_client_that_waits_to_be_asked_for_its_body_is_asked(server: Server, client: Client) -> None:
    """`Expect: 100-continue`, as curl sends it, is answered before the body comes."""
    client.command(_TABLE)
    target = f"/?database={client.database}&query=INSERT%20INTO%20t%20FORMAT%20CSV"
    head = f"POST {target} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n"
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    async with asyncio.timeout(10):
        writer.write(head.encode())
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"1,x\n")
        assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 200 ")
    writer.close()
    await writer.wait_closed()
    assert _count(client) == 1

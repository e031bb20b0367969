"""Memory under floods: an ingress in a process of its own, whose resident memory is watched while it is attacked."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator, Awaitable
from contextlib import suppress
from dataclasses import dataclass

import aiohttp
import psutil
import pytest
import pytest_asyncio

from deploy.embedded.ports import free_port
from kybstream.settings import KafkaSettings, render_toml
from tests.ingress.harness import KYB_TOKEN, make_topics, source
from tests.support.body_keys import ENCRYPTION
from tests.support.commands import Background
from tests.support.waiting import wait_until

MIB = 1024 * 1024
CONNECTIONS = 48
GROWTH = 48 * MIB
"""Allowed for all connections together; each flood would take at least three times as much if it were held."""

RIGHT = f"/webhooks/kyb/{KYB_TOKEN}"
WRONG = f"/webhooks/kyb/{'x' * 34}"


@dataclass(frozen=True)
class Target:
    """The attacked process."""

    port: int
    process: psutil.Process

    async def answers(self) -> bool:
        """Whether it takes webhooks."""
        with suppress(aiohttp.ClientError):
            async with aiohttp.ClientSession() as client, client.get(f"http://127.0.0.1:{self.port}/readyz") as response:
                return response.status == 200
        return False

    async def growth_during(self, attack: Awaitable[object]) -> int:
        """The most that its resident memory grew while the attack went on, in bytes."""
        before = peak = self.process.memory_info().rss
        task = asyncio.ensure_future(attack)
        while not task.done():
            await asyncio.wait({task}, timeout=0.02)
            peak = max(peak, self.process.memory_info().rss)
        await task
        return peak - before


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def target(noida_broker: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Target]:
    """An ingress with default limits that has warmed up."""
    folder = tmp_path_factory.mktemp("floods")
    port = free_port()
    kafka = KafkaSettings(bootstrap_servers=noida_broker, topic_prefix=f"{folder.name}.")
    await make_topics(kafka)
    configuration = folder / "kyb-stream.toml"
    configuration.write_text(
        render_toml(
            {
                "kafka": {"bootstrap_servers": noida_broker, "topic_prefix": kafka.topic_prefix},
                "ingress": {"port": port, "body_timeout_seconds": 2, "shutdown_seconds": 1},
                "encryption": ENCRYPTION,
                "tenants": [{"name": "acme", "pseudonym_key": "k" * 32, "case_token_keys": ["c" * 32]}],
                "sources": [source()],
            }
        )
    )
    background = Background("ingress", "--config", str(configuration), log=folder / "log")
    try:
        found = Target(port, psutil.Process(background.pid))
        await wait_until(found.answers, 30, "the ingress is ready")
        children = [each for each in found.process.children(recursive=True) if "ingress" in each.cmdline()]
        found = Target(port, children[0] if children else found.process)
        await flood(found, head(RIGHT, "Content-Length: 100000") + bytes(100_000), 200)
        yield found
    finally:
        await background.close()


def head(path: str, *headers: str) -> bytes:
    """A POST without its body, on a connection that ends with the answer."""
    return "\r\n".join([f"POST {path} HTTP/1.1", "Host: x", "Connection: close", *headers, "", ""]).encode()


async def flood(target: Target, request: bytes, *expected: int) -> None:
    """The same request on many connections at once; each is answered with one of the statuses."""

    async def one() -> int:
        reader, writer = await asyncio.open_connection("127.0.0.1", target.port)
        try:
            with suppress(ConnectionError):  # it is answered and closed before all is sent
                writer.write(request)
                await writer.drain()
            with suppress(ConnectionError, IndexError):
                return int((await reader.readline()).split()[1])
            return expected[0]
        finally:
            writer.close()

    statuses = await asyncio.gather(*(one() for _ in range(CONNECTIONS)))
    assert set(statuses) <= set(expected), set(statuses)


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("length", ["Content-Length: 8000000", "Transfer-Encoding: chunked"])
async def test_bodies_without_a_token_are_not_held(target: Target, length: str) -> None:
    """8 MB on each connection with a wrong token: what is read ahead is bounded, and the rest is never kept."""
    request = head(WRONG, length) + b"7a1200\r\n" * length.startswith("T") + bytes(8_000_000)
    assert await target.growth_during(flood(target, request, 404)) < GROWTH


@pytest.mark.asyncio(loop_scope="module")
async def test_bodies_beyond_the_cap_are_not_held(target: Target) -> None:
    """With the right token, too, no more than the cap of 1 MiB is kept, and that not for long."""
    request = head(RIGHT, "Transfer-Encoding: chunked") + b"7a1200\r\n" + bytes(8_000_000)
    assert await target.growth_during(flood(target, request, 413)) < GROWTH + CONNECTIONS * MIB


@pytest.mark.asyncio(loop_scope="module")
async def test_gzip_bombs_are_not_unpacked(target: Target) -> None:
    """200 MiB of zeros in 200 KiB on each connection: 413, and never more than one is inflated up to the cap."""
    bomb = gzip.compress(bytes(200 * MIB), compresslevel=9)
    request = head(RIGHT, "Content-Encoding: gzip", f"Content-Length: {len(bomb)}") + bomb
    assert await target.growth_during(flood(target, request, 413)) < GROWTH


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(
    ("request_head", "status"),
    [
        (b"POST / HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 1_000_000, 431),
        (b"POST / HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 6_000_000, 431),
        (b"POST / HTTP/1.1\r\nHost: x\r\n" + b"y" * 6_000_000, 431),
        (b"POST /" + b"y" * 6_000_000, 414),
    ],
    ids=["headers", "value", "name", "url"],
)
async def test_endless_heads_are_not_held(target: Target, request_head: bytes, status: int) -> None:
    """Headers, a header or a URL without end: answered and closed when the limit is reached."""
    assert await target.growth_during(flood(target, request_head, status)) < GROWTH


@pytest.mark.asyncio(loop_scope="module")
async def test_tiny_chunks_cost_no_more_than_their_bytes(target: Target) -> None:
    """20,000 chunks of one byte: the cap counts bytes, and a chunk costs nothing beside them."""
    request = head(RIGHT, "Transfer-Encoding: chunked") + b"1\r\nx\r\n" * 20_000 + b"0\r\n\r\n"
    assert await target.growth_during(flood(target, request, 200, 408)) < GROWTH


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("path", [RIGHT, WRONG], ids=["right token", "wrong token"])
async def test_chunks_that_break_off_into_noise_are_not_held(target: Target, path: str) -> None:
    """What follows a chunk that is none is read by nobody."""
    request = head(path, "Transfer-Encoding: chunked") + b"1\r\nx\r\n" + b"z" * 6_000_000
    assert await target.growth_during(flood(target, request, 400, 404)) < GROWTH


@pytest.mark.asyncio(loop_scope="module")
async def test_pipelined_requests_wait_in_the_socket(target: Target) -> None:
    """Many requests on one connection are read only as fast as they are answered."""
    one = f"POST {WRONG} HTTP/1.1\r\nHost: x\r\nX: {'y' * 4000}\r\nContent-Length: 0\r\n\r\n".encode()
    assert await target.growth_during(flood(target, one * 1000, 404)) < GROWTH

"""What connections may cost: heads that do not end, more of them than there is room for, and senders that close their side."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest

from ingress import listening
from ingress.connections import Connections
from ingress.heads import MAX_HEAD_BYTES
from ingress.listening import LINGER_SECONDS
from kybstream.settings.values import MAX_BODY_BYTES
from tests.ingress.connecting import HELD, KYB, WEBHOOK, connected, statuses
from tests.ingress.harness import (
    Ingress,
    deliveries_of,
    make_topics,
    running,
    settings_for,
    source,
)
from tests.support.waiting import wait_until

OTHER_TOKEN = "other-token-of-thirty-four-characters"
OTHER = f"/webhooks/other/{OTHER_TOKEN}"


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (WEBHOOK, [200]),
        (WEBHOOK * 3, [200, 200, 200]),
        (WEBHOOK.replace(b"Host", b"Connection: close\r\nHost"), [200]),
        (WEBHOOK.replace(b"1.1", b"1.0", 1), None),
        (HELD, [400]),
        (WEBHOOK + HELD, [200, 400]),
        (HELD[:-1].replace(b"Content-Length: 9", b"Transfer-Encoding: chunked") + b"9\r\nx", [400]),
        (WEBHOOK[:40], []),
        (WEBHOOK + WEBHOOK[:40], [200]),
        (b"", []),
    ],
    ids=[
        "one",
        "pipelined",
        "close",
        "HTTP/1.0",
        "cut body",
        "one and a cut body",
        "cut chunk",
        "cut head",
        "one and a cut head",
        "nothing",
    ],
)
async def test_a_sender_that_closes_its_side_is_answered(ingress: Ingress, sent: bytes, expected: list[int] | None) -> None:
    """What came whole is stored and answered, then the connection ends; what was cut short is stored by nobody."""
    async with connected(ingress, sent) as (reader, writer):
        writer.write_eof()
        async with asyncio.timeout(10):
            answers = await reader.read()
    found = [int(part.split()[1]) for part in answers.split(b"HTTP/")[1:]]
    assert found == ([200] if expected is None else expected)
    assert len(await deliveries_of(ingress.settings)) == found.count(200)
    if found:
        assert b"\r\nConnection: close\r\n" in answers or expected is None


async def test_a_sender_that_closes_its_side_while_it_waits_is_answered(noida_broker: str, topic_prefix: str) -> None:
    """Also when the answer takes a while, as it does without Kafka, and when the end of its side comes after it."""
    settings = settings_for("127.0.0.1:1", topic_prefix, ack_timeout_seconds=0.3)
    async with running(settings, wait_ready=False) as ingress:
        for _ in range(2):
            async with connected(ingress, WEBHOOK) as (reader, writer):
                writer.write_eof()
                assert await statuses(reader) == [503]
    settings = settings_for(noida_broker, topic_prefix)
    await make_topics(settings.kafka)
    async with running(settings) as ingress, connected(ingress, WEBHOOK) as (reader, writer):
        assert (await reader.readuntil(b"\r\n\r\nok")).startswith(b"HTTP/1.1 200 ")
        writer.write_eof()
        assert await statuses(reader) == []


@pytest.fixture
def short_heads(monkeypatch: pytest.MonkeyPatch) -> None:
    """A head has less time than a test."""
    monkeypatch.setattr(listening, "HEAD_SECONDS", 0.3)


@pytest.mark.usefixtures("short_heads")
async def test_a_head_has_a_time_in_which_to_come(ingress: Ingress) -> None:
    """However it drips, from its first byte on: 408 and the end. Connections without any byte, and bodies, are not meant."""
    async with AsyncExitStack() as open_ones:
        silent, _ = await open_ones.enter_async_context(connected(ingress))
        stuck, _ = await open_ones.enter_async_context(connected(ingress, WEBHOOK[:30]))
        after_one, next_one = await open_ones.enter_async_context(connected(ingress, WEBHOOK))
        await after_one.readuntil(b"\r\n\r\nok")
        next_one.write(WEBHOOK[:9])
        dripping, drip = await open_ones.enter_async_context(connected(ingress))
        body, rest = await open_ones.enter_async_context(connected(ingress, HELD))
        idle, again = await open_ones.enter_async_context(connected(ingress, b"\r\n", WEBHOOK, b"\r\n"))

        async def write_slowly() -> None:
            for number in range(60):
                drip.write(WEBHOOK[number : number + 1])
                await asyncio.sleep(0.01)

        dripped = asyncio.create_task(write_slowly())
        try:
            assert await statuses(stuck) == [408]
            assert await statuses(after_one) == [408]
            assert await statuses(dripping) == [408]
        finally:
            dripped.cancel()
        rest.write(b"       }")
        assert (await body.readuntil(b"\r\n\r\nok")).startswith(b"HTTP/1.1 200 ")
        again.write(WEBHOOK)
        for _ in range(2):
            assert (await idle.readuntil(b"\r\n\r\nok")).startswith(b"HTTP/1.1 200 ")
        assert not silent.at_eof()
    assert await ingress.metric("kyb_ingress_requests_total", source="unknown", outcome="slow_head") == 3


@pytest.mark.parametrize(
    ("begun", "expected"),
    [
        (b"GET / HTTP/1.1\r\nno header\r\n", 400),
        (WEBHOOK + b"\0", 400),
        (WEBHOOK[:-6] + b"\r\nX: " + b"x" * MAX_HEAD_BYTES, 431),
    ],
    ids=["no HTTP", "pipelined", "large"],
)
async def test_a_refusal_reaches_a_sender_that_goes_on(ingress: Ingress, begun: bytes, expected: int) -> None:
    """What still comes is dropped, for a while: a reset could take the answer from it. Then the connection ends."""
    async with connected(ingress, begun) as (reader, writer):
        async with asyncio.timeout(LINGER_SECONDS / 2):
            for _ in range(20):
                writer.write(bytes(5_000))
                await asyncio.sleep(0.02)
            assert (await statuses(reader))[-1] == expected
        writer.write(b"x")
        began = asyncio.get_running_loop().time()
        await wait_until(lambda: _at_most(ingress, 0), LINGER_SECONDS + 5, "the connection is closed")
        assert asyncio.get_running_loop().time() - began < LINGER_SECONDS + 2


@pytest.mark.parametrize("at_once", [True, False], ids=["at once", "in pieces"])
async def test_a_head_is_bounded_as_a_whole(ingress: Ingress, at_once: bool) -> None:  # noqa: FBT001 - a parameter
    """Below the bound 200; above it 431 however it comes, also when each header alone is within its own."""

    def head_of(size: int) -> bytes:
        start = WEBHOOK.removesuffix(b"\r\n\r\n{}") + b"\r\n"
        lines = b"".join(b"X-%d: %s\r\n" % (number, b"y" * 4000) for number in range(size // 4010))
        return start + lines + b"\r\n{}"

    async def send(request: bytes) -> bytes:
        pieces = [request] if at_once else [request[start : start + 5000] for start in range(0, len(request), 5000)]
        async with connected(ingress, *pieces) as (reader, _):
            return await reader.readline()

    assert (await send(head_of(MAX_HEAD_BYTES - 2000))).split()[1] == b"200"
    assert (await send(head_of(MAX_HEAD_BYTES + 9000))).split()[1] == b"431"
    assert await ingress.metric("kyb_ingress_requests_total", source="unknown", outcome="headers_too_large") == 1


async def test_connections_without_a_request_make_room(noida_broker: str, topic_prefix: str) -> None:
    """At the bound the longest idle one is closed for a new one; those with a request stay, and are answered."""
    settings = settings_for(noida_broker, topic_prefix, max_connections=16)
    await make_topics(settings.kafka)
    async with running(settings) as ingress, AsyncExitStack() as open_ones:
        held, rest = await open_ones.enter_async_context(connected(ingress, HELD))
        await wait_until(lambda: _under_way(ingress), 5, "the body is being read")
        idle = [await open_ones.enter_async_context(connected(ingress)) for _ in range(20)]
        heads = [await open_ones.enter_async_context(connected(ingress, WEBHOOK[:9])) for _ in range(20)]
        async with connected(ingress, WEBHOOK) as (reader, _):
            assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")
        assert await idle[0][0].read() == b""
        assert await ingress.metric("kyb_ingress_connections_closed_total", reason="idle") >= 20
        await wait_until(lambda: _at_most(ingress, 16), 5, "no more connections than allowed")
        rest.write(b"       }")
        assert (await held.readline()).startswith(b"HTTP/1.1 200 ")
        assert not heads[-1][0].at_eof()


async def _under_way(ingress: Ingress) -> bool:
    return await ingress.metric("kyb_ingress_bytes_in_flight") > 0


async def _at_most(ingress: Ingress, connections: int) -> bool:
    return await ingress.metric("kyb_ingress_connections") <= connections


async def test_slow_bodies_of_one_tenant_leave_room_for_the_others(noida_broker: str, topic_prefix: str) -> None:
    """He may hold half of the connections; beyond it 503, while another one is served as before, and his go on."""
    sources = [source(), source("other", token=OTHER_TOKEN, tenant="else")]
    settings = settings_for(noida_broker, topic_prefix, sources, tenants=("acme", "else"), max_connections=64)
    await make_topics(settings.kafka)
    async with running(settings) as ingress, AsyncExitStack() as open_ones:
        slow = [await open_ones.enter_async_context(connected(ingress, HELD)) for _ in range(80)]
        refused = 0
        for reader, _ in slow[40:]:
            async with asyncio.timeout(5):
                refused += (await reader.readline()).startswith(b"HTTP/1.1 503 ")
        assert refused == 40
        for _ in range(10):
            async with connected(ingress, WEBHOOK.replace(KYB.encode(), OTHER.encode())) as (reader, _):
                assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")
        slow[0][1].write(b"       }")
        assert (await slow[0][0].readline()).startswith(b"HTTP/1.1 200 ")
        assert await ingress.metric("kyb_ingress_requests_total", source="other", outcome="busy") == 0


async def test_large_bodies_of_one_tenant_leave_room_for_the_others(noida_broker: str, topic_prefix: str) -> None:
    """256 slow bodies of one token: those that do not fit into his share get 503, another tenant's are stored."""
    sources = [source(max_body_bytes=100_000), source("other", token=OTHER_TOKEN, tenant="else")]
    settings = settings_for(noida_broker, topic_prefix, sources, tenants=("acme", "else"), max_bytes_in_flight=MAX_BODY_BYTES)
    await make_topics(settings.kafka)
    request = f"POST {KYB} HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n".encode() + bytes(99_000)
    async with running(settings) as ingress, AsyncExitStack() as open_ones:
        for _ in range(256):
            await open_ones.enter_async_context(connected(ingress, request))
        await wait_until(lambda: _busy(ingress, 256 - MAX_BODY_BYTES // 2 // 99_000), 10, "the rest is refused")
        assert await ingress.metric("kyb_ingress_bytes_in_flight") > MAX_BODY_BYTES * 0.45
        answer = await ingress.post(OTHER, b'{"service_id": "s"}' + b" " * 500_000)
        assert answer.status == 200


async def _busy(ingress: Ingress, count: int) -> bool:
    return await ingress.metric("kyb_ingress_requests_total", source="kyb", outcome="busy") >= count


async def test_who_does_not_read_its_answers_does_not_keep_its_connection(
    noida_broker: str, topic_prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Answers that nobody reads are given up after a while, with their connection."""
    monkeypatch.setattr(listening, "UNREAD_SECONDS", 0.3)
    settings = settings_for(noida_broker, topic_prefix)
    await make_topics(settings.kafka)
    async with running(settings) as ingress, connected(ingress) as (_, writer):
        writer.write(b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n" * 2000)
        await wait_until(lambda: _at_most(ingress, 1), 10, "but for the one that asks, no connection is open")


class _Fake:
    def abort(self) -> None:
        """Nothing to close."""


def test_those_that_wait_longest_make_room_and_requests_never() -> None:
    """Idle ones first, then unfinished heads, then unread answers."""
    closed: list[str] = []
    connections = Connections(4, closed.append)
    ones = [_Fake() for _ in range(4)]
    for one in ones:
        connections.opened(one)
    connections.busy(ones[0])
    connections.unread(ones[0])
    connections.head_begun(ones[1])
    connections.busy(ones[2])
    assert not connections.make_room(1) or closed == ["idle"]
    assert len(connections) == 3
    assert connections.make_room(0)
    assert [connections.close_one() for _ in range(3)] == [True, True, False]
    assert closed == ["idle", "slow_head", "unread_answer"]
    assert len(connections) == 1


async def test_a_body_in_pieces_is_no_head(ingress: Ingress) -> None:
    """However large it is, and in however many pieces it comes: they are not taken for a head that is too long."""
    body = b"{}" + b" " * 200_000
    request = f"POST {KYB} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
    for size in (len(request), 50_000, 131_072 + 37):
        async with connected(ingress, *(request[at : at + size] for at in range(0, len(request), size))) as (reader, _):
            assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")

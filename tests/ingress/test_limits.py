"""What strangers and senders can cost: bytes in flight, heads, bodies without a token, and the time of a 404."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import statistics
import zlib
from collections.abc import Callable
from contextlib import suppress
from time import perf_counter_ns

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingress.heads import MAX_HEADER_BYTES, MAX_HEADERS, MAX_URL_BYTES
from ingress.shares import BusyError, Shares
from ingress.sources import Source, Sources
from kybstream.settings.values import MAX_BODY_BYTES
from tests.ingress.harness import KYB_TOKEN, KYC_TOKEN, Ingress, kyc_source, make_topics, running, settings_for, source
from tests.support.waiting import wait_until

MIB = 1024 * 1024
KYB = f"/webhooks/kyb/{KYB_TOKEN}"
WRONG = f"/webhooks/kyb/{'x' * 34}"


def head(path: str, *lines: str) -> bytes:
    """A POST without its body, on a connection that ends with the answer."""
    return "\r\n".join([f"POST {path} HTTP/1.1", "Host: x", "Connection: close", *lines, "", ""]).encode()


def test_what_is_held_never_exceeds_the_limit() -> None:
    """What would not fit is refused and not counted; what is given back makes room. The only tenant may have all."""
    shares = Shares(limit=10)
    share = shares.share(10)
    share.add(10)
    with pytest.raises(BusyError):
        share.add(1)
    share.add(-4)
    share.add(4)
    assert shares.total == share.held == 10
    assert not share.has_room(1)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(-40, 40)), max_size=60))
def test_greedy_tenants_leave_room_for_the_next_one(steps: list[tuple[int, int]]) -> None:
    """Whatever tenants take, and in whichever order, each leaves as much free as it holds: the next one gets half of that."""
    shares = Shares(limit=100)
    greedy = [shares.share(1) for _ in range(4)]
    for number, size in steps:
        share = greedy[number]
        with suppress(BusyError):
            share.add(max(size, -share.held))
        assert shares.total == sum(each.held for each in greedy) <= 100
        assert share.held <= 50
        while share.has_room(1):
            share.add(1)
    newcomer = shares.share(1)
    assert 100 - shares.total >= 100 // 2**4 - 1
    assert newcomer.has_room((100 - shares.total) // 2)


async def test_the_bound_on_bytes_in_flight_holds(noida_broker: str, topic_prefix: str) -> None:
    """Beyond it 503 with Retry-After: by the declared length, by what comes without one, and by what comes out of deflate.

    What the refused had sent is given back, and others go on.
    """
    sources = [source(max_body_bytes=MAX_BODY_BYTES)]
    settings = settings_for(noida_broker, topic_prefix, sources, max_bytes_in_flight=MAX_BODY_BYTES)
    await make_topics(settings.kafka)
    async with running(settings) as ingress:
        _, writer = await asyncio.open_connection(*ingress.address)
        writer.write(head(KYB, f"Content-Length: {MAX_BODY_BYTES}") + bytes(7 * MIB))
        await wait_until(lambda: _in_flight(ingress, 7 * MIB), 10, "7 MiB are held")
        declared = await ingress.raw(head(KYB, f"Content-Length: {2 * MIB}"))
        assert declared.startswith(b"HTTP/1.1 503 ")
        assert b"\r\nRetry-After: 10\r\n" in declared
        reader, chunked = await asyncio.open_connection(*ingress.address)
        chunked.write(head(KYB, "Transfer-Encoding: chunked") + b"%x\r\n" % (2 * MIB) + bytes(2 * MIB))
        assert (await reader.readline()).startswith(b"HTTP/1.1 503 ")
        chunked.close()
        packed = zlib.compress(bytes(2 * MIB))
        assert (await ingress.post(KYB, packed, {"Content-Encoding": "deflate"})).status == 503
        assert (await ingress.post(KYB, b"{}")).status == 200
        assert await _in_flight(ingress, 7 * MIB)
        assert await ingress.metric("kyb_ingress_requests_total", source="kyb", outcome="busy") == 3
        writer.close()
        await wait_until(lambda: _in_flight(ingress, 0), 5, "all is given back")
        small = zlib.compress(bytes(MIB // 2))
        assert (await ingress.post(KYB, small, {"Content-Encoding": "deflate"})).status == 200
        assert await _in_flight(ingress, 0)


async def _in_flight(ingress: Ingress, expected: float) -> bool:
    return await ingress.metric("kyb_ingress_bytes_in_flight") == expected


async def test_a_wrong_token_is_answered_before_the_body_is_sent(ingress: Ingress) -> None:
    """The head alone gets the 404; not a byte of a body without a token is counted or held."""
    async with asyncio.timeout(1):  # the body's own timeout is 5 s
        reader, writer = await asyncio.open_connection(*ingress.address)
        writer.write(head(WRONG, "Content-Length: 1000000"))
        assert (await reader.readline()).startswith(b"HTTP/1.1 404 ")
        writer.close()
    reader, writer = await asyncio.open_connection(*ingress.address)
    writer.write(head(WRONG, "Content-Length: 1000000") + bytes(500_000))
    assert (await reader.readline()).startswith(b"HTTP/1.1 404 ")
    assert await _in_flight(ingress, 0)
    writer.close()


@pytest.mark.parametrize(
    ("request_head", "status", "code", "reason"),
    [
        (head("/" + "a" * (MAX_URL_BYTES - 1)), 404, "not-found", None),
        (head("/" + "a" * MAX_URL_BYTES), 414, "url-too-long", "url_too_long"),
        (head(f"{KYB}?{'a' * MAX_URL_BYTES}"), 414, "url-too-long", "url_too_long"),
        (head("/", "X: " + "a" * MAX_HEADER_BYTES), 404, "not-found", None),
        (head("/", "X: " + "a" * (MAX_HEADER_BYTES + 1)), 431, "headers-too-large", "headers_too_large"),
        (head("/", "a" * (MAX_HEADER_BYTES + 1) + ": x"), 431, "headers-too-large", "headers_too_large"),
        (head("/", *["X: y"] * (MAX_HEADERS - 2)), 404, "not-found", None),
        (head("/", *["X: y"] * (MAX_HEADERS - 1)), 431, "headers-too-large", "headers_too_large"),
        (head("/", "no header"), 400, "bad-http", "bad_http"),
        (head("/", "Content-Length: x"), 400, "bad-http", "bad_http"),
    ],
    ids=["url fits", "url", "query", "header fits", "header", "header name", "headers fit", "headers", "no header", "length"],
)
async def test_heads_are_limited(ingress: Ingress, request_head: bytes, status: int, code: str, reason: str | None) -> None:
    """URL, header and number of headers: 414 and 431 as problem details that end the connection, counted as `unknown`."""
    answer = await ingress.raw(request_head)
    top, _, content = answer.partition(b"\r\n\r\n")
    assert top.split()[1] == str(status).encode()
    assert json.loads(content)["type"] == f"urn:kyb-stream:problem:{code}"
    assert b"aaaa" not in answer
    if reason is not None:
        assert await ingress.metric("kyb_ingress_requests_total", source="unknown", outcome=reason) == 1


async def test_a_head_in_pieces_is_limited_as_well(ingress: Ingress) -> None:
    """A URL that comes byte by byte ends like one that comes at once: what is kept of it is bounded."""
    reader, writer = await asyncio.open_connection(*ingress.address)
    writer.write(b"POST /")
    for _ in range(MAX_URL_BYTES // 64 + 1):
        writer.write(b"a" * 64)
        await writer.drain()
    assert (await reader.readline()).split()[1] == b"414"
    writer.close()


def _sources() -> Sources:
    return Sources(settings_for("localhost:9092", "x.", [source(), kyc_source()]))


NOT_FOUND = {
    "wrong token": ("kyb", "x" * 34),
    "another source's token": ("kyb", KYC_TOKEN),
    "unknown source": ("nobody", KYB_TOKEN),
    "unknown source, empty token": ("nobody", ""),
    "wrong token of another length": ("kyc", "x"),
}


def test_wrong_token_and_unknown_source_do_the_same_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each takes one hash of the token and one constant-time comparison of two digests, like the right token."""
    sources = _sources()
    work: list[tuple[str, int, int]] = []

    def sha256(data: bytes) -> hashlib._Hash:
        work.append(("hash", len(data), 0))
        return hashlib.new("sha256", data)

    def compare_digest(left: bytes, right: bytes) -> bool:
        work.append(("compare", len(left), len(right)))
        return hmac.compare_digest(left, right)

    class Hashing:
        pass

    class Comparing:
        pass

    hashing, comparing = Hashing(), Comparing()
    hashing.sha256 = sha256  # type: ignore[attr-defined]
    comparing.compare_digest = compare_digest  # type: ignore[attr-defined]
    monkeypatch.setattr("ingress.sources.hashlib", hashing)
    monkeypatch.setattr("ingress.sources.hmac", comparing)
    for what, (name, token) in {**NOT_FOUND, "right": ("kyb", KYB_TOKEN)}.items():
        work.clear()
        found = sources.find(name, token)
        assert isinstance(found, Source) == (what == "right")
        assert sorted(work) == [("compare", 32, 32), ("hash", len(token), 0)], what


def test_wrong_token_and_unknown_source_take_the_same_time() -> None:
    """Coarsely: the medians of many interleaved calls are within a factor; a call that skipped the work would not be."""
    sources = _sources()
    token = "x" * 4000  # long, so that work that is left out shows
    calls: dict[str, Callable[[], object]] = {
        "wrong": lambda: sources.find("kyb", token),
        "unknown": lambda: sources.find("nobody", token),
    }
    times: dict[str, list[int]] = {name: [] for name in calls}
    for _ in range(3000):
        for name, call in calls.items():
            started = perf_counter_ns()
            call()
            times[name].append(perf_counter_ns() - started)
    ratio = statistics.median(times["wrong"]) / statistics.median(times["unknown"])
    assert 0.6 < ratio < 1.7

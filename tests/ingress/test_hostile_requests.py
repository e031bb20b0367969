"""Whatever is sent, the answer is one of the contract's: found by Hypothesis over raw bytes, not over a polite client."""

from __future__ import annotations

import asyncio
import gzip
import re
import socket
import threading
import uuid
import zlib
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingress.heads import MAX_HEADER_BYTES, MAX_HEADERS, MAX_URL_BYTES
from ingress.server import serve
from tests.ingress.harness import KYB_TOKEN, KYC_TOKEN, make_topics, settings_for, source

BODY_CAP = 2000
PATHS = [
    f"/webhooks/kyb/{KYB_TOKEN}",
    f"/webhooks/kyb/{KYB_TOKEN}/",
    f"/webhooks/signed/{KYC_TOKEN}",
    "/webhooks/",
    "/readyz",
    "/metrics",
    "http://host/webhooks/kyb/x",
    "*",
]
HEADERS = [
    b"Content-Encoding",
    b"Content-Type",
    b"traceparent",
    b"ach-access-timestamp",
    b"ach-access-sign",
    b"Expect",
    b"Connection",
    b"Host",
    b"Content-Length",
    b"Transfer-Encoding",
    b"Upgrade",
    b"X-\xc3\xa9",
]
VALUES = [b"gzip", b"deflate", b"100-continue", b"chunked", b"1767323045000", b"", b"0", b"99999999", b"websocket", b"-1"]
ALLOWED = {200, 400, 401, 404, 405, 408, 413}
"""Not 503: Kafka is there. Not 500: never."""


@pytest.fixture(scope="module")
def address(noida_broker: str) -> Iterator[tuple[str, int]]:
    """Where an ingress listens that runs in a thread of its own, so that Hypothesis can call it from plain functions."""
    signature = {"scheme": "alchemy-sorted", "secrets": ["s" * 16]}
    sources = [source(max_body_bytes=BODY_CAP), source("signed", token=KYC_TOKEN, signature=signature)]
    configuration = settings_for(noida_broker, f"test-{uuid.uuid4().hex[:12]}.", sources, body_timeout_seconds=0.05)
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()
    listening: list[str] = []
    ready = threading.Event()

    def note(url: str) -> None:
        listening.append(url)
        ready.set()

    async def run() -> None:
        await make_topics(configuration.kafka)
        await serve(configuration, stop=stop, ready=note)

    thread = threading.Thread(target=lambda: loop.run_until_complete(run()))
    thread.start()
    assert ready.wait(20)
    host, _, port = listening[0].removeprefix("http://").partition(":")
    try:
        yield host, int(port)
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(30)
        loop.close()


def status_of(address: tuple[str, int], request: bytes) -> int:
    """The status of the first final answer to the bytes; 0 when the connection ends without one."""
    with socket.create_connection(address, timeout=5) as connection:
        connection.sendall(request)
        answer = b""
        while part := connection.recv(65536):
            answer += part
            found = [int(status) for status in re.findall(rb"HTTP/1\.[01] (\d{3}) ", answer)]
            finals = [status for status in found if status != 100]
            if finals:
                return finals[0]
    return 0


Header = tuple[bytes, bytes]
Request = tuple[str, str, bytes, list[Header], bytes]


@settings(max_examples=150, deadline=None)
@given(
    st.tuples(
        st.sampled_from(["POST", "POST", "POST", "GET", "HEAD", "PUT", "BREW"]),
        st.sampled_from(PATHS),
        st.binary(max_size=20).map(lambda raw: re.sub(rb"[\x00-\x20\x7f]", b"%", raw)),
        st.lists(
            st.tuples(
                st.sampled_from(HEADERS),
                st.sampled_from(VALUES) | st.binary(max_size=30).map(lambda raw: re.sub(rb"[\r\n\x00]", b"", raw)),
            ),
            max_size=4,
        ),
        st.binary(max_size=BODY_CAP + 200) | st.sampled_from([b'{"service_id":"x"}', b"{" * 1000, b"\x1f\x8b\x08\x00"]),
    )
)
def test_any_request_gets_an_answer_of_the_contract(address: tuple[str, int], sent: Request) -> None:
    """Any method, path, header and body: a status of the contract, never a 5xx."""
    method, path, suffix, headers, body = sent
    framed = any(name in {b"Content-Length", b"Transfer-Encoding"} for name, _ in headers)
    lines = [f"{method} {path}".encode() + suffix + b" HTTP/1.1", b"Host: x", b"Connection: close"]
    lines += [name + b": " + value for name, value in headers]
    if not framed:
        lines.append(b"Content-Length: %d" % len(body))
    status = status_of(address, b"\r\n".join(lines) + b"\r\n\r\n" + body)
    assert status in ALLOWED


@settings(max_examples=60, deadline=None)
@given(st.binary(min_size=1, max_size=300))
def test_bytes_that_are_not_http_are_400(address: tuple[str, int], noise: bytes) -> None:
    """Noise is 400, or the connection ends; the server goes on."""
    assert status_of(address, b"X" + noise + b"\r\n\r\n") in {0, 400}
    request = b"POST %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}" % PATHS[0].encode()
    assert status_of(address, request) == 200


def post(*headers: bytes, path: str = PATHS[0]) -> bytes:
    """The head of a webhook to the source without a signature."""
    return b"\r\n".join([b"POST %s HTTP/1.1" % path.encode(), b"Host: x", b"Connection: close", *headers, b"", b""])


SIZES = st.sampled_from([b"%x", b"%X", b"0%x", b"%x;a=b", b"%x;" + b"e" * 300])
CHUNKS = st.lists(st.tuples(SIZES, st.binary(min_size=1, max_size=900)), max_size=6)
NOISE = st.sampled_from([b"", b"\r\n", b"zz", b"\x00", b"-1\r\n", b"f" * 17, b"0\r\n"])
CORRUPTIONS = st.none() | st.tuples(st.floats(0, 1), NOISE)


@settings(max_examples=100, deadline=None)
@given(CHUNKS, CORRUPTIONS, st.sampled_from([b"\r\n", b"X-Trailer: y\r\n\r\n", b""]))
def test_any_chunking_gets_an_answer(
    address: tuple[str, int], chunks: list[tuple[bytes, bytes]], corruption: tuple[float, bytes] | None, end: bytes
) -> None:
    """Chunks of any size, with extensions and trailers: 200 up to the cap; broken or unfinished ones are 400, 408 or 413."""
    body = b"".join(size % len(data) + b"\r\n" + data + b"\r\n" for size, data in chunks) + b"0\r\n"
    whole = sum(len(data) for _, data in chunks)
    if corruption is not None:
        position = int(corruption[0] * len(body))
        body = body[:position] + corruption[1] + body[position + 1 :]
    status = status_of(address, post(b"Transfer-Encoding: chunked") + body + end)
    assert status in {200, 400, 408, 413}
    if corruption is None and end:
        assert status == (200 if whole <= BODY_CAP else 413)


@settings(max_examples=60, deadline=None)
@given(
    st.binary(max_size=BODY_CAP + 50) | st.integers(0, 4_000_000).map(bytes),
    st.sampled_from(["gzip", "deflate", "raw deflate", "twice"]),
    st.integers(0, 3),
    st.floats(0, 1),
)
def test_any_packed_body_gets_an_answer(address: tuple[str, int], body: bytes, kind: str, damage: int, where: float) -> None:
    """Whole, damaged, cut off or a bomb: 200, or 413 when what it becomes is beyond the cap; never more."""
    raw = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    packed = {
        "gzip": gzip.compress(body),
        "deflate": zlib.compress(body),
        "raw deflate": raw.compress(body) + raw.flush(),
        "twice": gzip.compress(gzip.compress(body)),
    }[kind]
    for _ in range(damage):
        position = int(where * len(packed))
        packed = packed[:position] + packed[position + 1 :]
    encoding = b"deflate" if "deflate" in kind else b"gzip"
    status = status_of(address, post(b"Content-Encoding: " + encoding, b"Content-Length: %d" % len(packed)) + packed)
    assert status in {200, 413}
    if not damage and kind != "twice" and len(packed) <= BODY_CAP:
        assert status == (200 if len(body) <= BODY_CAP else 413)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 2 * MAX_URL_BYTES),
    st.lists(st.integers(0, MAX_HEADER_BYTES + 500), max_size=6),
    st.integers(0, 2 * MAX_HEADERS),
)
def test_any_head_gets_an_answer(address: tuple[str, int], url_size: int, sizes: list[int], count: int) -> None:
    """URLs, headers and numbers of headers within the limits are 200; beyond them 414 or 431."""
    query = "?" + "q" * url_size if url_size else ""
    headers = [b"X-Long: " + b"v" * size for size in sizes] + [b"X-Many: v"] * count + [b"Content-Length: 2"]
    status = status_of(address, post(*headers, path=PATHS[0] + query) + b"{}")
    if len(PATHS[0] + query) > MAX_URL_BYTES:
        assert status == 414
    elif max(sizes, default=0) > MAX_HEADER_BYTES or len(headers) + 2 > MAX_HEADERS:
        assert status == 431
    else:
        assert status == 200

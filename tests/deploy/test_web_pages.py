"""What a web page can send to the embedded broker: an HTTP request, which is no frame of Kafka's protocol."""

from __future__ import annotations

import asyncio

import pytest

from deploy.embedded.readiness import kafka_answers


@pytest.mark.parametrize("method", [b"GET", b"POST", b"OPTIONS"])
async def test_the_broker_hangs_up_on_http(noida_broker: str, method: bytes) -> None:
    """The beginning of a request reads as a length of more than a gigabyte: nothing is waited for, kept or answered."""
    host, _, port = noida_broker.partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    head = b"%s / HTTP/1.1\r\nHost: %s\r\nContent-Type: text/plain\r\nContent-Length: 2000000000\r\n\r\n"
    writer.write(head % (method, noida_broker.encode()))
    try:
        async with asyncio.timeout(20):
            answer = await reader.read()
    except ConnectionResetError:
        answer = b""
    writer.close()
    assert answer == b""
    assert await kafka_answers(noida_broker)

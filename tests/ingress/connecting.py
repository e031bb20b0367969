"""Connections to an ingress, byte by byte, for tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.ingress.harness import (
    KYB_TOKEN,
    Ingress,
)

KYB = f"/webhooks/kyb/{KYB_TOKEN}"
WEBHOOK = f"POST {KYB} HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{{}}".encode()
HELD = f"POST {KYB} HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{{".encode()


@asynccontextmanager
async def connected(ingress: Ingress, *first: bytes) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection on which these pieces were sent, each by itself."""
    reader, writer = await asyncio.open_connection(*ingress.address)
    try:
        for piece in first:
            writer.write(piece)
            await writer.drain()
        yield reader, writer
    finally:
        writer.close()


async def statuses(reader: asyncio.StreamReader) -> list[int]:
    """The statuses of all answers until the server closes."""
    async with asyncio.timeout(10):
        return [int(part.split()[1]) for part in (await reader.read()).split(b"HTTP/")[1:]]

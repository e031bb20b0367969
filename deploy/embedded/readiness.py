"""Probes that say whether a server answers: each returns within `PROBE_SECONDS`, and never raises for "not yet"."""

from __future__ import annotations

import asyncio

import aiohttp
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

PROBE_SECONDS = 2.0


async def accepts_connections(host: str, port: int) -> bool:
    """Whether somebody listens on the TCP port."""
    try:
        async with asyncio.timeout(PROBE_SECONDS):
            _, writer = await asyncio.open_connection(host, port)
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True


async def http_ok(url: str) -> bool:
    """Whether a GET of the URL answers 2xx."""
    timeout = aiohttp.ClientTimeout(total=PROBE_SECONDS)
    try:
        async with aiohttp.ClientSession(timeout=timeout) as session, session.get(url) as response:
            return response.ok
    except (aiohttp.ClientError, OSError, TimeoutError):
        return False


async def kafka_answers(bootstrap_servers: str) -> bool:
    """Whether a broker at `host:port` answers for its cluster and knows a controller, so that topics can be made."""
    host, _, port = bootstrap_servers.rpartition(":")
    if not await accepts_connections(host, int(port)):  # asked first: aiokafka logs an error when nobody listens
        return False
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers, request_timeout_ms=int(PROBE_SECONDS * 1000))
    try:
        async with asyncio.timeout(PROBE_SECONDS):
            await admin.start()
            cluster = await admin.describe_cluster()
        return bool(cluster["brokers"]) and cluster["controller_id"] >= 0
    except (KafkaError, OSError, TimeoutError):
        return False
    finally:
        await admin.close()

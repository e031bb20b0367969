"""Reading a request's body, under a cap while it is read."""

from __future__ import annotations

import asyncio

from aiohttp import StreamReader

from ingress.shares import Share
from schemas.providers.codings import TooLargeError


class SlowBodyError(Exception):
    """The body did not arrive in time."""


async def read_body(content: StreamReader, *, max_bytes: int, timeout_seconds: float, in_flight: Share) -> bytes:
    """The body as sent. The caller takes its size from `in_flight` again; after an error nothing is left there.

    Raises:
        TooLargeError: It has more than `max_bytes`; at most one network read beyond is held.
        SlowBodyError: It took longer than `timeout_seconds`.
        BusyError: The requests under way hold too much; what had been read of this one is given back.
    """
    # Most bodies arrive with their head: no timer, no waiting.
    first = content.read_nowait()
    if len(first) > max_bytes:
        raise TooLargeError
    if content.at_eof():
        in_flight.add(len(first))
        return first
    chunks = [first]
    size = len(first)
    in_flight.add(size)
    complete = False
    try:
        async with asyncio.timeout(timeout_seconds):
            while not content.at_eof():
                chunk = await content.readany()
                in_flight.add(len(chunk))
                chunks.append(chunk)
                size += len(chunk)
                if size > max_bytes:
                    raise TooLargeError
        complete = True
    except TimeoutError:
        raise SlowBodyError from None
    finally:
        if not complete:
            in_flight.add(-size)
    return b"".join(chunks)

"""Heads of requests, URL and headers: their bounds, and the answer to what exceeds them or is no HTTP."""

from __future__ import annotations

from typing import Any

from aiohttp.http_exceptions import HttpProcessingError, LineTooLong

from ingress import problems
from ingress.problems import Problem

MAX_URL_BYTES = 4096
"""A longer one gets 414. Ours have less than 500; what a sender appends as a query is its own."""

MAX_HEADER_BYTES = 8190
"""Of the name of a header, and of its value; beyond it 431."""

MAX_HEADERS = 100
"""Headers of one request; beyond it 431."""

MAX_HEAD_BYTES = 32 * 1024
"""Of URL and headers together; beyond it 431. It is what a connection can cost before anybody has looked at its request."""

_TOO_MANY_HEADERS = "Too many headers received"
"""What aiohttp's parser says; without a class of its own. A test pins it; were it reworded, the answer would be a 400."""


class SlowHeadError(HttpProcessingError):
    """The request's head was not complete in time."""


class HeadTooLargeError(HttpProcessingError):
    """The request's head has more than MAX_HEAD_BYTES."""


def head_bytes(message: Any) -> int:
    """How much of the head the parser has kept."""
    return len(message.path) + sum(len(name) + len(value) + 4 for name, value in message.raw_headers)


def refusal(error: BaseException | None) -> tuple[str, Problem]:
    """The reason to count, and the answer."""
    if isinstance(error, SlowHeadError):
        return "slow_head", problems.SLOW_HEAD
    if isinstance(error, HeadTooLargeError):
        return "headers_too_large", problems.HEADERS_TOO_LARGE
    if isinstance(error, LineTooLong):
        # The parser tells the two apart by their limit alone.
        _, limit, *_ = error.args
        if limit == MAX_URL_BYTES:
            return "url_too_long", problems.URL_TOO_LONG
        return "headers_too_large", problems.HEADERS_TOO_LARGE
    if error is not None and error.args == (_TOO_MANY_HEADERS,):
        return "headers_too_large", problems.HEADERS_TOO_LARGE
    return "bad_http", problems.BAD_HTTP

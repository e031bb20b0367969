"""Sending again what Kafka or ClickHouse does not take now, until it does."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Literal

import structlog
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, wait_random_exponential

from kybstream.errors import KybStreamError
from sinks.errors import NotNowError
from sinks.metrics import SinkMetrics

_FIRST_SECONDS = 0.1
_MOST_SECONDS = 5.0

Service = Literal["kafka", "clickhouse"]

_log = structlog.get_logger(__name__)


class Retrying:
    """Tries again for as long as it takes.

    Attributes:
        at_rest: How many wait for their next attempt now.
        delayed: How many have failed and not yet succeeded, by service.
    """

    def __init__(self, metrics: SinkMetrics) -> None:
        self._metrics = metrics
        self.at_rest = 0
        self.delayed: Counter[Service] = Counter()

    async def until_it_works(self, attempt: Callable[[], Awaitable[None]], service: Service, event: str, **fields: str) -> None:
        """Tries again while the error is retriable, after at most 5 s, and says so as part of an outage of the service.

        Args:
            attempt: What is tried.
            service: Whose outage it is when it fails.
            event: What is logged after each failure.
            fields: More of it.
        """
        failed = 0

        def say(state: RetryCallState) -> None:
            nonlocal failed
            self.delayed[service] += not failed
            failed = 1
            error = state.outcome.exception() if state.outcome else None
            cause = error.cause if isinstance(error, NotNowError) else "KAFKA"
            self._metrics.retries.labels(cause).inc()
            hint, message = getattr(error, "hint", None), getattr(error, "message", "")
            _log.warning(event, error=message, hint=hint, attempt=state.attempt_number, outage=service, **fields)

        try:
            async for trial in AsyncRetrying(
                retry=retry_if_exception(lambda error: isinstance(error, KybStreamError) and error.retriable),
                wait=wait_random_exponential(multiplier=_FIRST_SECONDS, max=_MOST_SECONDS),
                before_sleep=say,
                sleep=self._rest,
                reraise=True,
            ):
                with trial:
                    await attempt()
        finally:
            self.delayed[service] -= failed

    async def _rest(self, seconds: float) -> None:
        self.at_rest += 1
        try:
            await asyncio.sleep(seconds)
        finally:
            self.at_rest -= 1

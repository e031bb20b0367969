"""Playing a plan over HTTP as the providers would: at its times, again until a 200, in order within a case."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from urllib.parse import urlsplit

import aiohttp
import structlog

from kybstream.errors import KybStreamError, UsageError
from kybstream.simulator.planned import Plan, PlannedDelivery, PlannedLink
from kybstream.simulator.reachability import Reachability
from kybstream.simulator.resending import Resending
from kybstream.simulator.target import Progress, ProgressCallback, SentDelivery, Target

log = structlog.get_logger(__name__)

CONCURRENCY = 32
"""Requests under way at once."""

PATIENCE_SECONDS = 30.0
ANSWER_SECONDS = 15.0
"""How long one answer may take before the attempt counts as failed."""

_BACKLOG = 4096
"""Steps that may be due and not done; beyond it the dispatcher waits, so that memory does not grow with the plan."""

Step = PlannedDelivery | PlannedLink


async def play(
    plan: Plan,
    target: Target,
    *,
    progress: ProgressCallback | None = None,
    rate: float | None = None,
    concurrency: int = CONCURRENCY,
    patience_seconds: float = PATIENCE_SECONDS,
) -> list[SentDelivery]:
    """Sends everything planned, and registers the planned links, each at its time.

    The steps of a case wait for one another: the next is sent when the one before is accepted or given up, so that the order
    the plan's expectations rest on holds through refusals, too. Different cases do not wait for one another.

    Args:
        plan: What to send.
        target: Where to.
        progress: Called after each step.
        rate: Steps per second in the planned order, without regard to their times; `math.inf` for as fast as possible. None
            keeps the planned times.
        concurrency: Requests under way at once.
        patience_seconds: How long the receiver may refuse or be out of reach before a delivery is given up (or, out of reach,
            the run fails).

    Returns:
        Every attempt, in the order in which they ended. A delivery that was given up has no accepted attempt.

    Raises:
        UsageError: The plan has links and the target cannot register any, or a number makes no sense.
        UnavailableError: The receiver cannot be reached.
        RunError: The receiver refuses a source from the start (wrong token, wrong secret).
    """
    if plan.links and target.register_link is None:
        raise UsageError("the plan registers links, and the target does not say how", hint="Plan with registered_links=False.")
    if concurrency < 1 or patience_seconds <= 0 or (rate is not None and not rate > 0):
        raise UsageError("rate, concurrency and patience must be greater than 0")
    timeout = aiohttp.ClientTimeout(total=ANSWER_SECONDS)
    connector = aiohttp.TCPConnector(limit=concurrency)
    headers = {"User-Agent": "kyb-stream-simulator"}
    async with aiohttp.ClientSession(connector=connector, timeout=timeout, headers=headers) as session:
        player = _Player(plan, target, session, concurrency=concurrency, patience_seconds=patience_seconds, progress=progress)
        try:
            await player.run(rate)
        except ExceptionGroup as group:
            raise _first_error(group) from None
    return player.sent


def _first_error(group: ExceptionGroup[Exception]) -> Exception:
    # All lanes fail for the same reason at about the same time: one sentence tells it.
    ours, _ = group.split(KybStreamError)
    error = (ours or group).exceptions[0]
    return _first_error(error) if isinstance(error, ExceptionGroup) else error


class _Player:
    """One run."""

    def __init__(
        self,
        plan: Plan,
        target: Target,
        session: aiohttp.ClientSession,
        *,
        concurrency: int,
        patience_seconds: float,
        progress: ProgressCallback | None,
    ) -> None:
        self.sent: list[SentDelivery] = []
        self._steps = plan.steps()
        self._target = target
        self._session = session
        self._progress = progress
        self._resending = Resending(scale_seconds_per_day=plan.scale_seconds_per_day, patience_seconds=patience_seconds)
        self._reachability = Reachability(target, patience_seconds)
        self._lanes: dict[str, deque[Step]] = {}
        self._requests = asyncio.Semaphore(concurrency)
        self._backlog = asyncio.Semaphore(_BACKLOG)
        self._done = 0
        self._refused = 0
        self._clock = asyncio.get_running_loop().time
        self._started_at = self._clock()

    async def run(self, rate: float | None) -> None:
        """Starts each step when it is due and returns when all are done."""
        async with asyncio.TaskGroup() as lanes:
            for index, step in enumerate(self._steps):
                due = step.at if rate is None else 0.0 if math.isinf(rate) else index / rate
                if (early := due - self._now()) > 0:
                    await asyncio.sleep(early)
                await self._backlog.acquire()
                if (waiting := self._lanes.get(step.case)) is not None:
                    waiting.append(step)
                    continue
                self._lanes[step.case] = deque([step])
                lanes.create_task(self._run_lane(step.case))

    def _now(self) -> float:
        return self._clock() - self._started_at

    async def _run_lane(self, case: str) -> None:
        waiting = self._lanes[case]
        while waiting:
            step = waiting.popleft()
            if isinstance(step, PlannedDelivery):
                await self._deliver(step)
            elif self._target.register_link is not None:
                await self._target.register_link(step)
            self._done += 1
            self._backlog.release()
            if self._progress is not None:
                self._progress(
                    Progress(done=self._done, total=len(self._steps), attempts=len(self.sent), refused=self._refused)
                )
        # No await since the lane was found empty: nothing can have been added.
        del self._lanes[case]

    async def _deliver(self, delivery: PlannedDelivery) -> None:
        first_at = self._now()
        attempt = 1
        while not await self._attempt(delivery, attempt):
            wait = self._resending.gap(delivery.source_kind, attempt)
            if self._now() + wait - first_at > self._resending.give_up_after:
                log.warning("delivery_given_up", label=delivery.label, attempts=attempt)
                return
            await asyncio.sleep(wait)
            attempt += 1

    async def _attempt(self, delivery: PlannedDelivery, attempt: int) -> bool:
        async with self._requests:
            sent = await self._post(delivery, attempt)
        self.sent.append(sent)
        self._refused += not sent.accepted
        if sent.status is None:
            self._reachability.unanswered(delivery.source_kind, self._now())
        else:
            self._reachability.answered(delivery.source_kind, sent.status, self._now())
        return sent.accepted

    async def _post(self, delivery: PlannedDelivery, attempt: int) -> SentDelivery:
        url = self._target.url(delivery)
        headers = dict(delivery.headers)
        if self._target.sign is not None:
            headers |= self._target.sign(delivery, urlsplit(url).path)
        sent_at = self._now()
        try:
            async with self._session.post(url, data=delivery.body, headers=headers, allow_redirects=False) as answer:
                await answer.read()
                return SentDelivery(
                    planned=delivery,
                    attempt=attempt,
                    sent_at=sent_at,
                    status=answer.status,
                    delivery_id=answer.headers.get("X-Delivery-Id"),
                )
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            # The text of these errors may hold the URL with its token; their kind says enough.
            return SentDelivery(planned=delivery, attempt=attempt, sent_at=sent_at, status=None, error=type(error).__name__)

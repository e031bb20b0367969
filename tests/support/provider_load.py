"""A program that sends webhooks as fast as it can and, like a provider, sends again what was not answered with 200.

`python -m tests.support.provider_load` reads a LoadPlan as one line of JSON. It says on standard output how far it is, and when
SIGTERM ends it, each body that was begun has its 200 and every request is in a file. A process of its own, so that it does not
share an event loop with the test that breaks things meanwhile; `tests.support.load_process` runs it.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import signal
import sys
from collections.abc import Callable
from itertools import count
from pathlib import Path
from time import monotonic
from typing import cast

import msgspec
import uvloop

SIGNATURE_HEADER = "X-Signature"
NOT_SENT = "not sent"
"""The error of a request for which there was no connection: the other side cannot have stored anything."""

_ANSWER_SECONDS = 10.0
_PROGRESS_SECONDS = 0.02
_FIRST_PAUSE_SECONDS = 0.01
_LONGEST_PAUSE_SECONDS = 0.1
_OK, _SERVER_ERROR = 200, 500
_STATUS = slice(9, 12)
_END = b"\r\n\r\n"
_TEMPLATE = (
    '{"kyb_backoffice_id":"kyb-%s","service_id":"case-%s-%d","questionnaire_request_id":"%s","type":"service_initiated",'
    '"status":"pending","kyb_request_from":"backoffice","services":["questionnaire","kyb_check","document_base_kyb"],'
    '"kyb_request_id":"%s","documents":["%s","%s"],'
    '"link":"https://backoffice.thekyb.com/cases-detail?company_id=%s&service_id=case-%s-%d"}'
)


class LoadPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What is sent where.

    Attributes:
        host: Of the ingress.
        port: Of the ingress.
        path: Of the source.
        secret: Signs each body (scheme `hmac`, SHA-256 as hex).
        run: Part of every body, so that two loads never send the same.
        connections: Each has one request under way at a time.
        rate: Bodies a second that are begun at most, on average since the start; what an outage kept back is made up for.
        results: Where every request is noted when the load ends.
    """

    host: str
    port: int
    path: str
    secret: str
    run: str
    connections: int
    rate: float
    results: str


class Attempt(msgspec.Struct, frozen=True, array_like=True):
    """One request.

    Attributes:
        number: Of the body.
        at: When it was sent, by the machine's monotonic clock.
        seconds: Until its answer, or until there could be none.
        status: Of the answer; 0 without one.
        delivery_id: What the answer claims to have stored; empty where it claims nothing.
        error: Why there was no answer.
    """

    number: int
    at: float
    seconds: float
    status: int
    delivery_id: str = ""
    error: str = ""


def body_of(run: str, number: int) -> bytes:
    """The body of that number: some 600 bytes, a service of its own, always the same."""
    noise = hashlib.shake_128(f"{run}/{number}".encode()).hexdigest(120)
    parts = (noise[:16], run, number, noise[16:40], noise[40:64], noise[64:128], noise[128:216], noise[216:], run, number)
    return (_TEMPLATE % parts).encode()


def number_of(run: str, service_id: str) -> int:
    """Which body names that service."""
    return int(service_id.removeprefix(f"case-{run}-"))


class _Connection(asyncio.Protocol):
    """One request at a time, on a connection that is kept."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._received = b""
        self._answer: asyncio.Future[tuple[int, str]] | None = None

    @property
    def open(self) -> bool:
        """Whether the next request can take it."""
        return self._transport is not None and not self._transport.is_closing()

    async def ask(self, request: bytes) -> tuple[int, str]:
        """The answer's status and delivery id.

        Raises:
            ConnectionError: It was lost.
            TimeoutError: No answer came.
        """
        assert self._transport is not None
        loop = asyncio.get_running_loop()
        self._answer = loop.create_future()
        late = loop.call_later(_ANSWER_SECONDS, self._fail, TimeoutError("no answer"))
        self._transport.write(request)
        try:
            return await self._answer
        finally:
            late.cancel()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It is there."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's own class is of no kin

    def data_received(self, data: bytes) -> None:
        """An answer, or a part of one."""
        self._received += data
        head, end, body = self._received.partition(_END)
        if not end:
            return
        fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
        if len(body) < int(fields[b"content-length"]):
            return
        self._received = b""
        if fields.get(b"connection") == b"close":
            self.close()
        if self._answer is not None and not self._answer.done():
            self._answer.set_result((int(head[_STATUS]), fields.get(b"x-delivery-id", b"").decode()))

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone, and with it the answer."""
        self._transport = None
        self._fail(ConnectionError(type(exc).__name__ if exc else "closed"))

    def close(self) -> None:
        """Closes it."""
        if self._transport is not None:
            self._transport.close()

    def _fail(self, error: Exception) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error)
        self.close()


class _Load:
    """All connections, and what became of their requests."""

    def __init__(self, plan: LoadPlan) -> None:
        self.attempts: list[Attempt] = []
        self.acknowledged = 0
        self.stopped = asyncio.Event()
        self._plan = plan
        self._numbers = count()
        head = f"POST {plan.path} HTTP/1.1\r\nHost: {plan.host}\r\nContent-Type: application/json\r\n{SIGNATURE_HEADER}: "
        self._head = head.encode()

    async def run(self) -> None:
        """Sends until it is stopped, and then until what was begun is acknowledged."""
        await asyncio.gather(*(self._one_after_the_other() for _ in range(self._plan.connections)))

    async def _one_after_the_other(self) -> None:
        connection = _Connection()
        began = monotonic()
        while not self.stopped.is_set():
            number = next(self._numbers)
            early = began + number / self._plan.rate - monotonic()
            if early > 0:
                await asyncio.sleep(early)
            request = self._request(body_of(self._plan.run, number))
            pause = _FIRST_PAUSE_SECONDS
            while True:
                at = monotonic()
                try:
                    connection = await self._connected(connection)
                    status, delivery_id = await connection.ask(request)
                except (OSError, TimeoutError) as error:
                    # A connection that never opened has not carried anything.
                    reason = NOT_SENT if isinstance(error, ConnectionRefusedError) else type(error).__name__
                    self.attempts.append(Attempt(number, at, monotonic() - at, 0, error=reason))
                else:
                    self.attempts.append(Attempt(number, at, monotonic() - at, status, delivery_id))
                    self.acknowledged += status == _OK
                    if status < _SERVER_ERROR:
                        break
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
        connection.close()

    async def _connected(self, connection: _Connection) -> _Connection:
        if connection.open:
            return connection
        _, connection = await asyncio.get_running_loop().create_connection(_Connection, self._plan.host, self._plan.port)
        return connection

    def _request(self, body: bytes) -> bytes:
        signature = hmac.digest(self._plan.secret.encode(), body, "sha256").hex()
        return self._head + f"{signature}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


async def _main(plan: LoadPlan, say: Callable[[str], object]) -> None:
    load = _Load(plan)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, load.stopped.set)

    async def tell() -> None:
        while True:
            say(f"{load.acknowledged} {len(load.attempts) - load.acknowledged}\n")
            await asyncio.sleep(_PROGRESS_SECONDS)

    telling = asyncio.create_task(tell())
    await load.run()
    telling.cancel()
    await asyncio.to_thread(Path(plan.results).write_bytes, msgspec.msgpack.encode(load.attempts))


def _say(line: str) -> None:
    sys.stdout.write(line)
    sys.stdout.flush()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as _runner:
        _runner.run(_main(msgspec.json.decode(sys.stdin.readline(), type=LoadPlan), _say))

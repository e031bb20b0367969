"""`kyb-stream ingress` as processes, and a look at them from outside."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.embedded.ports import free_port, require_free_port
from kybstream.errors import RunError
from kybstream.settings import render_toml
from tests.ingress.harness import KYB_TOKEN, source
from tests.support.waiting import wait_until

START_SECONDS = 40
"""A deadline only: on a busy machine each process takes seconds."""


def write_config(
    path: Path,
    *,
    bootstrap: str = "127.0.0.1:1",
    prefix: str = "kyb.",
    token: str = KYB_TOKEN,
    needs_key: bool = False,
    **ingress: Any,
) -> None:
    """A configuration with one source; without Kafka, if none is named."""
    values = {
        "kafka": {"bootstrap_servers": bootstrap, "topic_prefix": prefix},
        "ingress": {"port": 0, "shutdown_seconds": 5, "body_timeout_seconds": 20} | ingress,
        "encryption": {"required": needs_key},
        "tenants": [{"name": "acme", "pseudonym_key": "k" * 32, "case_token_keys": ["c" * 32]}],
        "sources": [source(token=token)],
    }
    path.write_text(render_toml(values), encoding="utf-8")


def free_ports(count: int) -> int:
    """The first of some ports, one after the other, that nobody has."""
    while True:
        first = free_port()
        with suppress(RunError):
            for number in range(1, count):
                require_free_port("127.0.0.1", first + number, "a test")
            return first


@dataclass
class IngressProcess:
    """One that was started, with its workers if it has any."""

    process: asyncio.subprocess.Process
    log: Path
    ready: Path

    def events(self, name: str) -> list[dict[str, Any]]:
        """What it has logged under this name."""
        lines = (line for line in self.log.read_text(encoding="utf-8").splitlines() if line.startswith("{"))
        return [event for event in map(json.loads, lines) if event["event"] == name]

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.events("ingress_listening")[0]["port"])

    @property
    def workers(self) -> set[int]:
        """The process ids of its workers."""
        with suppress(FileNotFoundError):
            children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text(encoding="ascii")
            return {int(each) for each in children.split()}
        return set()

    async def wait_ready(self) -> None:
        """Returns when it listens."""
        await wait_until(
            lambda: self.ready.exists() or self.process.returncode is not None, START_SECONDS, "the ingress listens"
        )
        assert self.process.returncode is None, self.log.read_text(encoding="utf-8")

    async def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Signals it and waits for its end; its exit code."""
        workers = self.workers
        self.process.send_signal(number)
        async with asyncio.timeout(START_SECONDS):
            code = await self.process.wait()
        await wait_until(lambda: not any(map(is_alive, workers)), START_SECONDS, "its workers have ended")
        return code


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that nobody has waited for yet does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@asynccontextmanager
async def ingress_process(
    config: Path, *arguments: str, name: str = "ingress", descriptors: int | None = None
) -> AsyncIterator[IngressProcess]:
    """`kyb-stream ingress`, started, with a limit of descriptors if one is given; ended at the end if it has not."""
    log, ready = config.with_name(f"{name}.log"), config.with_name(f"{name}.ready")
    limited = () if descriptors is None else ("sh", "-c", f'ulimit -n {descriptors} && exec "$@"', "sh")
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *limited,
            *(sys.executable, "-m", "kybstream.cli", "ingress", "--config", str(config), "--ready-file", str(ready)),
            *arguments,
            stdout=output,
            stderr=output,
        )
    started = IngressProcess(process, log, ready)
    try:
        yield started
    finally:
        if process.returncode is None:
            workers = started.workers
            process.kill()
            await process.wait()
            await wait_until(lambda: not any(map(is_alive, workers)), START_SECONDS, "its workers have ended")


@dataclass(frozen=True)
class Response:
    """An answer to a bare request."""

    status: int
    headers: dict[str, str]
    body: bytes


class Client:
    """One connection, without a library that would try again by itself."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def connect(cls, port: int, host: str = "127.0.0.1") -> Client:
        """A connection."""
        return cls(*await asyncio.open_connection(host, port))

    def send(self, method: str, path: str, body: bytes = b"", headers: Sequence[str] = (), *, hold: int = 0) -> bytes:
        """Sends a request but for its last `hold` bytes, which are returned."""
        head = [f"{method} {path} HTTP/1.1", "Host: test", f"Content-Length: {len(body)}", *headers]
        request = "\r\n".join([*head, "", ""]).encode() + body
        self._writer.write(request[: len(request) - hold])
        return request[len(request) - hold :]

    def send_more(self, rest: bytes) -> None:
        """Sends what was held back."""
        self._writer.write(rest)

    async def answer(self) -> Response:
        """The next answer; EOFError or ConnectionError when none comes."""
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
        body = await self._reader.readexactly(int(headers.get("content-length", "0")))
        return Response(int(head[0].split()[1]), headers, body)

    async def request(self, method: str, path: str, body: bytes = b"", headers: Sequence[str] = ()) -> Response:
        """A request and its answer."""
        self.send(method, path, body, headers)
        return await self.answer()

    async def close(self) -> None:
        """Ends the connection."""
        self._writer.close()
        with suppress(OSError):
            await self._writer.wait_closed()


async def ask(port: int, method: str, path: str, body: bytes = b"", host: str = "127.0.0.1") -> Response:
    """One request on a connection of its own."""
    client = await Client.connect(port, host)
    try:
        return await client.request(method, path, body, ["Connection: close"])
    finally:
        await client.close()


def kill(pid: int) -> None:
    """SIGKILL."""
    os.kill(pid, signal.SIGKILL)

"""The servers that are measured: each one or more processes that share a port."""

from __future__ import annotations

import base64
import secrets
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import aiohttp
import psutil

from deploy.embedded.ports import free_port
from deploy.embedded.supervisor import Child, Supervisor

HOST = "127.0.0.1"
TOKEN = secrets.token_urlsafe(24)
SECRET = secrets.token_hex(16)

_SETTINGS = """
[kafka]
bootstrap_servers = "{bootstrap}"
[ingress]
port = {port}
spool_dir = "{spool}"
[encryption]
required = {encrypted}
{keys}
[[tenants]]
name = "acme"
pseudonym_key = "{secret}"
case_token_keys = ["{secret}"]
[[sources]]
name = "kyb"
kind = "kyb-service"
tenant = "acme"
token = "{token}"
signature = {signature}
"""
_KEYS = '[[encryption.keys]]\nid = "bench"\nkey = "{key}"'
_HMAC = '{{ scheme = "hmac", header = "X-Signature", secrets = ["{secret}"] }}'


@dataclass(frozen=True)
class Server:
    """One that is running.

    Attributes:
        url: Where the load goes.
        root: Its first process; its children are its as well.
    """

    url: str
    root: psutil.Process

    def cpu_seconds(self) -> float:
        """CPU time of all its processes up to now, user and system."""
        return sum(_cpu_seconds(each) for each in (self.root, *self.root.children(recursive=True)))


@dataclass(frozen=True)
class Kind:
    """What is measured.

    Attributes:
        name: As in the table.
        letter: Of the list in the module's docstring.
    """

    name: str
    letter: str

    def command(self, folder: Path, port: int, processes: int, bootstrap: str) -> list[str]:
        """The command that starts it; settings are written into the folder."""
        if self.letter.startswith("a"):
            return [sys.executable, "-m", "bench.door.echo", self.letter, str(port), str(processes)]
        authentic = self.letter == "c"
        path = folder / "kyb-stream.toml"
        path.write_text(
            _SETTINGS.format(
                bootstrap=bootstrap,
                port=port,
                spool=folder / "spool",
                encrypted=str(authentic).lower(),
                keys=_KEYS.format(key=base64.b64encode(secrets.token_bytes(32)).decode()) if authentic else "",
                secret=SECRET,
                token=TOKEN,
                signature=_HMAC.format(secret=SECRET) if authentic else '{ scheme = "none" }',
            ),
            encoding="utf-8",
        )
        workers = ["--workers", str(processes)] if processes > 1 else []
        return [sys.executable, "-m", "kybstream.cli", "ingress", "--config", str(path), *workers]


KINDS = (
    Kind("aiohttp, low-level server", "a"),
    Kind("aiohttp, application and router", "a'"),
    Kind("ingress, scheme none, clear", "b"),
    Kind("ingress, HMAC and encryption", "c"),
)


@asynccontextmanager
async def running(kind: Kind, scratch: Path, processes: int, bootstrap: str) -> AsyncIterator[Server]:
    """Starts it, waits until it answers, and ends it afterwards.

    Raises:
        RunError: It does not start.
    """
    folder = scratch / f"{kind.letter.strip(chr(39))}-{processes}-{secrets.token_hex(3)}"
    folder.mkdir()
    port = free_port()
    child = Child(
        name=kind.name,
        argv=kind.command(folder, port, processes, bootstrap),
        ready=partial(_is_ready, f"http://{HOST}:{port}/readyz"),
        log_path=folder / "log",
        ready_seconds=30.0,
    )
    async with Supervisor() as supervisor:
        await supervisor.start(child)
        yield Server(f"http://{HOST}:{port}/webhooks/kyb/{TOKEN}", psutil.Process(supervisor.pids[kind.name]))


async def _is_ready(url: str) -> bool:
    """A bare server sends back the empty body that it was sent; an ingress that only spools says that it is degraded."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=1)) as session:
        try:
            async with session.get(url) as answer:
                return await answer.read() in {b"ready", b""}
        except (aiohttp.ClientError, TimeoutError):
            return False


def _cpu_seconds(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return float(times.user + times.system)

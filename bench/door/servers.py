"""The servers that are measured: each one or more processes that share a port."""

from __future__ import annotations

import base64
import secrets
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError

import psutil

from deploy.embedded.ports import free_port
from kybstream.errors import RunError

HOST = "127.0.0.1"
TOKEN = secrets.token_urlsafe(24)
SECRET = secrets.token_hex(16)
_START_SECONDS = 30.0
_STOP_SECONDS = 20.0

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


@contextmanager
def running(kind: Kind, scratch: Path, processes: int, bootstrap: str) -> Iterator[Server]:
    """Starts it, waits until it answers, and ends it afterwards.

    Raises:
        RunError: It does not start.
    """
    folder = scratch / f"{kind.letter.strip(chr(39))}-{processes}-{secrets.token_hex(3)}"
    folder.mkdir()
    port = free_port()
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(kind.command(folder, port, processes, bootstrap), stdout=log, stderr=log)
        try:
            _wait_ready(process, f"http://{HOST}:{port}/readyz", folder / "log")
            yield Server(f"http://{HOST}:{port}/webhooks/kyb/{TOKEN}", psutil.Process(process.pid))
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait_ready(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(url, timeout=1) as answer:  # noqa: S310 - http, and ours
                if answer.read() in {b"ready", b""}:
                    return
        except (URLError, OSError):
            pass
        if process.poll() is not None:
            break
        time.sleep(0.1)
    raise RunError(f"the server did not start: {log.read_text(errors='replace')[-300:]}")


def _cpu_seconds(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return float(times.user + times.system)

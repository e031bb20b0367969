"""Starts the embedded server as its own process, stops it, kills it, and starts it again on the same folder."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import clickhouse_connect
from clickhouse_connect.driver.client import Client

_MODULE: Final = "deploy.embedded.clickhouse"
_EXIT_SECONDS: Final = 10.0


def command(data_dir: Path, port: int = 0) -> list[str]:
    """The command line of a server."""
    return [sys.executable, "-m", _MODULE, "--data-dir", str(data_dir), "--port", str(port)]


@dataclass
class Server:
    """A running server process; `start` again after `stop` or `kill` uses the same folder."""

    data_dir: Path
    url: str = ""
    process: subprocess.Popen[str] | None = field(default=None, repr=False)

    def start(self) -> None:
        """Start and wait until requests are answered (the process says its URL then)."""
        environment = {**os.environ, "TZ": "UTC"}
        self.process = subprocess.Popen(
            command(self.data_dir), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
        )
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().strip()
        assert self.url.startswith("http://"), "the server did not start"

    @property
    def port(self) -> int:
        """The port it listens on."""
        return urlsplit(self.url).port or 0

    @property
    def pid(self) -> int:
        """Of the running process."""
        assert self.process is not None
        return self.process.pid

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Signal it, wait, and return its exit code."""
        process = self.process
        if process is None:
            return 0
        self.process = None
        process.send_signal(number)
        code = process.wait(_EXIT_SECONDS)
        assert process.stdout is not None
        process.stdout.close()
        return code

    def kill(self) -> None:
        """SIGKILL."""
        self.stop(signal.SIGKILL)

    def client(self, **options: object) -> Client:
        """A clickhouse-connect client over HTTP with a connection pool of its own; close it."""
        return clickhouse_connect.get_client(host="127.0.0.1", port=self.port, dedicated_pool=True, **options)

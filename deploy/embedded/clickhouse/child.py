"""The server as a process of its own, for benchmarks and tests; `dev` starts it by its command."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

from deploy.embedded.readiness import http_ok
from deploy.embedded.supervisor import Child


def clickhouse_command(data_dir: Path, port: int) -> list[str]:
    """The command that runs the server in the foreground, on 127.0.0.1, with its data in `data_dir`."""
    program = [sys.executable, "-P", "-m", "deploy.embedded.clickhouse"]
    return [*program, "--data-dir", str(data_dir), "--port", str(port)]


def clickhouse_url(port: int) -> str:
    """Where it answers."""
    return f"http://127.0.0.1:{port}"


def clickhouse_child(data_dir: Path, port: int, *, log_path: Path) -> Child:
    """The server as a child of a Supervisor, named `clickhouse`."""
    ready = partial(http_ok, f"{clickhouse_url(port)}/ping")
    return Child(name="clickhouse", argv=clickhouse_command(data_dir, port), ready=ready, log_path=log_path)

"""Files of the current folder with the names of our packages are not ours: no process that we start imports them."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from deploy.embedded.clickhouse.child import clickhouse_command
from deploy.embedded.ports import free_port
from deploy.embedded.readiness import http_ok
from deploy.embedded.stack import own_command
from deploy.embedded.supervisor import Child, Supervisor
from tests.support.commands import Background, environment
from tests.support.stack import Ports, write_stack_configuration
from tests.support.waiting import wait_until

_PLANTED = """import pathlib, sys
(pathlib.Path({folder!r}) / "imported").write_text(__name__ + str(sys.argv))
raise ImportError("a file of the current folder was imported")
"""
_SPAWNING = """import multiprocessing
from kybstream.cli.main import main
if __name__ == "__main__":
    try:
        main(["--version"])
    except SystemExit:
        pass
    process = multiprocessing.get_context("spawn").Process(target=print)
    process.start()
    process.join()
    raise SystemExit(process.exitcode)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with files that take the place of our packages and of the library's, where somebody lets them."""
    folder = tmp_path / "somebody's"
    for name in ("schemas.py", "kybstream.py", "pickle.py", "deploy/__init__.py", "ingress/__init__.py"):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(_PLANTED.format(folder=str(tmp_path)))
    return folder


async def test_processes_are_started_from_installed_packages(folder: Path, tmp_path: Path) -> None:
    """Components of `dev`, the embedded server alone, what multiprocessing spawns, and workers of the ingress."""
    port = free_port()
    server = Child(
        name="clickhouse",
        argv=clickhouse_command(tmp_path / "clickhouse", port),
        ready=partial(http_ok, f"http://127.0.0.1:{port}/ping"),
        log_path=tmp_path / "clickhouse.log",
        cwd=folder,
    )
    async with Supervisor() as supervisor:
        await supervisor.start(server)
    script = tmp_path / "script" / "spawning.py"
    script.parent.mkdir()
    script.write_text(_SPAWNING)
    run = partial(subprocess.run, cwd=folder, env=environment(), capture_output=True, text=True, timeout=60, check=False)
    for command in (own_command("asyncapi"), [sys.executable, str(script)]):
        done = await asyncio.to_thread(run, command)
        assert done.returncode == 0, done
    config, ready = write_stack_configuration(tmp_path / "kyb-stream.toml", Ports.free()), tmp_path / "ready"
    arguments = ("--workers", "2", "--config", str(config), "--ready-file", str(ready))
    workers = Background("ingress", *arguments, log=tmp_path / "ingress.log", cwd=folder)
    try:

        def serving() -> bool:
            assert workers.exit_code is None, workers.output
            return ready.exists()

        await wait_until(serving, 60, "both workers serve")
    finally:
        await workers.close()
    assert not (tmp_path / "imported").exists(), (tmp_path / "imported").read_text()

"""docker-compose.yml as Compose reads it, and its services as plain processes of this machine.

Compose's own loader is not at hand; this does as much of its work as the file needs: `${NAME}`, `${NAME:-default}` and
`${NAME:?message}` in values, and anchors, which are YAML's.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from deploy.embedded.tether import tethered
from tests.support.waiting import wait_until

ROOT = Path(__file__).parents[2]
COMPOSE_FILE = ROOT / "docker-compose.yml"
DOCKERFILE = ROOT / "deploy" / "docker" / "Dockerfile"
CONFIG_FILE = ROOT / "deploy" / "docker" / "kyb-stream.toml"
GUIDE = ROOT / "docs" / "how-to" / "docker-compose.md"

CONFIG_TARGET = "/etc/kyb-stream/kyb-stream.toml"

_VARIABLE = re.compile(r"\$(?:(?P<escaped>\$)|\{(?P<name>\w+)(?::(?P<kind>[-?])(?P<word>[^}]*))?\})")
_SECONDS = re.compile(r"(\d+)s")


class MissingVariableError(Exception):
    """A variable that the file requires is not set, or empty."""


def interpolate(text: str, variables: Mapping[str, str]) -> str:
    """The text with its variables' values.

    Raises:
        MissingVariableError: `${NAME:?message}` without a value; has name and message.
    """

    def value(match: re.Match[str]) -> str:
        if match["escaped"]:
            return "$"
        found = variables.get(match["name"], "")
        if found or match["kind"] is None:
            return found
        if match["kind"] == "-":
            return match["word"]
        raise MissingVariableError(f"{match['name']}: {match['word']}")

    return _VARIABLE.sub(value, text)


def read_services(variables: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """The services, with the variables in place."""
    document = yaml.safe_load(COMPOSE_FILE.read_text(encoding="utf-8"))
    services: dict[str, dict[str, Any]] = _interpolated(document, variables)["services"]
    return services


def _interpolated(node: Any, variables: Mapping[str, str]) -> Any:
    if isinstance(node, dict):
        return {key: _interpolated(value, variables) for key, value in node.items()}
    if isinstance(node, list):
        return [_interpolated(value, variables) for value in node]
    return interpolate(node, variables) if isinstance(node, str) else node


def required_variables() -> set[str]:
    """The variables without which the file is refused."""
    text = COMPOSE_FILE.read_text(encoding="utf-8")
    return {match["name"] for match in _VARIABLE.finditer(text) if match["kind"] == "?"}


def seconds(duration: str) -> int:
    """The seconds of a duration as the file writes them, `30s`."""
    match = _SECONDS.fullmatch(duration)
    assert match, f"{duration!r} is not in whole seconds"
    return int(match[1])


def replaced(text: str, places: Mapping[str, str]) -> str:
    """The text with each place in a container (host, port, folder) replaced by ours; what was replaced is not read again."""
    return re.sub("|".join(map(re.escape, places)), lambda match: places[match[0]], text)


@dataclass(frozen=True)
class LocalService:
    """A service as a plain process: its command and its whole environment, at our places.

    Attributes:
        service: As in the file.
        places: What takes the place of hosts, ports and folders of the containers.
        shadow: A folder of modules that are not in the image: importing them fails.
        log: Where the service's output goes.
        commands_log: Where the errors of commands and health checks in its container go.
    """

    service: Mapping[str, Any]
    places: Mapping[str, str]
    shadow: Path
    log: Path
    commands_log: Path

    @property
    def environment(self) -> dict[str, str]:
        """Nothing of ours but the search path, which the image has too."""
        given = {key: replaced(value, self.places) for key, value in self.service["environment"].items()}
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        return given | {"PATH": path, "PYTHONPATH": str(self.shadow), "PYTHONUNBUFFERED": "1"}

    async def run(self, command: list[str] | None = None) -> tuple[int, str]:
        """Runs a command (default: the service's own) to its end; returns exit code and standard output."""
        with self.commands_log.open("ab") as log:
            process = await self._spawn(command or self.service["command"], stdout=subprocess.PIPE, stderr=log.fileno())
        output, _ = await process.communicate()
        return process.returncode or 0, output.decode()

    async def healthy(self) -> bool:
        """What the service's health check says."""
        kind, *command = self.service["healthcheck"]["test"]
        assert kind == "CMD"
        code, _ = await self.run(command)
        return code == 0

    @asynccontextmanager
    async def running(self) -> AsyncIterator[asyncio.subprocess.Process]:
        """The service, healthy; killed at the end unless it ended before."""
        with self.log.open("ab") as log:
            process = await self._spawn(self.service["command"], stdout=log.fileno(), stderr=log.fileno())
        try:
            await wait_until(lambda: self._healthy_while(process), 45, f"{self.service['command'][1]} is healthy")
            yield process
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()

    async def _healthy_while(self, process: asyncio.subprocess.Process) -> bool:
        assert process.returncode is None, self.log.read_text()[-2000:]
        return await self.healthy()

    async def _spawn(self, command: list[str], *, stdout: int, stderr: int) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *tethered([replaced(word, self.places) for word in command]),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            env=self.environment,
            cwd=self.shadow,
        )


async def terminated(process: asyncio.subprocess.Process, grace_seconds: float) -> int:
    """Its exit code after SIGTERM, as `docker compose stop` sends it."""
    process.send_signal(signal.SIGTERM)
    return await asyncio.wait_for(process.wait(), grace_seconds)

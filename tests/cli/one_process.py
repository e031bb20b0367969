"""Many quick commands in one process: most of a command's second is Python importing the same modules again."""

from __future__ import annotations

import asyncio
import io
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

from tests.support.commands import Finished, environment
from tests.support.stack import RunningStack

_SECONDS = 60.0


def run_each(
    commands: Sequence[Sequence[str]], *, env: Mapping[str, str] | None = None, cwd: Path | None = None
) -> list[Finished]:
    """Runs commands one after the other, as `kyb-stream` runs one."""
    done = subprocess.run(
        [sys.executable, "-P", "-c", _PROGRAM, str(Path(__file__).parents[2])],
        check=True,
        input=json.dumps(commands),
        capture_output=True,
        text=True,
        env=environment(env),
        cwd=cwd,
        timeout=_SECONDS,
    )
    return [Finished(*each) for each in json.loads(done.stdout)]


async def run_with(stack: RunningStack, *commands: Sequence[str]) -> list[Finished]:
    """As `run_each`, with the stack's configuration."""
    return await asyncio.to_thread(run_each, commands, env={"KYB_STREAM_CONFIG": str(stack.config_path)})


_PROGRAM = "import sys; sys.path.append(sys.argv[1]); from tests.cli.one_process import main; main()"


def main() -> None:
    """The process: commands in as JSON, exit codes and outputs out."""
    from kybstream.cli.main import run  # noqa: PLC0415 (only here it is imported for its effects)

    finished: list[tuple[int, str, str]] = []
    for command in json.load(sys.stdin):
        # With a buffer below, as the real ones have: some commands write bytes.
        out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8") for _ in range(2))
        with redirect_stdout(out), redirect_stderr(err):
            code = run(command)
        finished.append((code, _read(out), _read(err)))
    json.dump(finished, sys.stdout)


def _read(stream: io.TextIOWrapper) -> str:
    stream.seek(0)
    return stream.read()

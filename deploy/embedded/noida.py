"""The embedded default broker: the `noida-db` wheel's program, one process that speaks Kafka's protocol and starts at once.

For trying and for functional tests. It saves everything in one snapshot from time to time and on SIGTERM: a SIGKILL loses
what was acknowledged in about the last 2 s, and memory grows with the data. Apache Kafka (`apache_kafka`) is the
reference for every promise about durability.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn

from deploy.embedded.ports import require_free_port
from deploy.embedded.readiness import kafka_answers
from deploy.embedded.supervisor import Child
from kybstream.errors import KybStreamError, RunError
from kybstream.folder_lock import take_folder

HOST = "127.0.0.1"
PURPOSE = "the embedded broker"


def broker_command(data_dir: Path, port: int) -> list[str]:
    """The command that runs the broker in the foreground, on 127.0.0.1, with its data in `data_dir`.

    It names the wheel's program itself: the wheel's console script is a parent process that does not forward signals, so a
    SIGTERM to it would leave the broker running.

    Raises:
        RunError: The wheel is not installed, or cannot be run here.
    """
    binary = _binary()
    return [str(binary), "start", "--only", "kafka", "--data-dir", str(data_dir), "--kafka-port", str(port)]


def broker_child(data_dir: Path, port: int, *, log_path: Path) -> Child:
    """The broker as a child of a Supervisor.

    Raises:
        RunError: As `broker_command`, or the port is in use.
    """
    command = broker_command(data_dir, port)
    require_free_port(HOST, port, PURPOSE)
    return Child(
        name="broker",
        argv=command,
        ready=partial(kafka_answers, f"{HOST}:{port}"),
        log_path=log_path,
        ready_seconds=30.0,
        orphan_signal=signal.SIGTERM,  # SIGKILL would lose what it has not saved yet
    )


def run_broker(data_dir: Path, port: int) -> NoReturn:
    """Turns this process into the broker, by `exec`: signals go to it directly, its exit code is the process's.

    The data folder stays locked for as long as the broker runs.

    Raises:
        RunError: The folder or the port is in use by another process, or as `broker_command`.
    """
    command = broker_command(data_dir, port)
    take_folder(data_dir, across_exec=True)
    require_free_port(HOST, port, PURPOSE)
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(command[0], command)  # noqa: S606 - no shell is the point


def _binary() -> Path:
    package = find_spec("noida_db")
    if package is None or package.origin is None:
        raise RunError(
            "the embedded broker is not installed: noida-db has wheels for Linux x86-64 and macOS on Apple silicon only",
            hint="pip install 'kyb-stream[embedded]' there; elsewhere use --broker apache (Java 17+ and Maven)",
        )
    binary = Path(package.origin).with_name("noida-db")
    try:
        if not os.access(binary, os.X_OK):
            binary.chmod(0o755)  # some installers drop the mode
    except OSError as error:
        raise RunError(
            f"the embedded broker's program {binary} cannot be run: {error.strerror}",
            hint="reinstall noida-db, or use --broker apache",
        ) from None
    return binary


def _main() -> None:
    parser = argparse.ArgumentParser(prog="python -P -m deploy.embedded.noida", description="Run the embedded broker.")
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--port", type=int, default=9092)
    arguments = parser.parse_args()
    try:
        run_broker(arguments.data_dir, arguments.port)
    except KybStreamError as error:
        sys.stderr.write(f"error: {error.message}\n" + (f"hint: {error.hint}\n" if error.hint else ""))
        sys.exit(error.exit_code)


if __name__ == "__main__":
    _main()

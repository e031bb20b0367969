"""The log file of a child process: opened for appending, and searched for the one line that explains a failure."""

from __future__ import annotations

import re
import signal
from pathlib import Path
from typing import BinaryIO

_ROTATE_BYTES = 10 * 1024 * 1024
_TAIL_BYTES = 64 * 1024
_LINE_CHARACTERS = 300

# Lines that explain nothing: frames of Java and Python, the loader's remark about noida-db's binary, a JVM's farewell.
_NOISE = re.compile(
    r"^\s+at |^\s*\.\.\. \d+ more|^Traceback |^\s+File \"|^\s+[\^~]+\s*$|: weak version `|^(\[\w+\]\s*)?$|^\s*hint:"
    r"|A fatal exception has occurred\. Program will exit|Could not create the Java Virtual Machine"
)
_TELLING = re.compile(r"\berror\b|\bfatal\b|\w(Error|Exception)\b|cannot|failed|refused|already in use", re.IGNORECASE)


def open_log(path: Path) -> tuple[BinaryIO, int]:
    """Opens the log for appending, and says at which byte this run's part begins.

    A log of over 10 MiB is moved to `<name>.previous` first, so that a folder used for months stays small.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and path.stat().st_size > _ROTATE_BYTES:
        path.replace(path.with_name(path.name + ".previous"))
    log = path.open("ab")
    return log, log.tell()


def telling_line(text: str) -> str | None:
    """The last line that speaks of an error, else the last line that says anything, else None; at most 300 characters."""
    lines = [line.strip() for line in text.splitlines() if not _NOISE.search(line)]
    telling = [line for line in lines if _TELLING.search(line)]
    chosen = (telling or lines)[-1:]
    return chosen[0][:_LINE_CHARACTERS] if chosen else None


def telling_line_of(path: Path, *, since: int = 0) -> str | None:
    """`telling_line` of the end of a log file, from byte `since` on; None if it cannot be read."""
    try:
        with path.open("rb") as log:
            size = log.seek(0, 2)
            log.seek(max(since, size - _TAIL_BYTES))
            return telling_line(log.read().decode("utf-8", "replace"))
    except OSError:
        return None


def describe_exit(code: int) -> str:
    """An exit code as the end of a sentence: "exit code 3", or "signal SIGKILL" for a negative one."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"signal {signal.Signals(-code).name}"
    except ValueError:
        return f"signal {-code}"

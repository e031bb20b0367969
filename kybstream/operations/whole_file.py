"""Writing a file whole or not at all: it gets its name when all of it is on the disk."""

from __future__ import annotations

import gzip
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

from kybstream.errors import RunError, UsageError
from kybstream.terminal import TerminalWriter

STDOUT = "-"


class Writable(Protocol):
    """What can be written to."""

    def write(self, data: bytes, /) -> object:
        """Takes all of the data."""


@contextmanager
def whole_file(name: str) -> Iterator[Writable]:
    """A file to write to, which takes the place of one of that name at the end; nothing is left of it after an error or Ctrl-C.

    Args:
        name: Its path; a symbolic link stays one. With the ending `.gz` it is compressed. `-` is standard output.

    Raises:
        UsageError: There can be no such file.
        RunError: It cannot be written, as with a full disk.
    """
    if name == STDOUT:
        writer = TerminalWriter()
        yield writer
        writer.close()
        return
    path = Path(name).resolve()
    if path.exists() and not path.is_file():
        raise UsageError(f"{name} is no file", hint="Name a file, or - for standard output.")
    beside = path.with_name(f".{path.name[:200]}.{secrets.token_hex(4)}.part")
    try:
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    except OSError as error:
        raise UsageError(f"{name} cannot be written: {error.strerror}") from None
    try:
        with os.fdopen(descriptor, "wb") as plain:
            if path.suffix == ".gz":
                with gzip.GzipFile(filename="", fileobj=plain, mode="wb", mtime=0) as packed:
                    yield packed
            else:
                yield plain
            plain.flush()
            os.fsync(plain.fileno())
        beside.replace(path)
    except OSError as error:
        raise RunError(f"{name} cannot be written: {error.strerror}") from None
    finally:
        with suppress(FileNotFoundError):
            beside.unlink()

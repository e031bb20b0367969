"""Every error this application raises on purpose, in one hierarchy.

A caller decides by class or by `retriable`, never by text. The command line prints `message`, then `hint`, and exits with
`exit_code`; a traceback appears only with `--debug`. Messages never hold a body, a secret or personal data.
"""

from __future__ import annotations

from typing import ClassVar


class KybStreamError(Exception):
    """Base of all errors below.

    Attributes:
        message: One sentence that names what went wrong and where.
        hint: What to do about it, or None.
        retriable: Whether the same call can succeed later without anybody changing anything.
        exit_code: What the command line exits with: 2 for usage and configuration, 1 for a failed run.
    """

    retriable: ClassVar[bool] = False
    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class ConfigurationError(KybStreamError):
    """A setting is missing, unknown or has a bad value; names file, key and expectation."""

    exit_code = 2


class UsageError(KybStreamError):
    """A command was called with arguments that make no sense together."""

    exit_code = 2


class RunError(KybStreamError):
    """A command ran and failed: something is missing, wrong, or in use by another process."""


class UnavailableError(KybStreamError):
    """Kafka or ClickHouse cannot be reached or refuses for now; trying again is right."""

    retriable = True


class BadRecordError(KybStreamError):
    """Bytes that cannot be decoded into the record their topic promises; goes to the dead letters."""

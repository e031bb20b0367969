"""Why the spool did not take a delivery, and what SQLite's errors mean for it."""

from __future__ import annotations

from enum import Enum

from kybstream.errors import KybStreamError


class SpoolFullError(KybStreamError):
    """The spool has reached a limit of its own; there is room again when Kafka takes deliveries."""

    retriable = True


class SpoolFailedError(KybStreamError):
    """The disk is full, does not answer or fails, or the spool is closed."""

    retriable = True


class Fault(Enum):
    """What is to be done after SQLite failed."""

    NO_ROOM = "no room"  # the connection is sound; what was begun is rolled back
    DAMAGED = "damaged"  # the file is to be recovered before anything else
    BROKEN = "broken"  # the connection is to be made anew


def fault_of(error: Exception) -> Fault:
    """Sorts an error by what it asks for."""
    name = str(getattr(error, "sqlite_errorname", ""))
    if name == "SQLITE_FULL":
        return Fault.NO_ROOM
    if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
        return Fault.DAMAGED
    return Fault.BROKEN


def name_of(error: Exception) -> str:
    """The error's name for logs: SQLite's own where there is one."""
    return str(getattr(error, "sqlite_errorname", "") or type(error).__name__)

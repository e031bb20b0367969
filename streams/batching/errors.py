"""What can go wrong with the plumbing itself. What is not retriable ends the process; the offsets stay where they were."""

from __future__ import annotations

from kybstream.errors import ConfigurationError, RunError, UnavailableError


class AssignmentError(RunError):
    """Partitions were assigned without their state: going on would process them as if nothing had ever been seen."""


class ChangelogConflictError(RunError):
    """Somebody else wrote to a changelog partition this process owns, so its state may no longer be the truth."""


class ChangelogLostError(RunError):
    """The changelog ends before the local state does: it was deleted, made anew or truncated, and the state is more than it."""


class RecordTooLargeError(RunError):
    """The broker refuses a batch for its size.

    Attributes:
        appended: Records that were written before the refusal.
    """

    def __init__(self, message: str, *, appended: int) -> None:
        super().__init__(message, hint="raise the topic's max.message.bytes")
        self.appended = appended


class StateLockedError(RunError):
    """The local state of a partition is open in another process: each process needs a data folder of its own."""


class StateUnavailableError(UnavailableError):
    """The disk of the local state refuses: full, read-only, failing. A batch that meets it is tried again."""


class TopicMismatchError(ConfigurationError):
    """A topic is missing, or has another number of partitions than the tables."""


class StopTimeoutError(RunError):
    """The worker did not come to rest in time. Nothing was acknowledged that was not finished."""


class WorkerCrashedError(RunError):
    """A batch or Faust itself raised; the cause is chained. Unfinished batches will be read again after a restart."""

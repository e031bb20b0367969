"""What ClickHouse's error codes mean to the sink: wait, stop, or look for the record that is to blame. Pure.

A code that is not listed stops the sink, with ClickHouse's own words. To wait would hide what only a person can mend, and to
blame a record would put healthy ones into the dead letters. Whoever starts the process again tries again; nothing is lost.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from kybstream.errors import RunError, UnavailableError

MIGRATE_HINT = "Run `kyb-stream migrate`."
_ACCESS_HINT = "Check clickhouse.username and clickhouse.password, and the user's grants."
_READONLY_HINT = (
    "To read, give the user readonly = 2 (with 1 it may set nothing, and each query of ours comes with settings). "
    "To write, take a user without readonly."
)
_VERSION_HINT = (
    "Does the database belong to another version of kyb-stream? Run `kyb-stream migrate`, then start the sink again."
)


class Blame(Enum):
    """Whose fault an error is, and so what to do."""

    MOMENT = "moment"
    """Nobody's: the same insert is sent again, with the same token, until it lands."""
    RECORD = "record"
    """A record's: it is looked for, and goes to the dead letters."""
    SETUP = "setup"
    """The configuration's, the table's or a bug's: the sink stops and says so."""


@dataclass(frozen=True)
class Cause:
    """What a code means.

    Attributes:
        name: ClickHouse's name of it; `CODE_<number>` for one that is not listed.
        blame: Whose fault it is.
        meaning: In words, without values; empty for one that is not listed.
        hint: What to do about it.
    """

    name: str
    blame: Blame
    meaning: str = ""
    hint: str | None = None


def _moment(name: str, meaning: str, hint: str | None = None) -> Cause:
    return Cause(name, Blame.MOMENT, meaning, hint)


def _record(name: str, meaning: str = "a value cannot be read as its column's type") -> Cause:
    return Cause(name, Blame.RECORD, meaning)


def _setup(name: str, meaning: str, hint: str) -> Cause:
    return Cause(name, Blame.SETUP, meaning, hint)


_BUSY = "it has too much to do"
_SLOW = "it took too long"
_KEEPER = "its Keeper or its replicas do not answer"
_QUORUM = "too few replicas have the rows"
_NO_ACCESS = "user or password is refused"
_OTHER_TABLE = "the table is another than this version's"
_TOO_LONG = "a length is beyond what a value may have"
_UNFORESEEN = "reading the value failed in a way that nobody foresaw"

OUT_OF_MEMORY = 241

CAUSES: Mapping[int, Cause] = {
    159: _moment("TIMEOUT_EXCEEDED", _SLOW),
    201: _moment(
        "QUOTA_EXCEEDED", "the user's quota is used up", "It goes on when the quota's interval ends; or raise the quota."
    ),
    202: _moment("TOO_MANY_SIMULTANEOUS_QUERIES", _BUSY),
    203: _moment("NO_FREE_CONNECTION", _BUSY),
    209: _moment("SOCKET_TIMEOUT", _SLOW),
    210: _moment("NETWORK_ERROR", "it does not reach another server"),
    225: _moment("NO_ZOOKEEPER", _KEEPER),
    236: _moment("ABORTED", "it is shutting down, or the statement was ended"),
    OUT_OF_MEMORY: _moment(
        "MEMORY_LIMIT_EXCEEDED", "it has no memory for it now", "Give it more memory, or lower sink.flush_rows."
    ),
    242: _moment("TABLE_IS_READ_ONLY", "the table takes no rows now", "Is Keeper up, and the replica's disk writable?"),
    243: _moment("NOT_ENOUGH_SPACE", "its disk is full", "Make room on ClickHouse's disk."),
    244: _moment("UNEXPECTED_ZOOKEEPER_ERROR", _KEEPER),
    252: _moment(
        "TOO_MANY_PARTS",
        "it merges more slowly than rows come",
        "It goes on when ClickHouse has merged; raise sink.flush_seconds if it happens often.",
    ),
    254: _moment("NO_ACTIVE_REPLICAS", _KEEPER),
    285: _moment("TOO_FEW_LIVE_REPLICAS", _QUORUM),
    286: _moment("UNSATISFIED_QUORUM_FOR_PREVIOUS_WRITE", _QUORUM),
    289: _moment("REPLICA_IS_NOT_IN_QUORUM", _QUORUM),
    319: _moment("UNKNOWN_STATUS_OF_INSERT", _KEEPER),
    364: _moment("RECEIVED_ERROR_TOO_MANY_REQUESTS", _BUSY),
    373: _moment("SESSION_IS_LOCKED", "the statement before is still under way"),
    394: _moment("QUERY_WAS_CANCELLED", "somebody ended the statement"),
    425: _moment("SYSTEM_ERROR", "its operating system refused"),
    439: _moment("CANNOT_SCHEDULE_TASK", _BUSY),
    692: _moment("TOO_MANY_MUTATIONS", _BUSY),
    733: _moment("TABLE_IS_BEING_RESTARTED", "the table is being loaded"),
    745: _moment("SERVER_OVERLOADED", _BUSY),
    999: _moment("KEEPER_EXCEPTION", _KEEPER),
    6: _record("CANNOT_PARSE_TEXT"),
    25: _record("CANNOT_PARSE_ESCAPE_SEQUENCE"),
    26: _record("CANNOT_PARSE_QUOTED_STRING"),
    27: _record("CANNOT_PARSE_INPUT_ASSERTION_FAILED"),
    33: _record("CANNOT_READ_ALL_DATA", "the bytes end too early"),
    38: _record("CANNOT_PARSE_DATE"),
    41: _record("CANNOT_PARSE_DATETIME"),
    49: _record("LOGICAL_ERROR", _UNFORESEEN),
    69: _record("ARGUMENT_OUT_OF_BOUND", "a value is out of its column's range"),
    72: _record("CANNOT_PARSE_NUMBER"),
    117: _record("INCORRECT_DATA", "the bytes are not what their schema says"),
    128: _record("TOO_LARGE_ARRAY_SIZE", _TOO_LONG),
    131: _record("TOO_LARGE_STRING_SIZE", _TOO_LONG),
    173: _record("CANNOT_ALLOCATE_MEMORY", _TOO_LONG),
    321: _record("VALUE_IS_OUT_OF_RANGE_OF_DATA_TYPE", "a value is out of its column's range"),
    349: _record("CANNOT_INSERT_NULL_IN_ORDINARY_COLUMN", "a value is absent that the table requires"),
    376: _record("CANNOT_PARSE_UUID"),
    395: _record("FUNCTION_THROW_IF_VALUE_IS_NON_ZERO", "an expression of the table or of one of its views refuses it"),
    407: _record("DECIMAL_OVERFLOW", "a value is out of its column's range"),
    467: _record("CANNOT_PARSE_BOOL"),
    469: _record("VIOLATED_CONSTRAINT", "a constraint of the table refuses it"),
    675: _record("CANNOT_PARSE_IPV4"),
    676: _record("CANNOT_PARSE_IPV6"),
    691: _record("UNKNOWN_ELEMENT_OF_ENUM", "the column's enumeration has no such value"),
    1001: _record("STD_EXCEPTION", _UNFORESEEN),
    1002: _record("UNKNOWN_EXCEPTION", _UNFORESEEN),
    8: _setup("THERE_IS_NO_COLUMN", _OTHER_TABLE, _VERSION_HINT),
    10: _setup("NOT_FOUND_COLUMN_IN_BLOCK", _OTHER_TABLE, _VERSION_HINT),
    16: _setup("NO_SUCH_COLUMN_IN_TABLE", _OTHER_TABLE, _VERSION_HINT),
    44: _setup("ILLEGAL_COLUMN", _OTHER_TABLE, _VERSION_HINT),
    53: _setup("TYPE_MISMATCH", _OTHER_TABLE, _VERSION_HINT),
    60: _setup("UNKNOWN_TABLE", "the table is not there", MIGRATE_HINT),
    70: _setup("CANNOT_CONVERT_TYPE", _OTHER_TABLE, _VERSION_HINT),
    81: _setup("UNKNOWN_DATABASE", "the database is not there", MIGRATE_HINT),
    164: _setup("READONLY", "the user may only read, or may change no setting", _READONLY_HINT),
    192: _setup("UNKNOWN_USER", _NO_ACCESS, _ACCESS_HINT),
    193: _setup("WRONG_PASSWORD", _NO_ACCESS, _ACCESS_HINT),
    194: _setup("REQUIRED_PASSWORD", _NO_ACCESS, _ACCESS_HINT),
    497: _setup("ACCESS_DENIED", "the user lacks a grant", _ACCESS_HINT),
    516: _setup("AUTHENTICATION_FAILED", _NO_ACCESS, _ACCESS_HINT),
}
"""Every code that we know what to do about."""

NOT_ALLOWED = frozenset({164, 192, 193, 194, 497, 516})
"""Codes that are about user, password, grants and what the user may change."""


def cause_of(code: int) -> Cause:
    """What a code means; one that is not listed is the setup's fault."""
    return CAUSES.get(code) or Cause(f"CODE_{code}", Blame.SETUP)


class NotNowError(UnavailableError):
    """ClickHouse cannot be reached, or cannot do it now.

    Attributes:
        cause: ClickHouse's name of the error, `HTTP_<status>` of a server before it, or `NETWORK`.
        code: ClickHouse's error code; 0 when it named none.
    """

    def __init__(self, message: str, *, cause: str, code: int = 0, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.cause = cause
        self.code = code


class RefusedError(RunError):
    """ClickHouse read a statement and refused it, in its own words, which can quote values.

    Attributes:
        code: ClickHouse's error code; 0 when it named none.
    """

    def __init__(self, message: str, *, code: int, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.code = code

    @property
    def cause(self) -> Cause:
        """What the code means."""
        return cause_of(self.code)

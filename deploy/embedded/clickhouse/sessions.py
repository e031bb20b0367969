"""Sessions: what `session_id` keeps between requests, and how settings of one request stay out of the next."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Mapping
from typing import Final

from deploy.embedded.clickhouse.engine import Connection, Engine
from deploy.embedded.clickhouse.exceptions import ClickHouseError, RequestRefusedError

_SETTING_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# chDB starts with clickhouse-local's habits; these make it answer like a server, and an insert durable when acknowledged.
_SERVER_HABITS: Final = {"async_insert": "0", "implicit_select": "0"}


def quoted(text: str) -> str:
    """A SQL string literal."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def identifier(name: str) -> str:
    """A SQL identifier in backticks."""
    escaped = name.replace("\\", "\\\\").replace("`", "\\`")
    return f"`{escaped}`"


def _bytes(sql: str) -> bytes:
    return sql.encode("utf-8", "surrogateescape")


class Session:
    """A connection with a memory of what a request changed on it, so that the next request starts from the session's own state.

    Not for two threads at once.
    """

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._own = dict(_SERVER_HABITS)  # what the session itself has set
        self._applied: dict[str, str] = {}  # what the last request's URL set on top
        self._home = self._database = "default"
        self._set([f"{name} = {quoted(value)}" for name, value in self._own.items()])

    def prepare(self, database: str | None, settings: Mapping[str, str]) -> None:
        """Bring the connection to exactly this database and these settings over the session's own.

        Raises:
            ClickHouseError: An unknown database or setting, or a bad value; none of the settings then stays.
            RequestRefusedError: The name of a setting is no identifier.
        """
        for name in settings:
            if not _SETTING_NAME.fullmatch(name):
                raise RequestRefusedError(115, "UNKNOWN_SETTING", f"Unknown setting {quoted(name)}.")
        gone = [self._reset(name) for name in self._applied if name not in settings]
        new = [f"{n} = {quoted(v)}" for n, v in settings.items() if self._applied.get(n) != v]
        try:
            self._set(gone + new)
        except ClickHouseError:
            self._forget({*self._applied, *settings})
            raise
        self._applied = dict(settings)
        self._use(database or self._home)

    def set_parameters(self, parameters: Mapping[str, str]) -> None:
        """Set query parameters on the connection, for a statement that cannot take them along."""
        for name in parameters:
            if not _SETTING_NAME.fullmatch(name):
                raise RequestRefusedError(456, "UNKNOWN_QUERY_PARAMETER", f"Bad name of a query parameter: {quoted(name)}.")
        self._set([f"param_{name} = {quoted(value)}" for name, value in parameters.items()])

    def note_statement(self, keyword: str) -> None:
        """Learn what a SET or USE statement of the user changed for the session, after it ran.

        A SET must have been prepared for without settings, so that all that differs is the session's own.
        """
        if keyword == "USE":
            self._home = self._database = self._ask("SELECT currentDatabase()").rstrip("\n")
        elif keyword == "SET":
            lines = self._ask("SELECT name, value FROM system.settings WHERE changed AND name != 'database'").splitlines()
            self._own = dict(line.split("\t", 1) for line in lines)

    def _ask(self, sql: str) -> str:
        return self.connection.run(_bytes(sql), "TabSeparatedRaw").data.decode("utf-8", "replace")

    def _use(self, database: str) -> None:
        if database != self._database:
            self.connection.run(_bytes(f"USE {identifier(database)}"), "Null")
            self._database = database

    def _reset(self, name: str) -> str:
        return f"{name} = {quoted(self._own[name])}" if name in self._own else f"{name} = DEFAULT"

    def _set(self, assignments: list[str]) -> None:
        if assignments:
            self.connection.run(_bytes("SET " + ", ".join(assignments)), "Null")

    def _forget(self, names: set[str]) -> None:
        for name in names:
            try:
                self._set([self._reset(name)])
            except ClickHouseError:
                continue  # the setting does not exist: that is what was refused
        self._applied = {}


class _Kept:
    def __init__(self, session: Session) -> None:
        self.session = session
        self.busy = True
        self.expires_at = 0.0  # seconds of time.monotonic
        self.timeout_seconds = 0.0


class SessionRegistry:
    """Hands out sessions: a new connection for a request without `session_id`, the kept one otherwise. Thread-safe."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._lock = threading.Lock()
        self._kept: dict[str, _Kept] = {}

    def acquire(self, session_id: str | None, *, timeout_seconds: float, must_exist: bool) -> Session:
        """The session for one request; give it back with `release`.

        Raises:
            RequestRefusedError: The session is in use (SESSION_IS_LOCKED) or, with `must_exist`, not there (SESSION_NOT_FOUND).
        """
        self.expire(time.monotonic())
        if session_id is None:
            return Session(self._engine.connect())
        with self._lock:
            kept = self._kept.get(session_id)
            if kept is None and must_exist:
                raise RequestRefusedError(372, "SESSION_NOT_FOUND", f"Session {quoted(session_id)} not found.")
            if kept is not None and kept.busy:
                sentence = f"Session {quoted(session_id)} is locked by a concurrent client."
                raise RequestRefusedError(373, "SESSION_IS_LOCKED", sentence)
            if kept is None:
                kept = self._kept[session_id] = _Kept(Session(self._engine.connect()))
            kept.busy = True
            kept.timeout_seconds = timeout_seconds
            return kept.session

    def release(self, session: Session, session_id: str | None) -> None:
        """End a request's use of its session; a session without an id is closed."""
        if session_id is None:
            session.connection.close()
            return
        with self._lock:
            kept = self._kept[session_id]
            kept.busy = False
            kept.expires_at = time.monotonic() + kept.timeout_seconds

    def expire(self, now: float) -> None:
        """Close the idle sessions whose time is up; `now` as of time.monotonic."""
        with self._lock:
            gone = [name for name, kept in self._kept.items() if not kept.busy and kept.expires_at <= now]
            closing = [self._kept.pop(name).session for name in gone]
        for session in closing:
            session.connection.close()

    def close(self) -> None:
        """Close every session that no request holds."""
        self.expire(float("inf"))

"""OCEL 2.0 as JSON: events that belong to several objects, here cases, their services, and persons by pseudonym.

A case has one service of a name; a person can belong to several cases. A webhook that covers three services is one event that
belongs to all of them, which XES has to tell as three.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from tempfile import TemporaryFile
from typing import IO, Any, Self

import msgspec

from kybstream.operations.export.escaping import joined
from kybstream.operations.export.log import LogRow

CASE, SERVICE, SUBJECT = "case", "service", "subject"

_EVENT_ATTRIBUTES = ("status", "transition", "resource", "kyc_level", "placement")
# What a case was from its beginning, and what it is since its newest event.
_CONSTANT = ("tenant", "opened_at_source")
_CURRENT = ("outcome", "match_state", "kyb_status", "kyc_status")
_OBJECT_ATTRIBUTES = {CASE: (*_CONSTANT, *_CURRENT), SERVICE: ("name", "tenant"), SUBJECT: ("tenant",)}

_OF_SERVICES = frozenset({"service_initiated", "service_resolved", "document_purchase_request"})
_NAMED_BY_ACTIVITY = frozenset({"kyc_result", "case"})
_PIECE = 1 << 16


class OcelWriter:
    """Rows in, text out; rows of a case come one after the other, and of an event within it, too.

    Events are told as they come. Cases and services are kept in a temporary file until the end, and the persons, who come again
    in other cases, in a temporary database: in memory is one case. Use it as a context manager.
    """

    def __init__(self) -> None:
        self._objects = TemporaryFile()  # noqa: SIM115 (closed by __exit__)
        self._subjects = sqlite3.connect("")  # a file of its own that SQLite removes
        self._subjects.execute("CREATE TABLE subjects (tenant TEXT, subject TEXT, PRIMARY KEY (tenant, subject)) WITHOUT ROWID")
        self._types: set[str] = set()
        self._encoder = msgspec.json.Encoder()
        self._case: _Case | None = None
        self._event: _Event | None = None
        self._first_event = self._first_object = True
        self.cases = 0
        self.events = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._objects.close()
        self._subjects.close()

    def begin(self) -> str:
        """What stands before all rows."""
        return '{"events":['

    def add(self, row: LogRow) -> str:
        """A row: what it completes, often nothing."""
        told = ""
        if self._event is None or not self._event.goes_on_in(row):
            told = self._complete()
            if self._case is None or not self._case.goes_on_in(row):
                self._keep_case()
                self._case = _Case(row)
            self._event = _Event(row, self._case)
        self._event.add(row)
        return told

    def end(self) -> Iterable[str]:
        """What stands behind them all, in pieces: the last event, the objects, the types."""
        yield self._complete()
        self._keep_case()
        yield '],"objects":['
        self._objects.seek(0)
        yield from _text_of(self._objects)
        with closing(self._subjects.execute("SELECT tenant, subject FROM subjects ORDER BY tenant, subject")) as found:
            for tenant, subject in found:
                yield self._apart_object() + self._json(_object(SUBJECT, (tenant, subject), [("tenant", tenant, _EPOCH)], []))
        types = {
            name: [{"name": each, "type": "string"} for each in attributes] for name, attributes in _OBJECT_ATTRIBUTES.items()
        }
        yield '],"objectTypes":' + self._json([{"name": name, "attributes": found} for name, found in types.items()])
        attributes = [{"name": each, "type": "string"} for each in _EVENT_ATTRIBUTES]
        yield ',"eventTypes":' + self._json([{"name": name, "attributes": attributes} for name in sorted(self._types)]) + "}\n"

    def _complete(self) -> str:
        """The event that is complete now."""
        if self._event is None:
            return ""
        event, self._event = self._event, None
        self._types.add(event.type)
        self.events += 1
        apart, self._first_event = "" if self._first_event else ",\n", False
        return apart + self._json(event.as_object())

    def _keep_case(self) -> None:
        """Puts the case that is complete, its services and its persons aside."""
        if self._case is None:
            return
        self.cases += 1
        for each in self._case.objects():
            self._objects.write((self._apart_object() + self._json(each)).encode())
        self._subjects.executemany(
            "INSERT OR IGNORE INTO subjects VALUES (?, ?)",
            [(self._case.row.tenant, subject) for subject in self._case.subjects],
        )
        self._case = None

    def _apart_object(self) -> str:
        apart, self._first_object = "" if self._first_object else ",\n", False
        return apart

    def _json(self, value: object) -> str:
        return self._encoder.encode(value).decode()


_EPOCH = "1970-01-01T00:00:00Z"
"""The time of what has always been so."""


class _Case:
    """A case while its rows come: what objects it has."""

    def __init__(self, row: LogRow) -> None:
        self.row = row
        self.services: set[str] = set()
        self.subjects: set[str] = set()

    def goes_on_in(self, row: LogRow) -> bool:
        return (row.tenant, row.case_id) == (self.row.tenant, self.row.case_id)

    def objects(self) -> Iterator[dict[str, Any]]:
        """The case, which names the others, and its services."""
        row = self.row
        related = [(_id(SERVICE, row.tenant, row.case_id, name), "has") for name in sorted(self.services)]
        related += [(_id(SUBJECT, row.tenant, subject), "verifies") for subject in sorted(self.subjects)]
        attributes = [("tenant", row.tenant, _EPOCH)]
        if row.outcome:
            attributes.append(("opened_at_source", row.opened_at_source, row.opened_at))
            attributes += [(name, getattr(row, name), row.updated_at) for name in _CURRENT]
        yield _object(CASE, (row.tenant, row.case_id), attributes, related)
        for name in sorted(self.services):
            yield _object(
                SERVICE, (row.tenant, row.case_id, name), [("name", name, _EPOCH), ("tenant", row.tenant, _EPOCH)], []
            )


class _Event:
    """An event while its rows come: one for each service it covers."""

    def __init__(self, row: LogRow, case: _Case) -> None:
        self.type = row.activity if row.type in _NAMED_BY_ACTIVITY else row.type
        self._row = row
        self._case = case
        self._related = {_id(CASE, row.tenant, row.case_id): CASE}

    def goes_on_in(self, row: LogRow) -> bool:
        return bool(row.event_id) and row.event_id == self._row.event_id and self._case.goes_on_in(row)

    def add(self, row: LogRow) -> None:
        if row.type in _OF_SERVICES and row.activity != row.type:
            self._case.services.add(row.activity)
            self._related[_id(SERVICE, row.tenant, row.case_id, row.activity)] = SERVICE
        if row.subject:
            self._case.subjects.add(row.subject)
            self._related[_id(SUBJECT, row.tenant, row.subject)] = SUBJECT

    def as_object(self) -> dict[str, Any]:
        row = self._row
        # What follows from events has no id of its own: there is one of each kind in a case.
        own = ("event", row.tenant, row.event_id) if row.event_id else ("step", row.tenant, row.case_id, row.activity)
        return {
            "id": _id(*own),
            "type": self.type,
            "time": row.at,
            "attributes": [{"name": name, "value": value} for name in _EVENT_ATTRIBUTES if (value := getattr(row, name))],
            "relationships": [{"objectId": key, "qualifier": kind} for key, kind in self._related.items()],
        }


def _object(
    kind: str, key: tuple[str, ...], attributes: list[tuple[str, str, str]], related: list[tuple[str, str]]
) -> dict[str, Any]:
    return {
        "id": _id(kind, *key),
        "type": kind,
        "attributes": [{"name": name, "time": time, "value": value} for name, value, time in attributes],
        "relationships": [{"objectId": other, "qualifier": qualifier} for other, qualifier in related],
    }


def _id(kind: str, *key: str) -> str:
    return f"{kind}:{joined(*key)}"


def _text_of(file: IO[bytes]) -> Iterator[str]:
    # What was written is ASCII or cut at the end of an object: pieces are joined before they are read as text.
    rest = b""
    while piece := file.read(_PIECE):
        whole, mark, rest = (rest + piece).rpartition(b"\n")
        yield (whole + mark).decode()
    yield rest.decode()

"""XES (IEEE 1849-2016): a log of traces, a trace a case, its events in order."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from xml.sax.saxutils import quoteattr

from kybstream.operations.export.escaping import joined
from kybstream.operations.export.log import LogRow

_HEAD = """\
<?xml version="1.0" encoding="UTF-8"?>
<log xes.version="1849.2016" xes.features="" xmlns="http://www.xes-standard.org/">
  <extension name="Concept" prefix="concept" uri="http://www.xes-standard.org/concept.xesext"/>
  <extension name="Time" prefix="time" uri="http://www.xes-standard.org/time.xesext"/>
  <extension name="Lifecycle" prefix="lifecycle" uri="http://www.xes-standard.org/lifecycle.xesext"/>
  <extension name="Organizational" prefix="org" uri="http://www.xes-standard.org/org.xesext"/>
  <global scope="trace">
    <string key="concept:name" value="unknown"/>
  </global>
  <global scope="event">
    <string key="concept:name" value="unknown"/>
    <date key="time:timestamp" value="1970-01-01T00:00:00.000000Z"/>
    <string key="lifecycle:transition" value="unknown"/>
    <string key="org:resource" value="unknown"/>
  </global>
  <classifier name="Activity" keys="concept:name"/>
  <classifier name="Activity and transition" keys="concept:name lifecycle:transition"/>
  <string key="concept:name" value="kyb-stream"/>
  <string key="lifecycle:model" value="standard"/>
"""

_OF_A_CASE = ("outcome", "match_state", "kyb_status", "kyc_status", "opened_at_source")
_OF_AN_EVENT = ("event_id", "type", "status", "subject", "kyc_level", "placement")

_PLAIN = re.compile(r"[A-Za-z0-9 ._:/%-]*")
# XML 1.0 has no way to write these, not even escaped.
_NOT_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class XesWriter:
    """Rows in, text out; rows of a case come one after the other.

    Args:
        tenant: Whose log it is: traces are named by their case. None: by tenant and case, as two tenants can have a case of
            the same name.
    """

    def __init__(self, tenant: str | None) -> None:
        self._tenant = tenant
        self._case: tuple[str, str] | None = None
        self.cases = 0
        self.events = 0

    def begin(self) -> str:
        """What stands before all rows."""
        return _HEAD

    def add(self, row: LogRow) -> str:
        """A row."""
        self.events += 1
        return self._trace(row) + _event(row)

    def end(self) -> Iterable[str]:
        """What stands behind them all."""
        yield ("  </trace>\n" if self._case else "") + "</log>\n"

    def _trace(self, row: LogRow) -> str:
        case = (row.tenant, row.case_id)
        if case == self._case:
            return ""
        ended = "  </trace>\n" if self._case else ""
        self._case = case
        self.cases += 1
        name = row.case_id if self._tenant is not None else joined(row.tenant, row.case_id)
        attributes = [("concept:name", name), ("tenant", row.tenant), ("case_id", row.case_id)]
        attributes += _texts(row, _OF_A_CASE)
        opened = f"    {_date('opened_at', row.opened_at)}\n" if row.outcome else ""
        return ended + "  <trace>\n" + "".join(f"    {_string(*each)}\n" for each in attributes) + opened


def _event(row: LogRow) -> str:
    attributes = [("concept:name", row.activity), ("lifecycle:transition", row.transition), ("org:resource", row.resource)]
    attributes += _texts(row, _OF_AN_EVENT)
    content = "".join(f"      {_string(*each)}\n" for each in attributes)
    return f"    <event>\n      {_date('time:timestamp', row.at)}\n{content}    </event>\n"


def _texts(row: LogRow, names: Sequence[str]) -> list[tuple[str, str]]:
    """What the row has of these."""
    return [(name, value) for name in names if (value := getattr(row, name))]


def _string(key: str, value: str) -> str:
    if _PLAIN.fullmatch(value):  # nearly all are, and nothing in them needs to be escaped
        return f'<string key="{key}" value="{value}"/>'
    return f'<string key="{key}" value={quoteattr(_NOT_IN_XML.sub(chr(0xFFFD), value))}/>'


def _date(key: str, value: str) -> str:
    return f'<date key="{key}" value={quoteattr(value)}/>'

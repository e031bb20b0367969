"""What came from outside, made safe to show.

On a terminal a control character is a command, and in a line format a line break is a second line.
Senders choose ids, reasons and texts. Everything of theirs that a command prints, or that an error or a readable log quotes,
goes through here.
"""

from __future__ import annotations

import codecs
import re
import sys
from typing import Final

# C0 and C1 controls, DEL; marks that turn the direction of text, among them those that reorder what a person reads; line and
# paragraph separators; what is invisible; and surrogates, which cannot be printed at all.
_INVISIBLE: Final = (
    *range(0x20), *range(0x7F, 0xA0), 0xAD, 0x061C, *range(0x200B, 0x2010), *range(0x2028, 0x202F), *range(0x2060, 0x2070),
    0xFEFF, *range(0xFFF9, 0xFFFC), *range(0xE0000, 0xE0080),
)  # fmt: skip
_SHORT: Final = {0x09: "\\t", 0x0A: "\\n", 0x0D: "\\r"}


def _escape(code: int) -> str:
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"  # noqa: PLR2004


def _json_escape(code: int) -> str:
    return "".join(f"\\u{unit:04x}" for unit in memoryview(chr(code).encode("utf-16-le")).cast("H"))


_ONE_LINE: Final = {code: _SHORT.get(code) or _escape(code) for code in _INVISIBLE}
_LINES: Final = {code: escape for code, escape in _ONE_LINE.items() if code not in (0x09, 0x0A)}
# JSON has escaped C0 itself; those it writes between values are its own.
_JSON: Final = {code: _json_escape(code) for code in _INVISIBLE if code >= 0x7F}  # noqa: PLR2004
_SURROGATE: Final = re.compile("[\ud800-\udfff]")


def visible(text: str) -> str:
    """The text on one line, with what a terminal or a reader of lines would obey shown as an escape."""
    return _SURROGATE.sub(lambda found: _escape(ord(found[0])), text.translate(_ONE_LINE))


def visible_lines(text: str) -> str:
    """As `visible`, but tabs and line feeds stay: for text of ours that has lines."""
    return _SURROGATE.sub(lambda found: _escape(ord(found[0])), text.translate(_LINES))


def visible_json(document: bytes) -> str:
    """A JSON document that says the same, with JSON's own escapes for what a terminal would obey."""
    return document.decode("utf-8", "replace").translate(_JSON)


class VisibleStream:
    """Makes text visible that comes in pieces, cut anywhere. `finish` gives what a last piece left open."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def piece(self, data: bytes) -> bytes:
        """What to write for the next piece."""
        return self._shown(self._decoder.decode(data)).encode()

    def finish(self) -> bytes:
        """What to write at the end."""
        return self._shown(self._decoder.decode(b"", final=True)).encode()

    def _shown(self, text: str) -> str:
        return visible_lines(text)


class VisibleJson(VisibleStream):
    """JSON, as `visible_json`."""

    def _shown(self, text: str) -> str:
        return text.translate(_JSON)


class VisibleCsv(VisibleStream):
    """CSV whose texts are in quotes: line breaks and tabs within them are escaped, those between rows stay."""

    def __init__(self) -> None:
        super().__init__()
        self._quoted = False

    def _shown(self, text: str) -> str:
        shown = []
        for part in text.split('"'):
            shown.append(visible(part) if self._quoted else visible_lines(part))
            self._quoted = not self._quoted
        self._quoted = not self._quoted  # the last part has no quote behind it
        return '"'.join(shown)


class TerminalWriter:
    """Standard output for bytes: as they are into a file or a pipe, visible on a terminal."""

    def __init__(self) -> None:
        self._shown = VisibleStream() if sys.stdout.isatty() else None

    def write(self, data: bytes, /) -> None:
        """Writes all of the data."""
        sys.stdout.buffer.write(data if self._shown is None else self._shown.piece(data))

    def close(self) -> None:
        """Writes what is left, and flushes."""
        if self._shown is not None:
            sys.stdout.buffer.write(self._shown.finish())
        sys.stdout.buffer.flush()

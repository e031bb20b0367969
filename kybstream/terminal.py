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

# What a terminal obeys, a reader takes for a break, or nobody sees: ranges of code points, both ends included.
_HIDDEN: Final = (
    (0x00, 0x1F), (0x7F, 0x9F),  # C0 and C1 controls, DEL
    (0x2028, 0x2029),  # line and paragraph separators
    (0xD800, 0xDFFF),  # surrogates, which cannot be printed at all
    # Spaces other than U+0020: Unicode's general category Zs.
    (0xA0, 0xA0), (0x1680, 0x1680), (0x2000, 0x200A), (0x202F, 0x202F), (0x205F, 0x205F), (0x3000, 0x3000),
    # Default_Ignorable_Code_Point of Unicode 17, DerivedCoreProperties.txt: fillers, joiners, marks that turn the direction of
    # text, variation selectors (those of emoji among them), tags, and what is reserved for more of them.
    (0xAD, 0xAD), (0x034F, 0x034F), (0x061C, 0x061C), (0x115F, 0x1160), (0x17B4, 0x17B5), (0x180B, 0x180F), (0x200B, 0x200F),
    (0x202A, 0x202E), (0x2060, 0x206F), (0x3164, 0x3164), (0xFE00, 0xFE0F), (0xFEFF, 0xFEFF), (0xFFA0, 0xFFA0),
    (0xFFF0, 0xFFF8), (0x1BCA0, 0x1BCA3), (0x1D173, 0x1D17A), (0xE0000, 0xE0FFF),
    # Without the property, and blank all the same: braille without a dot, annotations, two fillers, a note without a head, and
    # controls of Egyptian hieroglyphs.
    (0x2800, 0x2800), (0xFFF9, 0xFFFB), (0x16FE4, 0x16FE4), (0x1D159, 0x1D159), (0x13430, 0x1343F),
)  # fmt: skip
_SHORT: Final = {0x09: "\\t", 0x0A: "\\n", 0x0D: "\\r"}


def _one_of(*ranges: tuple[int, int]) -> re.Pattern[str]:
    return re.compile("[" + "".join(f"{re.escape(chr(first))}-{re.escape(chr(last))}" for first, last in ranges) + "]")


_ONE_LINE: Final = _one_of(*_HIDDEN)
_LINES: Final = _one_of((0x00, 0x08), (0x0B, 0x1F), *_HIDDEN[1:])  # tabs and line feeds stay
# JSON has escaped C0 itself; those it writes between values are its own.
_JSON: Final = _one_of(*_HIDDEN[1:])


def _escape(found: re.Match[str]) -> str:
    code = ord(found[0])
    if code in _SHORT:
        return _SHORT[code]
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"  # noqa: PLR2004


def _json_escape(found: re.Match[str]) -> str:
    return "".join(f"\\u{unit:04x}" for unit in memoryview(found[0].encode("utf-16-le", "surrogatepass")).cast("H"))


def visible(text: str) -> str:
    """The text on one line, with what a terminal or a reader of lines would obey, or nobody would see, shown as an escape."""
    return _ONE_LINE.sub(_escape, text)


def visible_lines(text: str) -> str:
    """As `visible`, but tabs and line feeds stay: for text of ours that has lines."""
    return _LINES.sub(_escape, text)


def visible_json(document: bytes) -> str:
    """A JSON document that says the same, with JSON's own escapes for what a terminal would obey or nobody would see."""
    return _shown_json(document.decode("utf-8", "replace"))


def _shown_json(text: str) -> str:
    # Nearly all of it is ASCII: told a hundred times faster than looked for.
    return text if text.isascii() and "\x7f" not in text else _JSON.sub(_json_escape, text)


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
        return _shown_json(text)


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

"""Making a body readable whose structure is sound and of which some values are not.

What stands between the quotes of a text never makes a body unreadable, and neither does a number that no number type holds:
U+FFFD and null take their places. The structure (brackets, commas, quotes, names without quotes) is never repaired.

This runs only where the plain reading failed. All of it is linear, and nearly all of it runs in C.
"""

from __future__ import annotations

import re
from math import isfinite
from typing import NamedTuple

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
REPLACEMENT_BYTES = REPLACEMENT.encode()

MAX_UNREADABLE = 10_000
"""Broken escapes of one body; one with more is noise, and stays unreadable. Also the bytes that are no UTF-8, and the control
characters, of a body with an unreadable id; of one with more, that id stays unread."""
MAX_QUOTES = 80_000
"""Quotes of one body, those within texts left out: each pair costs an object while the texts are taken apart from the rest."""
MAX_ODD_NUMBERS = 2_000
"""Numbers of one body that are looked at because they may be none that can be held. What comes after stays as it is."""

MAX_DIGITS = 4300
"""Of a whole number: what the plain reading takes, too."""

_HEX = rb"[0-9a-fA-F]{2}"
_HIGH = rb"\\u[dD][89abAB]" + _HEX
_LOW = rb"\\u[dD][c-fC-F]" + _HEX
BAD_ESCAPE = re.compile(
    # Half of a surrogate pair: a high one without a low one behind it, or a low one without a high one before it.
    rb"\\(?![bfnrt/])(u[dD](?:[89abAB]%(hex)s(?!%(low)s)|[c-fC-F]%(hex)s(?<!%(high)s%(low)s))"
    # Or a backslash that begins no escape, as where a text was cut within one.
    rb"|(?!u%(hex)s%(hex)s))" % {b"hex": _HEX, b"high": _HIGH, b"low": _LOW}
)
# A number's first character comes first in the pattern: that is what makes it fast. The group is a number that may be too large
# to be held. Other long ones are found as a whole, for to begin a search at each of their digits takes long.
_NUMBERS = re.compile(
    rb"[-\dNI](?<![\w.+-].)(?:(aN|nfinity|NaN|Infinity|\d{308,}+[\d.eE+-]*+|\d*+(?:\.\d++)?[eE]\+?\d{3,}+)(?![\w.+-])"
    rb"|[\w.+-]{11,}+)"
)
_SYNTAX = re.compile(rb"-?(?:NaN|Infinity|(?:0|[1-9]\d*+)(?:\.\d++)?(?:[eE][+-]?\d++)?)")
_CONTROL = re.compile(rb"[\x00-\x1f]")
_ODD_BYTE = re.compile(rb"\xed([\xb2\xb3])([\x80-\xbf])")
"""How Python writes a byte that is no UTF-8: U+DC80 to U+DCFF, which UTF-8 itself does not have."""
_ODD_BYTE_LENGTH = 3

# Bytes that UTF-8 never has, as marks while a body is taken apart.
_BACKSLASH, _QUOTE, _CONTROL_MARK, _NUMBER, _ESCAPE = b"\xff\xff", b"\xfe\xfe", b"\xfd", b"\xfc", b"\xfb"
_CONTROLS = bytes(range(ord(" ")))
_MARK_CONTROLS = bytes(_CONTROL_MARK[0] if code < ord(" ") else code for code in range(256))


class Mended(NamedTuple):
    """A body after mending.

    Attributes:
        body: JSON, if the structure was.
        marked: The same, with U+FFFD also in place of each number that is null in `body`.
    """

    body: bytes
    marked: bytes


def mend(body: bytes, *, distinct: bool = False) -> Mended | None:
    r"""The body with U+FFFD and null in place of what cannot be read; None when there is too much of it.

    Args:
        body: Without a byte order mark.
        distinct: Whether to write what cannot be read as an escape instead of U+FFFD, so that texts which differ stay
            different: `\ud83d`, `\xff`, `\!` for a backslash that begins no escape, `\\` for one that was meant.
    """
    text = body.decode("utf-8", "surrogateescape" if distinct else "replace").encode("utf-8", "surrogatepass")
    if distinct and _too_many_are_odd(body, text):
        return None
    # Now each backslash that is left begins an escape, and each quote that is left begins or ends a text.
    text = text.replace(rb"\\", _BACKSLASH).replace(rb"\"", _QUOTE)
    text, escapes = BAD_ESCAPE.subn(_escaped if distinct else REPLACEMENT_BYTES, text, count=MAX_UNREADABLE)
    if escapes >= MAX_UNREADABLE or text.count(b'"') > MAX_QUOTES:
        return None
    parts = text.split(b'"')
    parts[0::2] = _without_odd_numbers(b'"'.join(parts[0::2])).split(b'"')
    if len(parts) > 1:
        inside = b'"'.join(parts[1::2])
        inside = _distinct(inside) if distinct else inside.translate(_MARK_CONTROLS)
        parts[1::2] = inside.split(b'"')
    text = b'"'.join(parts).replace(_CONTROL_MARK, REPLACEMENT_BYTES)
    text = text.replace(_BACKSLASH, rb"\\\\" if distinct else rb"\\").replace(_QUOTE, rb"\"").replace(_ESCAPE, rb"\\")
    return Mended(text.replace(_NUMBER, b"null"), text.replace(_NUMBER, b'"' + REPLACEMENT_BYTES + b'"'))


def _too_many_are_odd(body: bytes, text: bytes) -> bool:
    """Whether to write each of them as an escape, in Python, would take long: bytes that are no UTF-8, control characters."""
    controls = len(body) - len(body.translate(None, _CONTROLS))
    return controls > MAX_UNREADABLE or len(text) - len(body) > (_ODD_BYTE_LENGTH - 1) * MAX_UNREADABLE


def _distinct(inside: bytes) -> bytes:
    """What stands in texts, with an escape for each odd byte and control character; each backslash that was meant is marked."""
    inside = inside.replace(rb"\u005c", _BACKSLASH).replace(rb"\u005C", _BACKSLASH)
    return _CONTROL.sub(_escaped_control, _ODD_BYTE.sub(_escaped_byte, inside))


def _without_odd_numbers(outside: bytes) -> bytes:
    """What is outside texts, with a mark in place of each number that cannot be held."""
    pieces: list[bytes] = []
    end = looked_at = 0
    for found in _NUMBERS.finditer(outside):
        if found.lastindex is None:
            continue
        looked_at += 1
        if looked_at > MAX_ODD_NUMBERS:
            break
        if _is_odd(found[0]):
            pieces += (outside[end : found.start()], _NUMBER)
            end = found.end()
    return b"".join((*pieces, outside[end:]))


def _is_odd(text: bytes) -> bool:
    if _SYNTAX.fullmatch(text) is None:
        return False  # no number of JSON's: it stays, and the body is not JSON
    if len(text) > MAX_DIGITS:
        return True
    return not (text.lstrip(b"-").isdigit() or isfinite(float(text)))


def _escaped(found: re.Match[bytes]) -> bytes:
    return _ESCAPE + (found[1] or b"!")


def _escaped_byte(found: re.Match[bytes]) -> bytes:
    low = (found[1][0] & 0x3) << 6 | found[2][0] & 0x3F
    return _ESCAPE + b"x%02x" % low


def _escaped_control(found: re.Match[bytes]) -> bytes:
    return _ESCAPE + b"x%02x" % found[0][0]

r"""The JSON in a JSON text: `"{\"userNo\": …}"`, what can be read of it.

What the text itself says without doubt is read as it is, control characters included. What cannot be read in it (half of a
surrogate pair, bytes that are no UTF-8, a broken escape) becomes bytes that are no UTF-8 in the JSON, others for each. So the
JSON is as unreadable there as the text was, for the reading of plain JSON to tell: U+FFFD, a violation, ids that stay apart.
"""

from __future__ import annotations

import json
import re

import msgspec

from schemas.providers.mending import BAD_ESCAPE, MAX_UNREADABLE

_text_decoder = msgspec.json.Decoder(str)
_lenient_decoder = json.JSONDecoder(strict=False)
_WHITE_SPACE = b" \t\r\n"

# Of a character of three or four bytes all but the last: one unreadable character, whatever follows.
_ODD_BYTE = ((b"\xed\xb2", b"\xe1"), (b"\xed\xb3", b"\xe2"))
"""How Python writes a byte that is no UTF-8 (U+DC80 to U+DCFF), and what becomes of that."""
_BROKEN_ESCAPE = b"\xe3\x80"
_NOISE = b"\xc0"
"""No part of any character."""
_FIRST_HALF = 0xD800

# Bytes that UTF-8 never has, as marks while the text is taken apart.
_BACKSLASH, _QUOTE = b"\xff\xff", b"\xfe\xfe"
_WITHOUT_MARKS = bytes.maketrans(b"\xfe\xff", _NOISE * 2)


def inner_json(body: bytes) -> bytes | None:
    """The JSON in the JSON text that the body is; None when it is none, or when more than `MAX_UNREADABLE` escapes are broken.

    Args:
        body: Without a byte order mark.
    """
    try:
        return _text_decoder.decode(body).encode()
    except (msgspec.MsgspecError, UnicodeDecodeError, ValueError):
        pass
    text = body.strip(_WHITE_SPACE)
    if text[:1] != b'"':
        return None
    text, tell_apart = _marked(text)
    text = text.replace(rb"\\", _BACKSLASH).replace(rb"\"", _QUOTE)
    text, escapes = BAD_ESCAPE.subn(_unreadable if tell_apart else _NOISE, text, count=MAX_UNREADABLE)
    if escapes >= MAX_UNREADABLE:
        return None
    text = text.replace(_BACKSLASH, rb"\\").replace(_QUOTE, rb"\"")
    try:
        found: str = _lenient_decoder.decode(text.decode("utf-8", "surrogateescape"))
        return found.encode("utf-8", "surrogateescape")
    except ValueError:
        return None


def _marked(text: bytes) -> tuple[bytes, bool]:
    """The text with two bytes in place of each byte that is no UTF-8; and whether these were few enough for that.

    Where they are too many nobody tells ids apart by them: they stay as they are, without those that are marks here.
    """
    marked = text.decode("utf-8", "surrogateescape").encode("utf-8", "surrogatepass")
    if len(marked) - len(text) > 2 * MAX_UNREADABLE:
        return text.translate(_WITHOUT_MARKS), False
    for python, ours in _ODD_BYTE:
        marked = marked.replace(python, ours)
    return marked, True


def _unreadable(found: re.Match[bytes]) -> bytes:
    if not found[1]:
        return _BROKEN_ESCAPE
    half = int(found[1][1:], 16) - _FIRST_HALF
    return bytes([0xF1, 0x80 | half >> 6, 0x80 | half & 0x3F])

r"""JSON of which some values cannot be read, written anew as its sender may have signed it.

What cannot be read in a text is kept as marks while the body is taken apart: U+DC00 and the byte that was sent, which no text
that can be read has. These are the backslash of an escape that is none or is half of a surrogate pair, control characters, and
bytes that are no UTF-8. Which bytes stood for them under the signature is not known, so the few forms are tried that writers of
JSON give them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from itertools import chain, islice, zip_longest

from ingress.signatures.sorted_json import NotAnObjectError, Number, Value, text_of
from schemas.providers.body import require_bounded
from schemas.providers.mending import BAD_ESCAPE, MAX_QUOTES, MAX_UNREADABLE, REPLACEMENT_BYTES

MAX_FORMS = 3
"""Ways to write one body: each costs a copy, and a hash for each secret."""

_MARK = 0xDC00
_NO_ASCII = 0x80
_BACKSLASH, _QUOTE = "\ud800", "\ud801"  # for escaped ones; a decoded text has neither
_BAD = re.compile(BAD_ESCAPE.pattern.decode())
_CONTROL = re.compile(r"[\x00-\x1f]")
_BYTE_MARK = re.compile("[\udc80-\udcff]")
_UNREADABLE = re.compile("([\udc00-\udcff](?:(?<=\udc5c)u[dD][89a-fA-F][0-9a-fA-F]{2}|(?<=[\udc80-\udcff])[\udc80-\udcff]+)?)")
"""Half of a surrogate pair, bytes that are no UTF-8, or another mark."""


def parse_marked(body: bytes) -> dict[str, Value]:
    """The JSON object that the body is, with marks for what cannot be read in texts; `NaN` and the like are numbers.

    Raises:
        NotAnObjectError: Its structure is not sound, it is not an object, nested too deeply, has too many values, or more than
            `MAX_UNREADABLE` marks of a kind.
    """
    try:
        require_bounded(body)
        text = body.decode("utf-8", "surrogateescape").removeprefix("\ufeff")
        value = json.loads(_marked(text), parse_int=Number, parse_float=Number, parse_constant=Number)
    except (ValueError, RecursionError):
        raise NotAnObjectError from None
    if not isinstance(value, dict):
        raise NotAnObjectError
    return value


def _marked(text: str) -> str:
    text = text.replace(r"\\", _BACKSLASH).replace(r"\"", _QUOTE)
    text, escapes = _BAD.subn(chr(_MARK + ord("\\")) + r"\1", text, count=MAX_UNREADABLE)
    if escapes == MAX_UNREADABLE or text.count('"') > MAX_QUOTES:
        raise NotAnObjectError
    parts = text.split('"')
    inside, controls = _CONTROL.subn(_mark, '"'.join(parts[1::2]), count=MAX_UNREADABLE)
    if controls == MAX_UNREADABLE or next(islice(_BYTE_MARK.finditer(text), MAX_UNREADABLE, None), None):
        raise NotAnObjectError
    if len(parts) > 1:
        parts[1::2] = inside.split('"')
    return '"'.join(parts).replace(_BACKSLASH, r"\\").replace(_QUOTE, r"\"")


def written_forms(value: Mapping[str, Value]) -> tuple[bytes, ...]:
    r"""At most `MAX_FORMS` ways in which the object, sorted and without white space, may have been signed.

    | | half of a surrogate pair | bytes that are no UTF-8 | control characters |
    | --- | --- | --- | --- |
    | as sent | its escape | the bytes | themselves |
    | as most languages write it | U+FFFD | U+FFFD | escapes |
    | as Java writes it, and ISO-8859-1 | `?` | the characters that ISO-8859-1 has for them | escapes |

    Raises:
        NotAnObjectError: It is nested too deeply.
    """
    # What can be read, with what cannot in between.
    parts = _UNREADABLE.split(text_of(value))
    forms_of = {part: _forms_of(part) for part in set(parts[1::2])}
    pieces = [part.encode("utf-8", "replace") for part in parts[::2]]
    forms = []
    for form in range(MAX_FORMS):
        between = (forms_of[part][form] for part in parts[1::2])
        forms.append(b"".join(chain.from_iterable(zip_longest(pieces, between, fillvalue=b""))))
    return tuple(dict.fromkeys(forms))


def _forms_of(unreadable: str) -> tuple[bytes, bytes, bytes]:
    if unreadable[1:2] == "u":
        return b"\\" + unreadable[1:].encode(), REPLACEMENT_BYTES, b"?"
    sent = bytes(ord(mark) - _MARK for mark in unreadable)
    if sent[0] >= _NO_ASCII:
        return sent, sent.decode("utf-8", "replace").encode(), sent.decode("latin-1").encode()
    if sent == b"\\":
        return sent, sent, sent
    escaped = json.dumps(sent.decode())[1:-1].encode()
    return sent, escaped, escaped


def _mark(found: re.Match[str]) -> str:
    return chr(_MARK + ord(found[0]))

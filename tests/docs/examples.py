"""Holding what a command printed against the example that the page shows.

In an example `…` stands for anything, also over lines. Times, ids, pseudonyms, fractions and ports are another each time:
they are compared by their form. Everything else, whole numbers too, must be as the page says; white space and the lines of
tables do not count.
"""

from __future__ import annotations

import re

_FORMS: tuple[tuple[str, str], ...] = (
    (r"\d{4}-\d\d-\d\d(?:T\d\d:\d\d:\d\d(?:\.\d+)?Z?)?", "TIME"),
    (r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "ID"),
    (r"\bv\d+\.[a-z2-7]{26}\b", "PSEUDONYM"),
    (r"127\.0\.0\.1:\d+", "ADDRESS"),
    (r"\b\d+\.\d+(?:e-?\d+)?\b", "FRACTION"),
    # A fraction that happens to be whole, alone in a cell of seconds, is not worth a rule: examples show fractions.
)
_TABLE_LINES = re.compile(r"[━╇┃│─┼|]+")
_SPACE = re.compile(r"\s+")


def normalised(text: str) -> str:
    """The text with what changes each time replaced by its form."""
    for pattern, form in _FORMS:
        text = re.sub(pattern, form, text)
    return _SPACE.sub(" ", _TABLE_LINES.sub(" ", text)).strip()


def same_shape(example: str, printed: str) -> bool:
    """Whether a printed table has the header and as many rows as the example."""
    shown, found = example.strip().splitlines(), printed.strip().splitlines()
    return bool(found) and len(shown) == len(found) and normalised(shown[0]) == normalised(found[0])


def matches(example: str, printed: str) -> bool:
    """Whether the printed text is as the example shows."""
    parts = [re.escape(normalised(part)) for part in example.split("…")]
    return re.fullmatch(r"\s*" + r".*?".join(parts) + r"\s*", normalised(printed), re.DOTALL) is not None

"""Headers with more than one signature: a sender that changes its secret signs with the old and the new one for a while.

They stand in one header, separated by commas or white space, or in header lines of their own.
"""

from __future__ import annotations

import re

from multidict import MultiMapping

MAX_SIGNATURES = 16
"""Signatures of one request that are tried: a key rotation sends two or three."""

_BETWEEN = re.compile(r"[,\s]+")


def header_lines(headers: MultiMapping[str], name: str) -> list[str]:
    """The values of all lines of a header."""
    return headers.getall(name, [])


def listed(lines: list[str], prefix: str = "") -> list[str]:
    """The values listed in the lines of a header, each without its prefix; values without the prefix are left out.

    A prefix may hold white space or a comma itself, as `HMAC-SHA256 `.
    """
    found = []
    for line in lines:
        # What stands before the first prefix has none.
        parts = line.split(prefix)[1:] if prefix else _BETWEEN.split(line)
        found += [_BETWEEN.split(part.strip(), maxsplit=1)[0] for part in parts]
    return [value for value in found if value]

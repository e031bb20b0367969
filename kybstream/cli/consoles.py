"""The consoles that tables and pages are printed on.

Rich would turn `:100:` into an emoji and `[red]` into a colour, in a pipe, too. Ids of senders hold both, and two that
differ must not look the same. What is to be bold is a `Text`.
"""

from __future__ import annotations

import sys

from rich.console import Console

_UNCUT = 10_000


def plain_console(*, width: int | None = None, stderr: bool = False) -> Console:
    """A console that prints text as it is: no markup, no emoji, no highlights."""
    return Console(width=width, stderr=stderr, markup=False, emoji=False, highlight=False)


def table_console() -> Console:
    """As `plain_console`, for a table: as wide as the terminal; into a file or a pipe nothing is cut or folded."""
    if sys.stdout.isatty():
        return plain_console()
    return Console(width=_UNCUT, soft_wrap=True, markup=False, emoji=False, highlight=False)

"""Markdown for the generated pages: tables, code, and what stands above them (`intros/`)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

_INTROS = Path(__file__).with_name("intros")


def intro(name: str) -> str:
    """What a page says before its tables; written by hand."""
    return (_INTROS / f"{name}.md").read_text(encoding="utf-8")


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; what would end a cell is written so that it does not."""
    lines = [_row(head), "| " + " | ".join("---" for _ in head) + " |", *(_row(row) for row in rows)]
    return "\n".join(lines)


def code(text: str) -> str:
    """The text as code, or nothing when there is none."""
    return f"`{text}`" if text else ""


def prose(text: str) -> str:
    """A sentence of ours, in which `<tenant>` is not an HTML tag."""
    parts = text.split("`")
    # Outside of backticks only.
    parts[::2] = [part.replace("<", "&lt;").replace(">", "&gt;") for part in parts[::2]]
    return "`".join(parts)


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"

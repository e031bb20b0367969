"""The pages of the documentation, and what is in them: fenced blocks, links, headings, inline code."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

_FENCE = re.compile(r"^(?P<indent> *)```(?P<language>[a-z]*)[ \t]*$")
_LINK = re.compile(r"(?<!!)\[[^\]]*\]\((?P<target>[^)\s]+)\)")
_HEADING = re.compile(r"^#{1,6} +(?P<text>.+?)\s*$")
_INLINE_CODE = re.compile(r"`([^`\n]+)`")


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        page: The page's path below the project's folder.
        line: Where its content begins, from 1.
        language: What follows the three backticks; `sh` is run, `text` shows what a command prints.
        text: Its content.
    """

    page: str
    line: int
    language: str
    text: str

    @property
    def where(self) -> str:
        """As editors take it."""
        return f"{self.page}:{self.line}"


def all_pages() -> list[Path]:
    """README.md and every page under docs/."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def name_of(page: Path) -> str:
    """The page's path below the project's folder."""
    return page.relative_to(ROOT).as_posix()


def blocks(page: Path) -> list[Block]:
    """The fenced blocks, in order."""
    found: list[Block] = []
    opened: tuple[int, str, str] | None = None
    content: list[str] = []
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), start=1):
        fence = _FENCE.match(line)
        if opened is None and fence:
            opened, content = (number + 1, fence["language"], fence["indent"]), []
        elif opened is not None and fence and not fence["language"]:
            found.append(Block(name_of(page), opened[0], opened[1], "\n".join(content) + "\n"))
            opened = None
        elif opened is not None:
            content.append(line.removeprefix(opened[2]))
    if opened is not None:
        raise AssertionError(f"{name_of(page)}:{opened[0]}: the block has no end")
    return found


def prose(page: Path) -> str:
    """The page without its fenced blocks."""
    kept, inside = [], False
    for line in page.read_text(encoding="utf-8").splitlines():
        if _FENCE.match(line):
            inside = not inside
        elif not inside:
            kept.append(line)
    return "\n".join(kept)


def links(page: Path) -> list[str]:
    """Targets of the page's links."""
    return [match["target"] for match in _LINK.finditer(prose(page))]


def anchors(page: Path) -> set[str]:
    """What a link to a heading of the page may name, as GitHub makes it."""
    found: set[str] = set()
    for line in prose(page).splitlines():
        heading = _HEADING.match(line)
        if heading:
            text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading["text"]).lower()
            found.add(re.sub(r"[^\w\- ]", "", text).replace(" ", "-"))
    return found


def inline_code(page: Path) -> list[str]:
    """What stands between single backticks."""
    return _INLINE_CODE.findall(prose(page))

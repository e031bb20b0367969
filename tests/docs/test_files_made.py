"""What the pages' commands make in the project's folder does not get into a commit: some of it is secret."""

from __future__ import annotations

import re
import subprocess

import pytest

from tests.docs.pages import ROOT, all_pages, blocks, name_of

_NAME = r"(?P<name>[A-Za-z_.][A-Za-z0-9._/-]*)"
_MADE = [
    re.compile(pattern + _NAME, re.MULTILINE)
    for pattern in (
        r"(?<![<&>])> *",
        r"^cp +\S+ +",
        r"--(?:data-dir|ready-file|html)[ =]",
        r"\bmkdir +(?:-p +)?",
        r"\btee +",
        r"\bkyb-stream export +(?:xes|ocel|csv) +(?:--[a-z-]+ +\S+ +)*",
    )
]


def _files_made() -> dict[str, str]:
    """Path of each, and the page whose command makes it."""
    return {
        match["name"]: name_of(page)
        for page in all_pages()
        for block in blocks(page)
        if block.language == "sh"
        for pattern in _MADE
        for match in pattern.finditer(re.sub(r"<<END\n.*?\nEND$", "", block.text, flags=re.DOTALL | re.MULTILINE))
    }


def test_the_walk_finds_files_of_every_kind() -> None:
    """Redirected, copied, named by an option or as an argument; in nested folders and in hidden files."""
    wanted = {
        "secrets.env", "kyb-stream.toml", "stand-ins/broker", "stand-ins/clickhouse", ".env", "signed.toml", "ingress.ready",
        "report.html", "cases.xes.gz", "settled.xes", "cases.json", "initiated.json", "capture.http",
    }  # fmt: skip
    assert wanted <= _files_made().keys()


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="not a clone")
def test_git_ignores_what_the_pages_make() -> None:
    """Each file, and what is tracked is not ignored."""
    made = _files_made()
    asked = subprocess.run(
        ["git", "check-ignore", "--no-index", *made], cwd=ROOT, capture_output=True, text=True, check=False, timeout=30
    )
    ignored = set(asked.stdout.splitlines())
    assert {name: page for name, page in made.items() if name not in ignored} == {}
    tracked = ["git", "ls-files", "--cached", "--ignored", "--exclude-standard"]
    assert subprocess.run(tracked, cwd=ROOT, capture_output=True, text=True, check=True, timeout=30).stdout == ""

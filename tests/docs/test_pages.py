"""The pages name what is there: files, commands, options, settings, tests; and nothing of the machine they come from."""

from __future__ import annotations

import re
import shlex
import socket
from pathlib import Path

import pytest
from pydantic import BaseModel

from kybstream.settings import EncryptionKey, Settings, SourceSettings, TenantSettings
from tests.docs.commands_page import options_by_command
from tests.docs.pages import ROOT, all_pages, anchors, blocks, inline_code, links, name_of, prose

PAGES = [pytest.param(page, id=name_of(page)) for page in all_pages()]

# Options of other programs that the pages name on their own.
_OTHER_PROGRAMS = {"--data-binary", "--scale", "--extra"}
_SETTING = re.compile(r"(kafka|clickhouse|ingress|worker|sink|tenants|sources|encryption)(\.[a-z_]+)+")
_VARIABLE = re.compile(r"KYB_STREAM_[A-Z][A-Z0-9_]*")
_TEST = re.compile(r"`(test_\w+)`")
_OPTION = re.compile(r"^--[a-z][a-z-]+")
_LONGEST_LINE = 160


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: Path) -> None:
    """Every relative link names a file of the project, and its anchor a heading there."""
    for target in links(page):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{name_of(page)}: {target}"
        assert file.is_relative_to(ROOT), f"{name_of(page)}: {target} leads out of the project"
        if anchor:
            assert anchor in anchors(file), f"{name_of(page)}: {target}: there is no such heading"


def test_every_page_can_be_found() -> None:
    """docs/index.md leads to every page of docs/."""
    index = ROOT / "docs" / "index.md"
    led_to = {(index.parent / target.partition("#")[0]).resolve() for target in links(index)}
    for page in (ROOT / "docs").rglob("*.md"):
        assert page == index or page in led_to, f"docs/index.md does not lead to {name_of(page)}"


@pytest.mark.parametrize("page", PAGES)
def test_commands_and_options_exist(page: Path) -> None:
    """Whatever a page says of `kyb-stream`, in a block or in a sentence, is a command with these options."""
    known = options_by_command()
    for line in _commands(page):
        words = _words(line)
        path = _longest_command(words, known)
        given = {match[0] for word in words if (match := _OPTION.match(word))}
        assert given <= known[path] | known["kyb-stream"], f"{name_of(page)}: {line}: {given - known[path]}"
        is_group = any(other.startswith(f"{path} ") for other in known)
        next_word = words[len(path.split())] if len(words) > len(path.split()) else ""
        assert not (is_group and re.match(r"[a-z]", next_word)), f"{name_of(page)}: {line}: no such command"
    everything = frozenset().union(*known.values()) | _OTHER_PROGRAMS
    for code in inline_code(page):
        if _OPTION.match(code) and page.name != "docker-compose.md":
            assert code.split()[0] in everything, f"{name_of(page)}: {code}"


def _commands(page: Path) -> list[str]:
    # In a script lines go on behind a backslash.
    scripts = [block.text.replace("\\\n", " ") for block in blocks(page) if block.language == "sh"]
    lines = [line for script in scripts for line in script.splitlines()]
    lines += inline_code(page)
    found = [match[0] for line in lines for match in re.finditer(r"(?<![\w/-])kyb-stream [a-z-].*", line)]
    # What the shell would make of the rest is not ours.
    return [re.split(r"\)|\||;|\"\)", line.replace("…", " "))[0] for line in found]


def _words(line: str) -> list[str]:
    try:
        return shlex.split(line)
    except ValueError:  # a quotation that goes on in the next line
        return line.split()


def _longest_command(words: list[str], known: dict[str, frozenset[str]]) -> str:
    candidates = [" ".join(words[:length]) for length in (3, 2, 1)]
    return next(candidate for candidate in candidates if candidate in known)


@pytest.mark.parametrize("page", PAGES)
def test_settings_exist(page: Path) -> None:
    """Keys such as `ingress.port` and variables such as KYB_STREAM_INGRESS__PORT are of the settings."""
    for code in inline_code(page):
        key = code.partition(" ")[0]
        if _SETTING.fullmatch(key) and not key.endswith((".sql", ".ready", ".log", ".v1", ".py")):
            assert _has_key(key.split(".")), f"{name_of(page)}: {key}"
    for name in _VARIABLE.findall(page.read_text(encoding="utf-8")):
        path = [part.lower() for part in name.removeprefix("KYB_STREAM_").split("__") if part and not part.isdigit()]
        assert path == ["config"] or _has_key(path) or name.endswith("_"), f"{name_of(page)}: {name}"


def _has_key(path: list[str]) -> bool:
    model: type[BaseModel] | None = Settings
    tables: dict[str, type[BaseModel]] = {"tenants": TenantSettings, "sources": SourceSettings}
    for part in path:
        if model is None or part not in model.model_fields:
            return False
        annotation = model.model_fields[part].annotation
        inner = annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None
        model = tables.get(part) or (EncryptionKey if part == "keys" else inner)
    return True


def test_tests_that_are_named_exist() -> None:
    """A test that guarantees.md names as evidence is there."""
    code = "\n".join(file.read_text(encoding="utf-8") for file in (ROOT / "tests").rglob("test_*.py"))
    for page in all_pages():
        for name in _TEST.findall(page.read_text(encoding="utf-8")):
            assert f"def {name}(" in code, f"{name_of(page)}: {name}"


@pytest.mark.parametrize("page", PAGES)
def test_nothing_of_this_machine(page: Path) -> None:
    """No folder, no host and no user of the machine on which the page was written."""
    text = page.read_text(encoding="utf-8")
    own = {str(ROOT), str(Path.home()), "/home/", "/root/", "/Users/", "/tmp/", "../shared"}  # noqa: S108 (looked for, not used)
    if len(socket.gethostname()) > len("localhost"):
        own.add(socket.gethostname())
    for part in own:
        assert part not in text, f"{name_of(page)}: {part}"


@pytest.mark.parametrize("page", PAGES)
def test_pages_can_be_read_as_text(page: Path) -> None:
    """One title, and no line of prose that a terminal shows badly (tables, commands and links aside)."""
    titles = [line for line in prose(page).splitlines() if line.startswith("# ")]
    assert len(titles) == 1, f"{name_of(page)} has {len(titles)} titles"
    if page.parent.name == "reference":  # generated, or all tables
        return
    for line in prose(page).splitlines():
        assert line.startswith("|") or len(line) <= _LONGEST_LINE, f"{name_of(page)}: {line}"

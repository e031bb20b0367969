"""`make install` after it was cut off, and without a package index."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

_PYTHON = """#!/bin/sh
echo "python $*" >> "$FAKE_LOG"
case "$*" in
  "-m venv --clear .venv") mkdir -p .venv/bin && cp "$FAKE_PYTHON" .venv/bin/python && touch .venv/pip ;;
  "-m pip --version") test -e .venv/pip ;;
  "-m pip install"*) test -z "$FAKE_OFFLINE" && cp "$FAKE_UV" .venv/bin/uv ;;
esac
"""
_UV = """#!/bin/sh
echo "uv $*" >> "$FAKE_LOG"
"""
"""Programs that do what the real ones do as far as the Makefile can see, without a package index."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A clone's Makefile and locks, and a Python and a uv that write down how they are called."""
    folder = tmp_path / "clone"
    folder.mkdir()
    for name in ("Makefile", "pyproject.toml", "requirements.lock", "requirements-dev.lock"):
        shutil.copy(ROOT / name, folder / name)
    for name, text in (("python", _PYTHON), ("uv", _UV)):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    return folder


def install(folder: Path, *, offline: bool = False) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    """Runs it; what it said, and which programs it called."""
    tools = folder.parent
    log = tools / "log"
    log.write_text("")
    env = {"PATH": "/usr/bin:/bin", "FAKE_LOG": str(log), "FAKE_PYTHON": str(tools / "python"), "FAKE_UV": str(tools / "uv")}
    if offline:
        env["FAKE_OFFLINE"] = "1"
    done = subprocess.run(
        ["make", "install", f"PYTHON={tools / 'python'}"], cwd=folder, env=env, capture_output=True, text=True, check=False
    )
    return done, log.read_text().splitlines()


def test_a_first_install_says_what_it_does(folder: Path) -> None:
    """Once: when all is there, nothing is called."""
    done, calls = install(folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert "some 1 GB" in done.stdout
    assert [call for call in calls if "pip install" in call and call.startswith("uv")] != []
    done, calls = install(folder)
    assert (done.returncode, calls) == (0, [])


@pytest.mark.parametrize("left", [(), ("python",), ("python", "uv")])
def test_a_venv_that_was_cut_off_is_made_anew(folder: Path, left: tuple[str, ...]) -> None:
    """A folder, a Python without pip, or the beginning of a uv: what Ctrl-C can leave."""
    (folder / ".venv/bin").mkdir(parents=True)
    if "python" in left:
        shutil.copy(folder.parent / "python", folder / ".venv/bin/python")
    if "uv" in left:
        (folder / ".venv/bin/uv").write_bytes(b"\x7fELF")
        (folder / ".venv/bin/uv").chmod(0o755)
    done, calls = install(folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert "python -m venv --clear .venv" in calls


def test_without_a_package_index_one_line_says_so(folder: Path) -> None:
    """And the same command goes on later."""
    done, _ = install(folder, offline=True)
    assert done.returncode != 0
    assert done.stdout.splitlines()[-1].startswith("not installed: is the package index within reach?")
    done, calls = install(folder)
    assert done.returncode == 0
    assert "python -m venv --clear .venv" not in calls

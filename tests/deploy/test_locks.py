"""What is installed: users get neither the tools of development nor their licences, and both locks agree."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
_PINNED = re.compile(r"^([a-z0-9.-]+)==(\S+?)(?: ; (.*?))? \\$", re.MULTILINE)
_NAME = re.compile(r"^[A-Za-z0-9._-]+")


def _pins(lock: str) -> set[tuple[str, ...]]:
    return set(_PINNED.findall((ROOT / lock).read_text()))


def _names(requirements: list[str]) -> set[str]:
    return {found[0] for each in requirements if (found := _NAME.match(each))}


def test_users_get_nothing_of_the_tools() -> None:
    """No tool of `dev`, and so no AGPL; all that the application and its embedded servers name; the same versions."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    users = {pin[0] for pin in _pins("requirements.lock")}
    assert _pins("requirements.lock") < _pins("requirements-dev.lock")
    assert users & _names(extras["dev"]) == set()
    assert _names([*project["dependencies"], *extras["embedded"], *extras["otel"], *extras["build"]]) <= users
    assert _names(extras["dev"]) <= {pin[0] for pin in _pins("requirements-dev.lock")}


def test_what_users_run_installs_the_lock_of_users(tmp_path: Path) -> None:
    """`make demo` needs `make install` alone, `make test` the tools, and a folder may have a space in its name."""
    folder = tmp_path / "a folder"
    folder.mkdir()
    for name in ("Makefile", "pyproject.toml", "requirements.lock", "requirements-dev.lock"):
        (folder / name).write_bytes((ROOT / name).read_bytes())
    told = {}
    for target in ("demo", "test"):
        done = subprocess.run(["make", "-n", target], cwd=folder, capture_output=True, text=True, check=True)
        told[target] = done.stdout
    assert "requirements-dev.lock" not in told["demo"]
    assert "-r requirements-dev.lock" in told["test"]
    assert all(f'VIRTUAL_ENV="{folder}/.venv"' in each for each in told.values())

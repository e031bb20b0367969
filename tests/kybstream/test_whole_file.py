from __future__ import annotations

import gzip
import os
import stat
from pathlib import Path

import pytest

from kybstream.errors import RunError, UsageError
from kybstream.operations.whole_file import whole_file


def _names(folder: Path) -> list[str]:
    return sorted(each.name for each in folder.iterdir())


def test_a_file_has_its_name_only_when_it_is_whole(tmp_path: Path) -> None:
    """While it is written the former one stands; then it takes its place, as readable as other files."""
    path = tmp_path / "f"
    path.write_bytes(b"former")
    with whole_file(str(path)) as file:
        file.write(b"new")
        assert path.read_bytes() == b"former"
    assert (path.read_bytes(), _names(tmp_path)) == (b"new", ["f"])
    mask = os.umask(0o022)
    os.umask(mask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~mask


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_nothing_is_left_of_what_was_broken_off(tmp_path: Path, error: type[BaseException]) -> None:
    """By an error or by Ctrl-C: the former file stands, no other is there."""
    path = tmp_path / "f"
    path.write_bytes(b"former")

    def write_half() -> None:
        with whole_file(str(path)) as file:
            file.write(b"half")
            raise error

    with pytest.raises(error):
        write_half()
    assert (path.read_bytes(), _names(tmp_path)) == (b"former", ["f"])


def test_a_symbolic_link_stays_one(tmp_path: Path) -> None:
    """What it leads to is replaced."""
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "there" / "f")
    with whole_file(str(tmp_path / "link")) as file:
        file.write(b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "there" / "f").read_bytes() == b"new"


def test_compressed_by_its_ending(tmp_path: Path) -> None:
    """And the same bytes each time: no time of day is in it."""
    for name in ("a.gz", "b.gz"):
        with whole_file(str(tmp_path / name)) as file:
            file.write(b"new")
    assert gzip.decompress((tmp_path / "a.gz").read_bytes()) == b"new"
    assert (tmp_path / "a.gz").read_bytes() == (tmp_path / "b.gz").read_bytes()


def test_what_can_be_no_file_is_said(tmp_path: Path) -> None:
    """A folder, a place that is not there."""
    with pytest.raises(UsageError, match="is no file"), whole_file(str(tmp_path)):
        pass
    with pytest.raises(UsageError, match="No such file"), whole_file(str(tmp_path / "x" / "y")):
        pass
    assert _names(tmp_path) == []


def test_a_full_disk_is_said(tmp_path: Path) -> None:
    """An error of the operating system is told as ours, and the part is removed."""
    with pytest.raises(RunError, match="cannot be written: No space left"), whole_file(str(tmp_path / "f")):
        raise OSError(28, "No space left on device")
    assert _names(tmp_path) == []

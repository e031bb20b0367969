"""What a failed command owes its user, and small configurations to run commands with."""

from __future__ import annotations

from pathlib import Path

from tests.support.commands import Finished
from tests.support.stack import Ports, write_stack_configuration


def failed_clearly(done: Finished, exit_code: int, *parts: str) -> bool:
    """Whether a command ended with this code and told one sentence with these parts in it, and no traceback.

    Raises:
        AssertionError: It did not; the message shows what it told.
    """
    lines = [line for line in done.err.splitlines() if line.startswith("error: ")]
    assert done.exit_code == exit_code, done
    assert "Traceback" not in done.out + done.err, done
    assert len(lines) == 1, done
    missing = [part for part in parts if part not in lines[0]]
    assert not missing, f"{missing} not in {lines[0]!r}"
    return True


def lonely_configuration(folder: Path) -> Path:
    """A configuration whose addresses nobody listens on."""
    return write_stack_configuration(folder / "lonely.toml", Ports.free())

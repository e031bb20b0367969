"""What the embedded servers share with other processes: folders, ports; and the waiting of the tests."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.embedded import ports
from deploy.embedded.ports import free_port, require_free_port
from kybstream.errors import RunError
from kybstream.folder_lock import lock_folder
from tests.support.waiting import wait_until


def test_folder_belongs_to_one_process_and_is_free_after_its_end(tmp_path: Path) -> None:
    """A second process is refused with the first one's id; the lock goes with its holder, even a SIGKILLed one."""
    folder = tmp_path / "data"
    code = (
        "import sys, signal; from pathlib import Path; from kybstream.folder_lock import take_folder\n"
        "take_folder(Path(sys.argv[1])); print('locked', flush=True); signal.pause()"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(folder)], stdout=subprocess.PIPE) as holder:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == b"locked\n"
            with pytest.raises(RunError, match=rf"^{folder} is in use by process {holder.pid}$"), lock_folder(folder):
                pass
        finally:
            holder.kill()
    with lock_folder(folder):
        pass
    with lock_folder(folder):
        pass


def test_folder_that_cannot_be_made_is_a_clear_error(tmp_path: Path) -> None:
    """A file in the way is named."""
    (tmp_path / "file").touch()
    with (
        pytest.raises(RunError, match=r"the folder .*/file/data cannot be used: Not a directory"),
        lock_folder(tmp_path / "file" / "data"),
    ):
        pass


def test_port_in_use_is_one_clear_sentence() -> None:
    """It names the port, who wants it, and (where the system tells) who has it."""
    with socket.create_server(("127.0.0.1", free_port())) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(RunError, match=rf"^port {port} for the ingress is in use( by process {os.getpid()})?$"):
            require_free_port("127.0.0.1", port, "the ingress")
    require_free_port("127.0.0.1", port, "the ingress")


def test_free_port_is_given_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who asks for several ports and listens on them afterwards has as many."""
    monkeypatch.setattr(ports, "_FIRST", 21_000)
    monkeypatch.setattr(ports, "_LAST", 21_019)
    monkeypatch.setattr(ports, "_given", set())
    assert len({free_port() for _ in range(15)}) == 15


def test_free_port_is_none_the_kernel_gives_to_clients() -> None:
    """A client that retries a broker that is down must never be given the broker's port, and talk to itself."""
    assert all(1024 < free_port() < 32768 for _ in range(20))


async def test_wait_until_returns_the_value_or_says_what_did_not_come() -> None:
    """It takes functions and coroutine functions, and its failure names what was waited for and the last value."""
    values = iter([0, 0, 7])

    async def later() -> int:
        return next(values)

    assert await wait_until(later, 5, "a seven") == 7
    with pytest.raises(AssertionError, match=r"not within 0.05 s: the moon \(last: None\)"):
        await wait_until(lambda: None, 0.05, "the moon")

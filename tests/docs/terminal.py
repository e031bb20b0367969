"""A reader with two terminals: one in which a page's commands are run one after the other, others for what keeps running."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from deploy.embedded.ports import free_port
from deploy.embedded.readiness import accepts_connections, http_ok
from deploy.embedded.tether import tethered
from tests.docs.pages import ROOT, Block
from tests.support.waiting import wait_until

_KEEPS_RUNNING = re.compile(
    r"^kyb-stream (?P<what>dev|ingress|worker|sink|embedded broker|embedded clickhouse)\b.*$", re.MULTILINE
)
_READY_FILE = re.compile(r"--ready-file (\S+)")
_PLACEHOLDER = re.compile(r"<the (?P<kind>kyb-service|kyc-registration) URL>")
_START_SECONDS = 90.0
_STOP_SECONDS = 20.0
_BLOCK_SECONDS = 90.0
# What a reader has beside the clone's files is none of his own settings.
_NOT_OURS = ("KYB_STREAM_", "VIRTUAL_ENV", "PYTEST_")


def keeps_running(block: Block) -> str | None:
    """Which component the block starts in the foreground, until Ctrl-C; None when it ends by itself."""
    match = _KEEPS_RUNNING.search(block.text)
    return match["what"] if match and "--help" not in match[0] and "--rebuild" not in match[0] else None


@dataclass
class Running:
    """A block that keeps running in a terminal of its own."""

    what: str
    block: Block
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def output(self) -> str:
        """What it has printed so far."""
        return self.log.read_text(encoding="utf-8")

    async def interrupt(self) -> None:
        """Ctrl-C, and the check that it ends well."""
        os.killpg(self.process.pid, signal.SIGINT)
        await wait_until(lambda: self.process.poll() is not None, _STOP_SECONDS, f"{self.block.where} ends on Ctrl-C")
        assert self.process.returncode == 0, f"{self.block.where} ended with {self.process.returncode}:\n{self.output}"


@dataclass
class Reader:
    """Someone who has the clone and follows a page to the letter, on ports of his own.

    Attributes:
        folder: The working folder: the clone's files by links, whatever the page makes beside them.
        ports: By what the pages call them: 8080, 8081, 8123, 9092.
    """

    folder: Path
    ports: Mapping[int, int] = field(default_factory=lambda: {port: free_port() for port in (8080, 8081, 8123, 9092)})
    running: dict[str, Running] = field(default_factory=dict)
    webhook_urls: dict[str, str] = field(default_factory=dict)
    _shell: subprocess.Popen[str] | None = None
    _count: int = 0

    def __post_init__(self) -> None:
        for entry in ROOT.iterdir():
            if entry.name not in {".git", ".venv", "kyb-stream-data", "kyb-stream.toml"}:
                (self.folder / entry.name).symlink_to(entry)
        (self.folder / ".venv").symlink_to(Path(sys.prefix))
        # As on a terminal, where curl shows no progress.
        (self.folder / ".curlrc").write_text("silent\nshow-error\n", encoding="utf-8")

    async def run(self, block: Block) -> str:
        """Runs a block as a reader does, and returns what it printed.

        One that keeps running gets a terminal of its own; an earlier one of the same component is ended with Ctrl-C first.

        Raises:
            AssertionError: A command of it failed.
        """
        what = keeps_running(block)
        if what is not None:
            return await self._start(what, block)
        return await asyncio.to_thread(self._run_in_shell, block)

    def fresh_terminal(self) -> None:
        """Closes the terminal of the commands; the next block gets a new one."""
        if self._shell is not None and self._shell.stdin is not None:
            self._shell.stdin.close()
            self._shell.wait(10)
            if self._shell.stdout is not None:
                self._shell.stdout.close()
            self._shell = None

    async def close(self) -> None:
        """Ends everything, the last started first."""
        self.fresh_terminal()
        try:
            for each in reversed(self.running.values()):
                await each.interrupt()
        finally:
            for each in self.running.values():
                if each.process.poll() is None:
                    os.killpg(each.process.pid, signal.SIGKILL)
                    each.process.wait()

    async def _start(self, what: str, block: Block) -> str:
        earlier = self.running.pop(what, None)
        if earlier is not None:
            await earlier.interrupt()
        self._count += 1
        log = self.folder / f".terminal-{self._count}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(  # noqa: ASYNC220 (it returns at once)
                # The whole block in one shell; the last command takes the shell's place, so that Ctrl-C reaches it.
                tethered([_bash(), "-euc", _with_exec(self._adapted(block.text))], orphan_signal=signal.SIGTERM),
                cwd=self.folder,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                process_group=0,
            )
        started = Running(what, block, process, log)
        self.running[what] = started

        async def ready() -> bool:
            assert process.poll() is None, f"{block.where} ended with {process.returncode}:\n{started.output}"
            return await self._is_ready(started)

        await wait_until(ready, _START_SECONDS, f"{block.where} is ready")
        if what == "dev":
            urls = re.findall(r"^  (kyb-service|kyc-registration) +(\S+)$", started.output, re.MULTILINE)
            self.webhook_urls = dict(urls)
        return started.output

    async def _is_ready(self, started: Running) -> bool:
        match started.what:
            case "dev":
                return "\nAsk:\n" in started.output
            case "embedded broker":
                return await accepts_connections("127.0.0.1", self.ports[9092])
            case "embedded clickhouse":
                return await http_ok(f"http://127.0.0.1:{self.ports[8123]}/ping")
        named = _READY_FILE.search(started.block.text)
        assert named, f"{started.block.where}: without --ready-file nobody can tell when it is ready"
        return (self.folder / named[1]).exists()

    def _run_in_shell(self, block: Block) -> str:
        if self._shell is None:
            self._shell = subprocess.Popen(
                [_bash(), "--noprofile", "--norc", "-e"],
                cwd=self.folder,
                env=self._environment(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        shell = self._shell
        assert shell.stdin is not None
        assert shell.stdout is not None
        self._count += 1
        script, log = self.folder / f".block-{self._count}.sh", self.folder / f".block-{self._count}.log"
        script.write_text(self._adapted(block.text), encoding="utf-8")
        shell.stdin.write(f". ./{script.name} </dev/null >{log.name} 2>&1\necho done\n")
        shell.stdin.flush()
        hung = threading.Timer(_BLOCK_SECONDS, shell.kill)
        hung.start()
        answer = shell.stdout.readline()
        hung.cancel()
        printed = log.read_text(encoding="utf-8")
        if answer != "done\n":
            self._shell = None
            shell.stdin.close()
            shell.stdout.close()
            raise AssertionError(f"{block.where}: a command failed with {shell.wait(10)}:\n{block.text}\nprinted:\n{printed}")
        return printed

    def _adapted(self, text: str) -> str:
        """What a reader changes: he pastes the URLs that `dev` printed, and uses his ports."""

        def pasted(match: re.Match[str]) -> str:
            return self.webhook_urls[match["kind"]]

        text = _PLACEHOLDER.sub(pasted, text)
        for documented, ours in self.ports.items():
            text = re.sub(rf"\b(127\.0\.0\.1|localhost):{documented}\b", rf"\1:{ours}", text)
            text = re.sub(rf"(--port |_PORT=){documented}\b", rf"\g<1>{ours}", text)
        return text

    def _environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(_NOT_OURS)}
        return kept | {
            "CURL_HOME": str(self.folder),
            "PATH": f"{Path(sys.prefix) / 'bin'}{os.pathsep}{os.environ['PATH']}",
            "KYB_STREAM_INGRESS__PORT": str(self.ports[8080]),
            "KYB_STREAM_CLICKHOUSE__URL": f"http://127.0.0.1:{self.ports[8123]}",
            "KYB_STREAM_KAFKA__BOOTSTRAP_SERVERS": f"127.0.0.1:{self.ports[9092]}",
        }


def _bash() -> str:
    found = shutil.which("bash")
    assert found, "the pages are run by bash"
    return found


def _with_exec(text: str) -> str:
    match = _KEEPS_RUNNING.search(text)
    assert match is not None
    return text[: match.start()] + "exec " + text[match.start() :]

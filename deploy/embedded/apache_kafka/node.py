"""One Apache Kafka node (broker and controller in one process) on this machine, that can be killed, paused and restarted."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path

from deploy.embedded.apache_kafka.configuration import format_storage, new_cluster_id, server_properties
from deploy.embedded.apache_kafka.jars import ensure_jars, java_command
from deploy.embedded.child_log import describe_exit, open_log, telling_line_of
from deploy.embedded.pausing import pause_process
from deploy.embedded.ports import require_free_port
from deploy.embedded.readiness import kafka_answers
from deploy.embedded.supervisor import Child
from deploy.embedded.tether import tethered
from kybstream.errors import RunError

_LOGGING = Path(__file__).with_name("log4j2.properties")
_READY_SECONDS = 60.0
_STOP_SECONDS = 30.0
_POLL_SECONDS = 0.05


class KafkaNode:
    """A node with its data in `data_dir`; the log is `data_dir/kafka.log`. It listens on `host` without encryption.

    Start it yourself (`start`, `stop`, `kill`, …), or hand `child()` to a Supervisor. It is bound to no event loop: a
    fixture may start it in one and a test kill it in another.

    Args:
        data_dir: Made if need be; a node started again on it has all it had acknowledged.
        port: Of the broker: what clients connect to.
        controller_port: Of the controller.
        host: What it listens on and tells clients to connect to.
        overrides: Broker settings, as `{"message.max.bytes": 1000}`.
        heap_mib: The most heap it may use, in MiB.
        cache_dir: See `ensure_jars`.
        cluster_id: Of the cluster that it belongs to; None makes a cluster of its own.
    """

    def __init__(
        self,
        data_dir: Path,
        port: int,
        controller_port: int,
        *,
        host: str = "127.0.0.1",
        overrides: Mapping[str, str | int] | None = None,
        heap_mib: int = 768,
        cache_dir: Path | None = None,
        cluster_id: str | None = None,
    ) -> None:
        self.data_dir = data_dir.absolute()
        self.host = host
        self.port = port
        self.controller_port = controller_port
        self.overrides = dict(overrides or {})
        self.heap_mib = heap_mib
        self._cache_dir = cache_dir
        self._cluster_id = cluster_id or new_cluster_id()
        self._process: subprocess.Popen[bytes] | None = None
        self._log_start = 0

    @property
    def bootstrap_servers(self) -> str:
        """What clients connect to: `host:port`."""
        return f"{self.host}:{self.port}"

    @property
    def log_path(self) -> Path:
        """Where its output is appended."""
        return self.data_dir / "kafka.log"

    @property
    def pid(self) -> int | None:
        """Its process id, or None when it does not run."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    def prepare(self) -> list[str]:
        """Fetches the jars, writes the settings, makes the storage if need be, and returns the command that runs the node.

        Blocks the calling thread: 1 s for new storage, some 10 s when the jars must be fetched.

        Raises:
            MissingToolError: Java or Maven is missing.
            RunError: Fetching or formatting failed.
        """
        java = java_command()
        jars = ensure_jars(self._cache_dir)
        self.data_dir.mkdir(parents=True, exist_ok=True)
        log_dir = self.data_dir / "log"
        properties = self.data_dir / "server.properties"
        properties.write_text(
            server_properties(
                log_dir=log_dir,
                host=self.host,
                port=self.port,
                controller_port=self.controller_port,
                overrides=self.overrides,
            ),
            encoding="utf-8",
        )
        common = ["-cp", f"{jars}/*", f"-Dlog4j2.configurationFile={_LOGGING}"]
        format_storage([java, "-Xmx256m", "-XX:TieredStopAtLevel=1", *common], properties, log_dir, self._cluster_id)
        return [java, "-Xms128m", f"-Xmx{self.heap_mib}m", *common, "kafka.Kafka", str(properties)]

    def child(self, name: str = "broker") -> Child:
        """The node for a Supervisor. Blocks as `prepare`.

        Raises:
            RunError: As `prepare`, or a port is in use.
        """
        argv = self.prepare()
        self._require_ports()
        return Child(
            name=name,
            argv=argv,
            ready=partial(kafka_answers, self.bootstrap_servers),
            log_path=self.log_path,
            ready_seconds=_READY_SECONDS,
            orphan_signal=signal.SIGTERM,  # it closes its segments then; a SIGKILL would cost a recovery at the next start
        )

    async def start(self) -> None:
        """Starts the node and returns when it answers. Does nothing if it runs.

        Raises:
            RunError: As `prepare`; a port is in use; or it ended or was not ready in time, and is stopped then.
        """
        if self.pid is not None:
            return
        argv = await asyncio.to_thread(self.prepare)
        self._require_ports()
        log, self._log_start = open_log(self.log_path)
        with log:
            # In this thread: the kernel ties the child to the thread that starts it (tether.py).
            self._process = subprocess.Popen(  # noqa: ASYNC220, S603 - forks in a millisecond, and outlives the event loop
                tethered(argv),  # SIGKILL for an orphan: it may be paused, and deaf to anything else
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            await self.wait_ready()
        except BaseException:
            await self.kill()
            raise

    async def wait_ready(self, deadline_seconds: float = _READY_SECONDS) -> None:
        """Returns when the node answers.

        Raises:
            RunError: It ended, or did not answer in time; the message holds its log's last error.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + deadline_seconds
        while not await kafka_answers(self.bootstrap_servers):
            code = None if self._process is None else self._process.poll()
            if self._process is None or code is not None:
                raise self._failure(f"ended with {describe_exit(code)}" if code is not None else "is not running")
            if loop.time() > deadline:
                raise self._failure(f"was not ready after {deadline_seconds:.0f} s")
            await asyncio.sleep(_POLL_SECONDS)

    async def stop(self) -> None:
        """SIGTERM, and returns when it has ended (SIGKILL after 30 s). Does nothing if it does not run."""
        self._signal(signal.SIGTERM)
        self.resume()  # a paused process would not see it
        if not await self._wait_exit(_STOP_SECONDS):
            await self.kill()

    async def kill(self) -> None:
        """SIGKILL, and returns when it is gone. Does nothing if it does not run."""
        self._signal(signal.SIGKILL)
        await self._wait_exit(_STOP_SECONDS)

    async def restart(self) -> None:
        """Stops it if it runs, and starts it on the same data and ports, with `overrides` as they are now."""
        await self.stop()
        await self.start()

    def pause(self) -> None:
        """Connections stay open and nothing answers, as with a hung machine; returns when that is so."""
        if self.pid is not None:
            pause_process(self.pid)

    def resume(self) -> None:
        """SIGCONT: goes on after `pause`."""
        self._signal(signal.SIGCONT)

    def _require_ports(self) -> None:
        require_free_port(self.host, self.port, "Apache Kafka")
        require_free_port(self.host, self.controller_port, "Apache Kafka's controller")

    def _signal(self, number: signal.Signals) -> None:
        if self.pid is not None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    async def _wait_exit(self, seconds: float) -> bool:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        while self.pid is not None:
            if loop.time() > deadline:
                return False
            await asyncio.sleep(_POLL_SECONDS)
        return True

    def _failure(self, what: str) -> RunError:
        reason = telling_line_of(self.log_path, since=self._log_start)
        return RunError(f"Apache Kafka {what}{f': {reason}' if reason else ''}", hint=f"its log is {self.log_path}")

"""The settings of a Kafka node for development and tests, and the making of its storage."""

from __future__ import annotations

import base64
import shutil
import subprocess
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path

from deploy.embedded.child_log import describe_exit, telling_line
from kybstream.errors import RunError

_FORMAT_SECONDS = 60.0
_FORMATTED = "formatted"  # written when formatting is over: a killed one must be done again


def server_properties(*, log_dir: Path, host: str, port: int, controller_port: int, overrides: Mapping[str, str | int]) -> str:
    """The text of `server.properties`; `overrides` win over every setting here."""
    settings: dict[str, str | int] = {
        "process.roles": "broker,controller",
        "node.id": 1,
        "controller.quorum.voters": f"1@{host}:{controller_port}",
        "controller.listener.names": "CONTROLLER",
        "listeners": f"PLAINTEXT://{host}:{port},CONTROLLER://{host}:{controller_port}",
        "advertised.listeners": f"PLAINTEXT://{host}:{port}",
        "log.dirs": str(log_dir),
        # As in production: `kyb-stream migrate` makes the topics, a misspelt one is an error.
        "auto.create.topics.enable": "false",
        # A group of one starts at once; a test may ask for a short session to see its member's death soon.
        "group.initial.rebalance.delay.ms": 0,
        "group.min.session.timeout.ms": 1000,
        # One node can hold one replica, and needs few partitions of the internal topics.
        "offsets.topic.replication.factor": 1,
        "offsets.topic.num.partitions": 8,
        "transaction.state.log.replication.factor": 1,
        "transaction.state.log.min.isr": 1,
        "transaction.state.log.num.partitions": 8,
        "share.coordinator.state.topic.replication.factor": 1,
        "share.coordinator.state.topic.min.isr": 1,
        # A node that was SIGKILLed is registered again only when its last session is over: by default 9 s.
        "broker.session.timeout.ms": 3000,
        "broker.heartbeat.interval.ms": 500,
        # Of the heap, for compaction; the default of 128 MiB is made for other machines.
        "log.cleaner.dedupe.buffer.size": 16 * 1024 * 1024,
    }
    return "".join(f"{name}={value}\n" for name, value in (settings | dict(overrides)).items())


def new_cluster_id() -> str:
    """The id of a new cluster; all its nodes' storage is made with it."""
    return base64.urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode("ascii")


def format_storage(java: Sequence[str], properties: Path, log_dir: Path, cluster_id: str) -> None:
    """Makes the storage of a new node, unless it is there; what a killed formatting left is made anew.

    Args:
        java: The command up to the main class.
        properties: The node's settings.
        log_dir: Its `log.dirs`.
        cluster_id: Of the cluster that it belongs to.

    Raises:
        RunError: Kafka's storage tool failed; the message holds its reason.
    """
    marker = log_dir / _FORMATTED
    if marker.exists():
        return
    shutil.rmtree(log_dir, ignore_errors=True)  # no marker: nothing was ever stored here
    command = [*java, "kafka.tools.StorageTool", "format", f"--cluster-id={cluster_id}", f"--config={properties}"]
    run = subprocess.run(  # noqa: S603 - our own java command
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=_FORMAT_SECONDS,
    )
    if run.returncode != 0:
        reason = telling_line(run.stdout) or describe_exit(run.returncode)
        raise RunError(f"Kafka's storage in {log_dir} could not be made: {reason}")
    marker.touch()

"""One run: fresh processes in a fresh consumer group, watched from outside by how their output topics grow."""

from __future__ import annotations

import asyncio
import signal
import subprocess
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
from aiokafka import AIOKafkaConsumer
from aiokafka.structs import TopicPartition

from bench.streams.filling import PARTITIONS
from kybstream.errors import RunError

_POLL_SECONDS = 0.02
_START_SECONDS = 60.0
_STILL_SECONDS = 30.0
_STOP_SECONDS = 15.0


@dataclass(frozen=True)
class Measured:
    """What a run came to.

    Attributes:
        per_second: Records of the source a second, from the first output to the last.
        cpu_us: CPU time of all the processes in that time, a record, user and system.
    """

    per_second: float
    cpu_us: float


async def measure(
    bootstrap: str, commands: Sequence[Sequence[str]], log: Path, records: int, made: Mapping[str, int]
) -> Measured:
    """Runs the commands until all their output is there.

    Args:
        bootstrap: Of the broker.
        commands: Each is a process.
        log: What they say goes there.
        records: How many they read, together.
        made: How many records each of their output topics must have at the end; all are empty now.

    Raises:
        RunError: One ended, or they made no progress, or too much.
    """
    async with _watching(bootstrap, made) as watch:
        running = [_start(each, log) for each in commands]
        try:
            return await _watched(watch, running, log, records)
        finally:
            await asyncio.to_thread(_end, running)


def _start(command: Sequence[str], log: Path) -> psutil.Process:
    with log.open("ab") as said:
        return psutil.Process(subprocess.Popen(command, stdout=said, stderr=said).pid)


class _Watch:
    """How much of the output is there."""

    def __init__(self, consumer: AIOKafkaConsumer, made: Mapping[str, int]) -> None:
        self._consumer = consumer
        self._partitions = [TopicPartition(topic, number) for topic in made for number in range(PARTITIONS)]
        self._wanted = sum(made.values())

    async def share(self) -> float:
        """From 0 to 1."""
        there: int = sum((await self._consumer.end_offsets(self._partitions)).values())
        return there / self._wanted


@asynccontextmanager
async def _watching(bootstrap: str, made: Mapping[str, int]) -> AsyncIterator[_Watch]:
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap)
    await consumer.start()
    try:
        yield _Watch(consumer, made)
    finally:
        await consumer.stop()


async def _watched(watch: _Watch, running: Sequence[psutil.Process], log: Path, records: int) -> Measured:
    clock = asyncio.get_running_loop().time
    first: tuple[float, float, float] | None = None
    seen, moved_at, patience = 0.0, clock(), _START_SECONDS
    while True:
        share, now, spent = await watch.share(), clock(), _cpu_seconds(running)
        if share > seen:
            seen, moved_at, patience = share, now, _STILL_SECONDS
            first = first or (share, now, spent)
        if share > 1:
            raise RunError("there is more output than there may be", hint=_last_words(log))
        if share == 1 and first is not None:
            if first[0] == 1:
                raise RunError("all output came at once: more records are needed")
            done = records * (1 - first[0])
            return Measured(done / (now - first[1]), (spent - first[2]) / done * 1e6)
        if now - moved_at > patience or not all(map(_lives, running)):
            raise RunError(f"nothing came any more after {share:.1%} of the output", hint=_last_words(log))
        await asyncio.sleep(_POLL_SECONDS)


def _lives(process: psutil.Process) -> bool:
    return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)


def _cpu_seconds(running: Sequence[psutil.Process]) -> float:
    try:
        each = [process.cpu_times() for root in running for process in (root, *root.children(recursive=True))]
    except psutil.NoSuchProcess:
        return 0.0
    return float(sum(times.user + times.system for times in each))


def _last_words(log: Path) -> str:
    return log.read_text(errors="replace")[-500:]


def _end(running: Sequence[psutil.Process]) -> None:
    for process in running:
        if process.is_running():
            process.send_signal(signal.SIGTERM)
    _gone, alive = psutil.wait_procs(running, timeout=_STOP_SECONDS)
    for process in alive:
        process.kill()
    psutil.wait_procs(alive, timeout=_STOP_SECONDS)

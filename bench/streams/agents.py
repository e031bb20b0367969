"""One agent of ours alone in a process: the worker runs two, and each is to be seen by itself.

`python -m bench.streams.agents dedupe|intake|cases CONFIG SOURCE TARGET`; intake and cases know their topics by themselves.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec
import structlog

from kybstream.cli.running import run_component
from kybstream.settings import Settings, load_settings
from streams.batching import BatchApp, BatchResult, Output, Record, StateReader, run
from streams.metrics import WorkerMetrics
from streams.worker import TABLES, build_app, new_app


class _Identified(msgspec.Struct):
    id: str


class Deduplicate:
    """Forwards the first record of each id, which lies in the JSON value.

    Args:
        target: The topic it forwards to.
    """

    def __init__(self, target: str) -> None:
        self._target = target
        self._read = msgspec.json.Decoder(_Identified).decode

    def __call__(self, partition: int, records: Sequence[Record], state: StateReader) -> BatchResult:
        """The records whose id the partition has not seen."""
        del partition
        ids = [self._read(record.value or b"").id.encode() for record in records]
        seen = set(state.get_many(set(ids)))
        writes: dict[bytes, bytes | None] = {}
        outputs = []
        for each, record in zip(ids, records, strict=True):
            if each not in seen:
                seen.add(each)
                writes[each] = b"1"
                outputs.append(Output(self._target, record.key, record.value, record.headers))
        return BatchResult(outputs, writes)


def deduplicating(settings: Settings, source: str, target: str) -> BatchApp:
    """An app whose one agent deduplicates, made as `streams.worker` makes its own."""
    app = new_app(settings, WorkerMetrics())
    app.batch_agent(app.batch_topic(source), app.batch_table("seen"), Deduplicate(target))
    return app


def alone(settings: Settings, table: str) -> BatchApp:
    """The worker's app without its other agent."""
    app, _cases = build_app(settings, WorkerMetrics())
    for other in set(TABLES) - {table}:
        del app.agents[f"{other}-agent"]
        gone = app.tables.pop(other)
        app.batched_topics -= gone.source_topics | {gone.changelog_topic_name}
    return app


def main(kind: str, config: str, source: str, target: str) -> None:
    """Runs the agent until SIGTERM."""
    logging.basicConfig(level=logging.WARNING)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    settings = load_settings(Path(config))

    async def component(stop: asyncio.Event) -> None:
        await run(deduplicating(settings, source, target) if kind == "dedupe" else alone(settings, kind), stop)

    run_component(component)


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Who is measured, and on which topic."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.streams.filling import distinct
from schemas import topics

JSON_SOURCE = "bench.json"
TARGET = "bench.forwarded"
RAW_PREFIX = "kyb."
"""Of the topics whose raw deliveries are filled."""
CASES_PREFIX = "cases."
"""Of the topics whose case events are filled."""
_RAW = RAW_PREFIX + topics.RAW
_CASE_EVENTS = CASES_PREFIX + topics.CASE_EVENTS


@dataclass(frozen=True)
class Setting:
    """What a process is told.

    Attributes:
        bootstrap: Of the broker.
        group: Its consumer group.
        folder: For its local state.
        config: A configuration file of ours.
        peer: The Python that has quixstreams; None when it cannot be had.
    """

    bootstrap: str
    group: str
    folder: Path
    config: Path
    peer: Path | None


@dataclass(frozen=True)
class Contestant:
    """One line of the table, before it is measured.

    Attributes:
        letter: Short name, for `--only`.
        name: As in the table.
        source: The topic it reads.
        made: How many records each output topic gets of so many read.
        command: What starts one of its processes.
        prefix: Of our topics, where it is ours.
        is_limit: Whether the others on the same topic are compared with it.
    """

    letter: str
    name: str
    source: str
    made: Callable[[int], Mapping[str, int]]
    command: Callable[[Setting], Sequence[str]]
    prefix: str = RAW_PREFIX
    is_limit: bool = False


def _plain(source: str) -> Callable[[Setting], Sequence[str]]:
    return lambda given: [sys.executable, "-m", "bench.streams.plain", given.bootstrap, given.group, source, TARGET]


def _agent(kind: str, source: str) -> Callable[[Setting], Sequence[str]]:
    return lambda given: [sys.executable, "-m", "bench.streams.agents", kind, str(given.config), source, TARGET]


def _quix(given: Setting) -> Sequence[str]:
    script = Path(__file__).with_name("quix.py")
    return [str(given.peer), str(script), given.bootstrap, given.group, JSON_SOURCE, TARGET, str(given.folder)]


def _worker(given: Setting) -> Sequence[str]:
    return [sys.executable, "-m", "kybstream.cli", "worker", "--config", str(given.config)]


def _all(count: int) -> Mapping[str, int]:
    return {TARGET: count}


def _new(count: int) -> Mapping[str, int]:
    return {TARGET: distinct(count)}


def _intake(count: int) -> Mapping[str, int]:
    new = distinct(count)
    return {RAW_PREFIX + topics.DELIVERIES: count, RAW_PREFIX + topics.EVENTS: new, RAW_PREFIX + topics.CASE_EVENTS: new}


def _cases(count: int) -> Mapping[str, int]:
    return {CASES_PREFIX + topics.CASES: count}


def _both(count: int) -> Mapping[str, int]:
    return {**_intake(count), RAW_PREFIX + topics.CASES: distinct(count)}


CONTESTANTS = (
    Contestant("limit", "plain aiokafka", JSON_SOURCE, _all, _plain(JSON_SOURCE), is_limit=True),
    Contestant("dedupe", "deduplicate and forward", JSON_SOURCE, _new, _agent("dedupe", JSON_SOURCE)),
    Contestant("quix", "the same in quixstreams", JSON_SOURCE, _new, _quix),
    Contestant("limit-raw", "plain aiokafka", _RAW, _all, _plain(_RAW), is_limit=True),
    Contestant("intake", "intake", _RAW, _intake, _agent("intake", _RAW)),
    Contestant("worker", "worker: intake and cases", _RAW, _both, _worker),
    Contestant("limit-cases", "plain aiokafka", _CASE_EVENTS, _all, _plain(_CASE_EVENTS), is_limit=True),
    Contestant("cases", "cases", _CASE_EVENTS, _cases, _agent("cases", _CASE_EVENTS), CASES_PREFIX),
)

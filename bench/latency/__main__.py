"""Milliseconds from a webhook that is due to the row that can be queried, at several rates, everything on this machine.

Apache Kafka, ingress, worker, sink and ClickHouse as in production, with encryption, each one process; webhooks at random
moments, each of a case of its own. Steps, each counted from the moment the webhook was due:

    answered   the 200 is there: the delivery is durable
    judged     the worker wrote the delivery's verdict to Kafka
    told       the worker wrote the case to Kafka
    delivery   the delivery's row is in ClickHouse
    case       the case's row is in ClickHouse: the whole way

A row's time is ClickHouse's own (`_inserted_at`), when it began to insert; some milliseconds later it is seen. `seen` is what
probes found who asked ClickHouse for the case of one webhook again and again.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from aiokafka import TopicPartition

from bench.latency.sending import Sent, send
from bench.latency.stack import running_stack
from deploy.embedded.configuration import KYB_SOURCE
from kybstream.errors import KybStreamError, RunError
from kybstream.kafka import reading
from kybstream.operations.simulation import source_url
from kybstream.settings import Settings
from kybstream.telemetry import configure_logging
from schemas import topics
from schemas.codec import decode
from schemas.records import Case, Delivery, Record
from sinks.clickhouse import connected
from sinks.query import query

STEPS = ("answered", "judged", "told", "delivery", "case", "seen")
WARM_UP_SECONDS = 5.0
PROBES_A_SECOND = 2.0
_PROBE_PAUSE_SECONDS = 0.01
_LANDED_SECONDS = 60.0
_LOOK_SECONDS = 0.25

Moments = Mapping[str, int]
"""Microseconds since the epoch, by service id."""


def main(arguments: list[str]) -> int:
    """Runs the benchmark; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.latency", description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rates", type=float, nargs="+", default=[100.0, 500.0, 1_000.0], help="webhooks a second")
    parser.add_argument("--seconds", type=float, default=30.0, help="of each rate")
    options = parser.parse_args(arguments)
    configure_logging(events=False)
    try:
        with tempfile.TemporaryDirectory(prefix="kyb-stream-bench-") as folder:
            asyncio.run(_run(options, Path(folder)))
    except KybStreamError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


async def _run(options: argparse.Namespace, scratch: Path) -> None:
    async with running_stack(scratch) as settings:
        print(
            f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}; Apache Kafka, ingress, worker, "
            f"sink, ClickHouse and the sender on the same cores; {options.seconds:g} s of each rate, the first "
            f"{WARM_UP_SECONDS:g} s left out; milliseconds, p50 / p99\n"
        )
        print(f"| webhooks/s | {' | '.join(STEPS)} |\n| --- " + "| --- " * len(STEPS) + "|")
        for rate in options.rates:
            print(await _line(settings, scratch, rate, options.seconds), flush=True)


async def _line(settings: Settings, scratch: Path, rate: float, seconds: float) -> str:
    run = f"r{rate:g}".replace(".", "-")
    results = scratch / f"{run}.jsonl"
    url = source_url(settings, KYB_SOURCE)
    path = url.removeprefix(settings.ingress.base_url)
    arguments = [settings.ingress.host, str(settings.ingress.port), path, f"{rate:g}", str(seconds + WARM_UP_SECONDS), run]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.latency.sending", *arguments, str(results), stderr=asyncio.subprocess.PIPE
    )
    probing = asyncio.create_task(_probe(settings, path, run))
    _, said = await process.communicate()
    probing.cancel()
    seen = (await asyncio.gather(probing, return_exceptions=True))[0]
    if process.returncode or isinstance(seen, Exception):
        raise RunError(f"at {rate:g}/s: {said.decode(errors='replace')[-300:] or seen}")
    sent: list[Sent] = [json.loads(line) for line in results.read_text(encoding="utf-8").splitlines()]
    begin = min(due for _, due, _ in sent) + int(WARM_UP_SECONDS * 1e6)
    due = {service_id: moment for service_id, moment, _ in sent if moment >= begin}
    await _landed(settings, run, len(sent))
    steps = {
        "answered": [taken * 1e3 for _, moment, taken in sent if moment >= begin],
        "judged": _passed(due, await _written(settings, topics.DELIVERIES, Delivery)),
        "told": _passed(due, await _written(settings, topics.CASES, Case)),
        "delivery": _passed(due, await _rows(settings, run, "deliveries")),
        "case": _passed(due, await _rows(settings, run, "cases")),
        "seen": _PROBED.get(run, []),
    }
    cells = [f"{_percentile(found, 50):,.0f} / {_percentile(found, 99):,.0f}" for found in steps.values()]
    return f"| {rate:g} | {' | '.join(cells)} |"


_PROBED: dict[str, list[float]] = {}


async def _probe(settings: Settings, path: str, run: str) -> None:
    """Sends one webhook after the other and asks for its case until it is there."""
    await asyncio.sleep(WARM_UP_SECONDS)
    host, port = settings.ingress.host, settings.ingress.port
    found = _PROBED.setdefault(run, [])
    sql = f"SELECT count() FROM {settings.clickhouse.database}.cases WHERE tenant = 'acme' AND case_id = "  # noqa: S608
    async with connected(settings.clickhouse) as client:
        number = 0
        while True:
            began = time.perf_counter()
            name = f"probe-{run}-{number}"
            ((service_id, _, _),) = await send(host, port, path, rate=0.0, seconds=0.0, run=name, only=1)
            while not (await client.query(f"{sql}'{service_id}'")).result_rows[0][0]:  # noqa: ASYNC110 (ClickHouse tells nobody)
                await asyncio.sleep(_PROBE_PAUSE_SECONDS)
            found.append((time.perf_counter() - began) * 1e3)
            number += 1
            await asyncio.sleep(max(0.0, began + 1 / PROBES_A_SECOND - time.perf_counter()))


async def _landed(settings: Settings, run: str, count: int) -> None:
    """Waits until all cases of a run are there."""
    deadline = time.monotonic() + _LANDED_SECONDS
    while (there := len(await _rows(settings, run, "cases"))) < count:
        if time.monotonic() > deadline:
            raise RunError(f"{there} of {count} cases landed within {_LANDED_SECONDS:g} s")
        await asyncio.sleep(_LOOK_SECONDS)


async def _rows(settings: Settings, run: str, table: str) -> Moments:
    """When the first row of each case landed."""
    sql = (
        f"SELECT assumeNotNull(case_id) AS id, min(toUnixTimestamp64Micro(_inserted_at)) FROM {table} "  # noqa: S608
        f"WHERE startsWith(id, '{run}-') GROUP BY id"
    )
    return {str(name): int(str(moment)) for name, moment in (await query(settings.clickhouse, sql, final=False)).rows}


async def _written(settings: Settings, suffix: str, kind: type[Record]) -> Moments:
    """When the first record of each case was produced."""
    topic = settings.topic(suffix)
    places = [TopicPartition(topic, number) for number in range(settings.kafka.partitions)]
    found: dict[str, int] = {}
    async with reading(settings.kafka, auto_offset_reset="earliest") as consumer:
        consumer.assign(places)
        ends = await consumer.end_offsets(places)
        while any([await consumer.position(place) < ends[place] for place in places]):
            for messages in (await consumer.getmany(timeout_ms=200)).values():
                for message in messages:
                    found.setdefault(str(getattr(decode(message.value, kind), "case_id", "")), message.timestamp * 1_000)
    return found


def _passed(due: Moments, moments: Moments) -> list[float]:
    """Milliseconds between the two."""
    return [(moments[name] - moment) / 1e3 for name, moment in due.items() if name in moments]


def _percentile(values: Iterable[float], percent: int) -> float:
    found = sorted(values)
    return statistics.quantiles(found, n=100, method="inclusive")[percent - 1] if len(found) > 1 else float("nan")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

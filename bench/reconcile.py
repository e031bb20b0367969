"""`python -m bench.reconcile`: how long `kyb-stream reconcile` takes, and how much memory, beside plain reading of the topic.

A real Apache Kafka holds so many raw deliveries, the embedded ClickHouse server what became of them, but for some that are
missing, doubled or known to nobody. The command runs as a process of its own and must name these. The limit is aiokafka's own
consumer, which reads the same topic record by record. `make bench-reconcile` runs it; all share the machine's cores.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
from aiokafka import AIOKafkaConsumer

from bench.streams.filling import Row, Topics
from deploy.embedded.apache_kafka import KafkaNode
from deploy.embedded.clickhouse.child import clickhouse_child, clickhouse_url
from deploy.embedded.ports import free_port
from deploy.embedded.supervisor import Supervisor
from kybstream.errors import KybStreamError, RunError
from kybstream.settings import ClickHouseSettings
from schemas.codec import HEADER_SIZE, encode
from schemas.records import WebhookDelivery
from schemas.topics import DELIVERIES, RAW
from sinks.migrate import migrate
from sinks.query import query

_PREFIX = "kyb."
_BODY_BYTES = 500
_ODD = 11_400_714_819_323_198_485  # times it, modulo 2**64, no two numbers are alike, and neighbours lie far apart
_ID_BEGINS = "01a20612-5a43-72a9-"
_WRONG = {"missing": 3, "doubled": 2, "unknown": 2}
_INSERT_AT_ONCE = 1_000_000


def delivery_id(number: int) -> str:
    """The id of the delivery of this number, as `_LANDED` makes it in SQL."""
    drawn = f"{number * _ODD % 2**64:016x}"
    return f"{_ID_BEGINS}{drawn[:4]}-{drawn[4:]}"


_DRAWN = f"leftPad(lower(hex(toUInt64(number * {_ODD}))), 16, '0')"
_LANDED = f"""
INSERT INTO deliveries
    (delivery_id, received_at, tenant, source, source_kind, verdict, body_size, _topic, _partition, _offset)
SELECT
    concat('{_ID_BEGINS}', substring({_DRAWN} AS drawn, 1, 4), '-', substring(drawn, 5, 12)),
    {{received}} + toIntervalMillisecond(number), {{tenant}}, 'kyb', 'kyb-service', 'new', {_BODY_BYTES},
    'kyb.deliveries.v1', 0, number
FROM numbers({{first}}, {{count}})
"""  # noqa: S608 (numbers of ours)


def rows(count: int, received: datetime) -> Iterator[Row]:
    """The raw deliveries: alike but for their ids."""
    made = WebhookDelivery(
        delivery_id=delivery_id(0),
        received_at=received,
        tenant="acme",
        source="kyb",
        source_kind="kyb-service",
        entity_key="acme/667ab56f0e4e6520880",
        content_type="application/json",
        body=b"x" * _BODY_BYTES,
        body_key_id="k",
    )
    value = encode(made)
    begins, ends = value[: HEADER_SIZE + 1], value[HEADER_SIZE + 1 + 36 :]
    for number in range(count):
        name = delivery_id(number).encode()
        yield name, begins + name + ends, (("ce_id", name), ("ce_type", b"kyb-stream.webhook-delivery.v1"))


async def _land(clickhouse: ClickHouseSettings, count: int, received: datetime) -> None:
    """All but the last few deliveries, some twice, and some that nobody sent."""
    kept = count - _WRONG["missing"]
    time_text = f"toDateTime64('{received:%Y-%m-%d %H:%M:%S}', 6, 'UTC')"
    spans = [(first, min(_INSERT_AT_ONCE, kept - first), "'acme'") for first in range(0, kept, _INSERT_AT_ONCE)]
    spans += [(0, _WRONG["doubled"], "'somebody else'"), (count, _WRONG["unknown"], "'acme'")]
    for first, some, tenant in spans:
        await query(clickhouse, _LANDED.format(received=time_text, tenant=tenant, first=first, count=some))


async def _read_plainly(bootstrap: str, topic: str, count: int) -> float:
    """Seconds that aiokafka's consumer takes for so many records."""
    consumer = AIOKafkaConsumer(topic, bootstrap_servers=bootstrap, auto_offset_reset="earliest")
    await consumer.start()
    try:
        began, seen = time.perf_counter(), 0
        while seen < count:
            seen += sum(map(len, (await consumer.getmany(timeout_ms=500, max_records=5_000)).values()))
        return time.perf_counter() - began
    finally:
        await consumer.stop()


async def _reconcile(env: dict[str, str]) -> tuple[float, float, int, dict[str, object]]:
    """Seconds, CPU seconds, MiB at most, and the account, of the command as a process."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "kybstream.cli", "reconcile", "--wait", "0", "--json",
        env=os.environ | env, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await process.communicate()
    seconds = time.perf_counter() - began
    if not out:
        raise RunError(f"reconcile said nothing: {err.decode()[-500:]}")
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime
    return seconds, cpu, used.ru_maxrss // 1024, msgspec.json.decode(out)


async def run(count: int) -> None:
    """Fills, measures, checks what is named, and prints."""
    received = datetime.now(UTC).replace(microsecond=0) - timedelta(milliseconds=count, hours=1)
    with tempfile.TemporaryDirectory(prefix="kyb-stream-bench-reconcile-") as temporary:
        folder = Path(temporary)
        port = free_port()
        url = clickhouse_url(port)
        server = clickhouse_child(folder / "clickhouse", port, log_path=folder / "clickhouse.log")
        kafka = KafkaNode(folder / "kafka", free_port(), free_port())
        async with Supervisor() as supervisor, AsyncExitStack() as stack:
            await supervisor.start(server)
            stack.push_async_callback(kafka.kill)
            await kafka.start()
            await kafka.wait_ready()
            clickhouse = ClickHouseSettings(url=url)
            await migrate(clickhouse)
            topics = Topics(kafka.bootstrap_servers)
            await topics.renew([_PREFIX + RAW, _PREFIX + DELIVERIES])
            await topics.fill(_PREFIX + RAW, rows(count, received))
            await _land(clickhouse, count, received)
            seconds, cpu, peak, account = await _reconcile(
                {"KYB_STREAM_KAFKA__BOOTSTRAP_SERVERS": kafka.bootstrap_servers, "KYB_STREAM_CLICKHOUSE__URL": url}
            )
            plain = await _read_plainly(kafka.bootstrap_servers, _PREFIX + RAW, count)
    _check(account, count)
    print(f"{os.cpu_count()} cores, Python {platform.python_version()}, {count:,} deliveries of {_BODY_BYTES} bytes, one run\n")
    print("| | seconds | deliveries/s | CPU s | MiB |")
    print("| --- | --- | --- | --- | --- |")
    print(f"| limit: plain aiokafka reads the raw topic | {plain:.1f} | {count / plain:,.0f} | | |")
    print(f"| reconcile, as a process from start to end | {seconds:.1f} | {count / seconds:,.0f} | {cpu:.1f} | {peak:,} |")


def _check(account: dict[str, object], count: int) -> None:
    missing = sorted(delivery_id(number) for number in range(count - _WRONG["missing"], count))
    doubled = sorted(delivery_id(number) for number in range(_WRONG["doubled"]))
    unknown = sorted(delivery_id(number) for number in range(count, count + _WRONG["unknown"]))
    named = (account["raw"], account["missing"], account["doubled"], account["unknown"])
    if named != (count, missing, doubled, unknown):
        raise RunError(f"reconcile is wrong: {str(named)[:500]}")


def main() -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.reconcile")
    parser.add_argument("--deliveries", type=int, default=10_000_000)
    try:
        asyncio.run(run(parser.parse_args().deliveries))
    except KybStreamError as error:
        print(f"{error.message}{f'; {error.hint}' if error.hint else ''}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())

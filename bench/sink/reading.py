"""What the sink is compared with, each a process of its own, which says in a line of JSON what it came to.

`python -m bench.sink.reading consume|rows BOOTSTRAP TOPIC RECORDS [CLICKHOUSE_URL DATABASE LETTER]`
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

import clickhouse_connect
from aiokafka import AIOKafkaConsumer, TopicPartition

from bench.sink.filling import KINDS, Kind
from bench.streams.filling import PARTITIONS
from kybstream.kafka import client_options
from kybstream.settings import KafkaSettings
from schemas.codec import decode
from sinks.tables import POSITION_COLUMNS

FLUSH_ROWS = 20_000


async def consume(bootstrap: str, topic: str, records: int) -> tuple[int, float]:
    """Reads all records and does nothing with them: nothing can be cheaper."""
    first, began = 0, 0.0
    seen = 0
    async for messages in _chunks(bootstrap, topic):
        seen += len(messages)
        if not began:
            first, began = seen, time.perf_counter()
        if seen == records:
            break
    return records - first, time.perf_counter() - began


async def insert_rows(bootstrap: str, topic: str, records: int, *, url: str, database: str, kind: Kind) -> tuple[int, float]:
    """Reads all, decodes each, and inserts them as rows by clickhouse-connect: what one would write without framing."""
    fields = kind.record.__struct_fields__
    skipped = {"tenant", *POSITION_COLUMNS}
    names = [*POSITION_COLUMNS, "tenant", *(name for name in fields if name not in skipped)]
    host, _, port = url.removeprefix("http://").partition(":")
    client = await clickhouse_connect.get_async_client(host=host, port=int(port), compress=False)
    waiting: list[Any] = []
    first, began = 0, 0.0
    landed = 0

    async def flush() -> int:
        rows = []
        for message in waiting:
            record = decode(message.value, kind.record)
            own = [getattr(record, name) for name in names[len(POSITION_COLUMNS) :]]
            rows.append([message.topic, message.partition, message.offset, *own])
        await client.insert(f"{database}.{kind.table}", rows, column_names=names, settings={"async_insert": "0"})
        waiting.clear()
        return len(rows)

    try:
        seen = 0
        async for messages in _chunks(bootstrap, topic):
            waiting.extend(messages)
            seen += len(messages)
            if len(waiting) >= FLUSH_ROWS or seen == records:
                landed += await flush()
                if not began:
                    first, began = landed, time.perf_counter()
            if seen == records:
                break
    finally:
        await client.close()
    return records - first, time.perf_counter() - began


async def _chunks(bootstrap: str, topic: str) -> AsyncIterator[Sequence[Any]]:
    options = client_options(KafkaSettings(bootstrap_servers=bootstrap))
    consumer = AIOKafkaConsumer(**options, enable_auto_commit=False, auto_offset_reset="earliest")
    await consumer.start()
    try:
        consumer.assign([TopicPartition(topic, number) for number in range(PARTITIONS)])
        while True:
            for messages in (await consumer.getmany(timeout_ms=200)).values():
                yield messages
    finally:
        await consumer.stop()


def main(what: str, bootstrap: str, topic: str, records: str, *clickhouse: str) -> None:
    """Runs one, and says what it came to."""
    logging.getLogger("aiokafka").setLevel(logging.WARNING)
    if what == "consume":
        work = consume(bootstrap, topic, int(records))
    else:
        url, database, letter = clickhouse
        kind = next(each for each in KINDS if each.letter == letter)
        work = insert_rows(bootstrap, topic, int(records), url=url, database=database, kind=kind)
    before = time.process_time()
    done, seconds = asyncio.run(work)
    print(json.dumps({"records": done, "seconds": seconds, "cpu_seconds": time.process_time() - before}))


if __name__ == "__main__":
    main(*sys.argv[1:])

"""The limit: plain aiokafka that consumes and produces the same bytes in batches, and commits. Nothing can be cheaper.

`python -m bench.streams.plain BOOTSTRAP GROUP SOURCE TARGET`
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Sequence
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from kybstream.cli.running import run_component

BATCH_RECORDS = 4_000
BATCH_BYTES = 1_000_000
COMMIT_SECONDS = 1.0


async def forward(bootstrap: str, group: str, source: str, target: str, stop: asyncio.Event) -> None:
    """Forwards until `stop` is set; each round's batches are acknowledged by all replicas before the next."""
    consumer = AIOKafkaConsumer(
        source,
        bootstrap_servers=bootstrap,
        group_id=group,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
    )
    producer = AIOKafkaProducer(
        bootstrap_servers=bootstrap, acks="all", enable_idempotence=True, max_batch_size=BATCH_BYTES, linger_ms=0
    )
    await consumer.start()
    await producer.start()
    clock = asyncio.get_running_loop().time
    committed_at = clock()
    try:
        while not stop.is_set():
            fetched = await consumer.getmany(timeout_ms=200, max_records=BATCH_RECORDS)
            await asyncio.gather(*(_send(producer, target, tp.partition, records) for tp, records in fetched.items()))
            if fetched and clock() - committed_at > COMMIT_SECONDS:
                await consumer.commit()
                committed_at = clock()
    finally:
        await consumer.stop()
        await producer.stop()


async def _send(producer: AIOKafkaProducer, topic: str, partition: int, records: Sequence[Any]) -> None:
    sent = []
    builder = producer.create_batch()
    for record in records:
        fields = {"timestamp": None, "key": record.key, "value": record.value, "headers": list(record.headers)}
        if builder.append(**fields) is None:
            sent.append(await producer.send_batch(builder, topic, partition=partition))
            builder = producer.create_batch()
            builder.append(**fields)
    sent.append(await producer.send_batch(builder, topic, partition=partition))
    await asyncio.gather(*sent)


def main(bootstrap: str, group: str, source: str, target: str) -> None:
    """Forwards until SIGTERM."""
    logging.getLogger("aiokafka").setLevel(logging.WARNING)
    run_component(lambda stop: forward(bootstrap, group, source, target, stop))


if __name__ == "__main__":
    main(*sys.argv[1:])

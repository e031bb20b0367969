from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import fastavro
import pytest
from fastavro.schema import fingerprint, parse_schema, to_parsing_canonical_form

from deploy.embedded.apache_kafka import KafkaNode
from kybstream.settings import Settings
from schemas import codec
from schemas.codec import MAGIC, Schema, encode, newest_schema
from schemas.records import Delivery
from sinks import framing
from sinks.query import query
from sinks.run import run_sink
from tests.sinks.making import delivery, rows, settings_for
from tests.sinks.running import DEADLINE, landed, made, produce, row_count

FIELD = {"name": "channel", "type": ["null", "string"], "default": None}


@pytest.fixture
def next_schema(monkeypatch: pytest.MonkeyPatch) -> Schema:
    """A next version of the deliveries' schema, with an optional field more, in the registry."""
    old = newest_schema(Delivery)
    content: dict[str, Any] = {**old.json, "fields": [*old.json["fields"], FIELD]}
    print_ = bytes.fromhex(fingerprint(to_parsing_canonical_form(content), "CRC-64-AVRO"))
    made = Schema("delivery.v2", content, print_, parse_schema(content, named_schemas={}))
    known = {**codec.all_schemas(), print_: made}
    monkeypatch.setattr(codec, "all_schemas", lambda: known)
    framing._container.cache_clear()
    return made


def _encoded(schema: Schema, number: int, channel: str | None) -> bytes:
    """A delivery as a newer worker would write it."""
    old = fastavro.schemaless_reader(
        io.BytesIO(encode(delivery(number))[codec.HEADER_SIZE :]), newest_schema(Delivery).parsed, None
    )
    out = io.BytesIO()
    fastavro.schemaless_writer(out, schema.parsed, {**old, "channel": channel})
    return MAGIC + schema.fingerprint + out.getvalue()


@asynccontextmanager
async def _started(settings: Settings) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """A sink that runs until it is stopped by what is yielded, or the block ends."""
    stop, ready = asyncio.Event(), asyncio.Event()
    task = asyncio.create_task(run_sink(settings, stop=stop, ready=ready.set))

    async def leave() -> None:
        stop.set()
        await asyncio.wait_for(task, DEADLINE)

    try:
        await asyncio.wait_for(ready.wait(), DEADLINE)
        yield leave
    finally:
        await leave()


@pytest.mark.kafka
async def test_a_topic_gains_an_optional_field_without_a_stop(
    apache_kafka: KafkaNode, topic_prefix: str, clickhouse_server: str, database_name: str, next_schema: Schema
) -> None:
    """The table gets its column while a sink runs; then a newer sink joins, the older leaves, and records of both mix.

    None is lost, doubled or dead-lettered; old records have null in the new column, new ones what they say.
    """
    settings = settings_for(clickhouse_server, database_name, bootstrap=apache_kafka.bootstrap_servers, prefix=topic_prefix)
    await made(settings)
    async with _started(settings) as leave:
        await produce(settings, [delivery(number) for number in range(20)])
        await landed(settings, "deliveries", 20)
        # What the migration of the newer version does.
        await query(settings.clickhouse, "ALTER TABLE deliveries ADD COLUMN IF NOT EXISTS channel Nullable(String)")
        await produce(settings, [delivery(20 + number) for number in range(20)])
        await landed(settings, "deliveries", 40)
        async with _started(settings):
            await leave()  # it does not know the column: so workers are renewed behind all sinks
            mixed = [
                _encoded(next_schema, number, f"c{number}" if number % 3 else None) if number % 2 else delivery(number)
                for number in range(40, 80)
            ]
            await produce(settings, mixed, "deliveries.v1")
            await landed(settings, "deliveries", 80)
    sql = "SELECT delivery_id, body_size, channel FROM deliveries ORDER BY _offset"
    assert await rows(settings.clickhouse, sql, final=False) == [
        {
            "delivery_id": f"delivery-{number:06d}",
            "body_size": 100 + number,
            "channel": f"c{number}" if number >= 40 and number % 2 and number % 3 else None,
        }
        for number in range(80)
    ]
    assert await row_count(settings, "dead_letters") == 0

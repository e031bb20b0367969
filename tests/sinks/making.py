"""Records, Kafka messages and settings that the tests of the sink are made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from aiokafka import AIOKafkaProducer

from kybstream.producing import ReplacedProducer
from kybstream.settings import ClickHouseSettings, KafkaSettings, Settings, SinkSettings
from schemas.codec import NEWEST, encode
from schemas.records import Case, DeadLetter, Delivery, Event, Record, Rejection, Replay
from sinks.clickhouse import connected, in_our_words
from sinks.framing import columns, frame, sort_out
from sinks.migrate import table_columns
from sinks.query import Value, query
from sinks.tables import TABLES, Table


def _no_producer() -> AIOKafkaProducer:
    raise AssertionError("nothing here goes to the dead letters")


NO_PRODUCER = ReplacedProducer(_no_producer)
"""For a writer whose records are all good."""

DAY = datetime(2026, 3, 10, tzinfo=UTC)


def at(**offset: float) -> datetime:
    """A time that lies `timedelta(**offset)` after the start of DAY."""
    return DAY + timedelta(**offset)


@dataclass(frozen=True)
class FakeMessage:
    """A consumed record that no broker has seen."""

    offset: int
    value: bytes | None
    topic: str = "kyb.deliveries.v1"
    partition: int = 3
    timestamp: int = 1_700_000_000_000
    key: bytes | None = b"acme/x"
    headers: Sequence[tuple[str, bytes]] = field(default_factory=tuple)


def delivery(number: int, **fields: Any) -> Delivery:
    """A delivery whose id ends in `number`."""
    made: dict[str, Any] = {
        "delivery_id": f"delivery-{number:06d}",
        "received_at": at(seconds=number),
        "tenant": "acme",
        "source": "kyb",
        "source_kind": "kyb-service",
        "verdict": "new",
        "event_id": f"event-{number:06d}",
        "first_delivery_id": f"delivery-{number:06d}",
        "body_size": 100 + number,
    }
    return Delivery(**made | fields)


def case(case_id: str, **fields: Any) -> Case:
    """An open case of two halves, opened at the start of DAY."""
    made: dict[str, Any] = {
        "tenant": "acme",
        "case_id": case_id,
        "version": 1,
        "match_state": "matched",
        "kyb_status": "pending",
        "kyc_status": "pending",
        "outcome": "open",
        "opened_at": DAY,
        "opened_at_source": "event",
        "deadline_at": at(days=90),
        "updated_at": DAY,
        "resubmissions": 0,
        "aml_alerts": 0,
    }
    return Case(**made | fields)


def event(number: int, **fields: Any) -> Event:
    """A KYB event."""
    made: dict[str, Any] = {
        "event_id": f"event-{number:06d}",
        "delivery_id": f"delivery-{number:06d}",
        "received_at": at(seconds=number),
        "tenant": "acme",
        "source": "kyb",
        "source_kind": "kyb-service",
        "entity_key": "acme/s1",
        "case_id": "s1",
        "placement": "own",
        "type": "service_initiated",
    }
    return Event(**made | fields)


def dead_letter(number: int, **fields: Any) -> DeadLetter:
    """A dead letter that holds the record as it was."""
    made: dict[str, Any] = {
        "dead_letter_id": f"dead-{number:06d}",
        "received_at": at(seconds=number),
        "stage": "intake",
        "reason": "not_json",
        "origin_topic": "kyb.webhooks.raw.v1",
        "origin_key": b"acme/x",
        "origin_headers": {"ce_id": b"1"},
        "origin_value": b"\x00a secret",
        "body_size": 9,
    }
    return DeadLetter(**made | fields)


def rejection(number: int, **fields: Any) -> Rejection:
    """Two requests turned away."""
    made: dict[str, Any] = {
        "rejection_id": f"rejection-{number:06d}",
        "minute": at(minutes=number),
        "source": "unknown",
        "reason": "unknown_source",
        "count": 2,
        "ingress": "ingress-1",
    }
    return Rejection(**made | fields)


def replay(number: int, **fields: Any) -> Replay:
    """A replay of a dead letter."""
    made: dict[str, Any] = {
        "replay_id": f"replay-{number:06d}",
        "replayed_at": at(minutes=number),
        "replayed_by": "ada",
        "kind": "dead_letter",
        "origin_topic": "kyb.webhooks.raw.v1",
        "dead_letter_id": f"dead-{number:06d}",
        "attempt": 1,
        "records": 1,
    }
    return Replay(**made | fields)


def settings_for(url: str, database: str, *, bootstrap: str = "127.0.0.1:1", prefix: str = "kyb.", **sink: Any) -> Settings:
    """Settings of a sink; `sink` are its own, as flush_rows."""
    own: dict[str, Any] = {"group": f"{prefix}sink", "flush_seconds": 0.05}
    return Settings(
        kafka=KafkaSettings(bootstrap_servers=bootstrap, topic_prefix=prefix, partitions=2),
        clickhouse=ClickHouseSettings(url=url, database=database),
        sink=SinkSettings(**own | sink),
    )


def table_of(kind: type[Record]) -> Table:
    """The table in which records of this kind land."""
    return next(table for table in TABLES if table.record is kind)


async def land(clickhouse: ClickHouseSettings, records: Sequence[Record]) -> None:
    """Inserts records of one kind through the sink's own framing, without Kafka."""
    table = table_of(type(records[0]))
    messages = [FakeMessage(offset, encode(record), "kyb." + table.topic) for offset, record in enumerate(records)]
    (piece,), _ = sort_out(messages, NEWEST[table.record].rpartition(".v")[0], tombstones=False)
    async with connected(clickhouse) as client:
        names = (await table_columns(clickhouse, client))[table.name]
        with in_our_words(clickhouse):
            await client.raw_insert(
                table=f"{clickhouse.database}.{table.name}",
                column_names=columns(piece.schema, names),
                insert_block=frame(piece),
                fmt="Avro",
            )


async def rows(clickhouse: ClickHouseSettings, sql: str, *, final: bool = True) -> list[dict[str, Value]]:
    """The rows of a query by column name."""
    answer = await query(clickhouse, sql, final=final)
    names = [column.name for column in answer.columns]
    return [dict(zip(names, row, strict=True)) for row in answer.rows]

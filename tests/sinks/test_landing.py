from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from kybstream.settings import ClickHouseSettings
from schemas.codec import encode
from schemas.records import Record, Service, Subject
from sinks.clickhouse import connected
from sinks.framing import columns, frame, sort_out
from sinks.migrate import table_columns
from sinks.query import Value
from sinks.writer import token
from tests.sinks.making import (
    FakeMessage,
    at,
    case,
    dead_letter,
    delivery,
    event,
    land,
    rejection,
    rows,
    table_of,
)

pytestmark = pytest.mark.every_python


def _full_case(number: int) -> Record:
    return case(
        f"case-{number}",
        version=7,
        kyc_status="temporary_rejection",
        outcome="awaiting_resubmission",
        services=(Service(name="aml", initiated_at=at(seconds=1)), Service(name="kyc", resolved_at=at(microseconds=3))),
        subjects=(Subject(subject="p1", level="2", status="temporary_rejection", attempts=3),),
        expected_subjects=2,
        kyb_initiated_at=at(seconds=1),
        placements=("learned", "path_token"),
        resubmissions=1,
        aml_alerts=4,
        anomalies=("kyc_regression",),
    )


def _full_event(number: int) -> Record:
    return event(
        number,
        status="resolved",
        services=("aml", "documents"),
        id_embedded_at=at(days=-1),
        document_found=False,
        kyc_level="1",
        violations=("missing:uid", "null:link"),
        unknown_fields=("x",),
    )


_MAKERS: list[Callable[[int], Record]] = [
    lambda number: delivery(number, violations=("missing:status",), reason="x", entity_key="acme/s"),
    lambda number: delivery(number, event_id=None, first_delivery_id=None, verdict="quarantined"),
    _full_event,
    event,
    _full_case,
    lambda number: case(f"case-{number}"),
    dead_letter,
    rejection,
]


def _as_row(value: object) -> Value:
    """A field as ClickHouse tells it: arrays for tuples, objects for structs, times with microseconds."""
    builtin: Any = msgspec.to_builtins(value)
    return _spelled(builtin)


def _spelled(value: Any) -> Value:
    if isinstance(value, str) and value.endswith("Z") and "T" in value:
        return value if "." in value else value.replace("Z", ".000000Z")
    if isinstance(value, list | tuple):
        return [_spelled(each) for each in value]
    if isinstance(value, dict):
        return {name: _spelled(each) for name, each in value.items()}
    return value  # type: ignore[no-any-return]


@pytest.mark.parametrize("make", _MAKERS)
async def test_every_field_of_a_record_lands_as_it_was(clickhouse: ClickHouseSettings, make: Callable[[int], Record]) -> None:
    """Text, numbers, times to the microsecond, nulls, enumerations, arrays and nested services and subjects."""
    records = [make(number) for number in range(3)]
    await land(clickhouse, records)
    table = table_of(type(records[0]))
    found = await rows(clickhouse, f"SELECT * FROM {table.name} ORDER BY _offset")  # noqa: S608
    assert [(row["_topic"], row["_partition"], row["_offset"]) for row in found] == [
        ("kyb." + table.topic, 3, offset) for offset in range(3)
    ]
    for record, row in zip(records, found, strict=True):
        for name in record.__struct_fields__:
            if name.startswith("origin_") and name != "origin_topic":
                assert name not in row  # what was sent can hold personal data, and stays in the topic
            elif name == "tenant":
                assert row[name] == (getattr(record, name) or "")
            else:
                assert row[name] == _as_row(getattr(record, name)), name


async def test_a_body_that_is_too_long_does_not_shift_its_neighbours(clickhouse: ClickHouseSettings) -> None:
    """Each record is read within its own bounds: bytes after the last field are not read as the next record's."""
    values = [encode(delivery(1)) + b"\x07\x07\x07", encode(delivery(2)), encode(delivery(3))]
    (piece,), _ = sort_out([FakeMessage(offset, value) for offset, value in enumerate(values)], "delivery", tombstones=False)
    async with connected(clickhouse) as client:
        names = columns(piece.schema, (await table_columns(clickhouse, client))["deliveries"])
        await client.raw_insert(f"{clickhouse.database}.deliveries", names, frame(piece), fmt="Avro")
    found = await rows(clickhouse, "SELECT delivery_id, body_size, _offset FROM deliveries ORDER BY _offset")
    assert found == [
        {"delivery_id": f"delivery-{number:06d}", "body_size": 100 + number, "_offset": number - 1} for number in (1, 2, 3)
    ]


async def test_an_insert_sent_again_lands_once(clickhouse: ClickHouseSettings) -> None:
    """The same bytes under the same token are one insert, in the table itself and not only with FINAL."""
    await _insert(clickhouse, 1, times=3)
    assert (await rows(clickhouse, "SELECT count() AS n FROM deliveries", final=False))[0]["n"] == 20_000
    await _insert(clickhouse, 2, times=1)  # the same offsets, other records: a topic made anew
    assert (await rows(clickhouse, "SELECT count() AS n FROM deliveries"))[0]["n"] == 40_000


async def test_an_insert_is_one_part(clickhouse: ClickHouseSettings) -> None:
    """All rows of an insert become visible together or not at all, also when they span months."""
    await _insert(clickhouse, 1, times=1, step=300)
    (span,) = await rows(clickhouse, "SELECT count(DISTINCT toStartOfMonth(received_at)) AS months FROM deliveries")
    assert span["months"] == 3
    (parts,) = await rows(
        clickhouse,
        "SELECT count() AS n, any(max_block_number - min_block_number) AS merged FROM system.parts "
        "WHERE database = currentDatabase() AND table = 'deliveries' AND active",
        final=False,
    )
    assert parts == {"n": 1, "merged": 0}


async def _insert(clickhouse: ClickHouseSettings, batch: int, *, times: int, step: int = 1) -> None:
    count = 20_000
    messages = [
        FakeMessage(offset, encode(delivery(batch * count + offset, received_at=at(seconds=offset * step))))
        for offset in range(count)
    ]
    (piece,), _ = sort_out(messages, "delivery", tombstones=False)
    framed = frame(piece)
    async with connected(clickhouse) as client:
        names = (await table_columns(clickhouse, client))["deliveries"]
        for _ in range(times):
            await client.raw_insert(
                table=f"{clickhouse.database}.deliveries",
                column_names=columns(piece.schema, names),
                insert_block=framed,
                settings={"insert_deduplication_token": token(piece, framed), "async_insert": "0"},
                fmt="Avro",
            )

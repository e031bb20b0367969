from __future__ import annotations

import io
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from unittest import mock

import fastavro
import msgspec
from hypothesis import given
from hypothesis import strategies as st

from schemas import codec
from schemas.codec import HEADER_SIZE, MAGIC, all_schemas, encode, newest_schema
from schemas.records import Delivery
from sinks.framing import columns, frame, sort_out
from sinks.writer import token
from tests.sinks.making import FakeMessage, delivery, event

_text = st.text(max_size=20)
_times = st.datetimes(datetime(1970, 1, 1), datetime(2261, 1, 1)).map(lambda moment: moment.replace(tzinfo=UTC))  # noqa: DTZ001
_deliveries = st.builds(
    Delivery,
    delivery_id=_text,
    received_at=_times,
    tenant=_text,
    source=_text,
    source_kind=_text,
    verdict=st.sampled_from(["new", "duplicate", "quarantined"]),
    reason=st.none() | _text,
    event_id=st.none() | _text,
    first_delivery_id=st.none() | _text,
    entity_key=st.none() | _text,
    case_id=st.none() | _text,
    event_type=st.none() | _text,
    violations=st.lists(_text, max_size=3).map(tuple),
    body_size=st.integers(0, 2**62),
)


def _read(container: bytes) -> list[dict[str, Any]]:
    return list(fastavro.reader(io.BytesIO(container)))


@given(st.lists(_deliveries, min_size=1, max_size=20), st.integers(0, 2**62), st.integers(0, 2**31 - 1), _text)
def test_a_container_reads_as_the_records_with_their_places(
    records: list[Delivery], first: int, partition: int, topic: str
) -> None:
    """Avro's own reader finds every record unchanged behind topic, partition and offset, whatever they hold."""
    messages = [FakeMessage(first + 2 * number, encode(record), topic, partition) for number, record in enumerate(records)]
    (piece,), bad = sort_out(messages, "delivery", tombstones=False)
    assert not bad
    read = _read(frame(piece))
    for number, (record, row) in enumerate(zip(records, read, strict=True)):
        place = {"_topic": topic, "_partition": partition, "_offset": first + 2 * number}
        fields = msgspec.to_builtins(record, builtin_types=(datetime,))
        assert row == place | fields | {"violations": list(record.violations)}


def test_bad_neighbours_are_parted_from_good_ones() -> None:
    """What is not Avro, of an unknown schema, of another kind or empty gets its reason; the others stay one piece."""
    good = encode(delivery(1))
    values = [
        good,
        b"{}",
        good[:9],
        b"\xc3\x01" + b"\x00" * 8 + good[HEADER_SIZE:],
        encode(event(1)),
        None,
        encode(delivery(2)),
    ]
    messages = [FakeMessage(offset, value) for offset, value in enumerate(values)]
    (piece,), bad = sort_out(messages, "delivery", tombstones=False)
    assert piece.ranges() == [(3, 0, 6)]
    assert [row["delivery_id"] for row in _read(frame(piece))] == ["delivery-000001", "delivery-000002"]
    assert [(each.message.offset, each.reason) for each in bad] == [
        (1, "not_avro"),
        (2, "not_avro"),
        (3, "unknown_schema"),
        (4, "wrong_record"),
        (5, "no_value"),
    ]


@given(
    st.dictionaries(st.integers(0, 2**31 - 1), st.lists(st.integers(0, 2**40), min_size=1, max_size=5), min_size=1, max_size=4)
)
def test_rows_of_several_partitions_keep_their_places(offsets: dict[int, list[int]]) -> None:
    """In one container each row has its own partition and offset, and the token names each partition's range."""
    places = [(partition, offset) for partition in sorted(offsets) for offset in sorted(set(offsets[partition]))]
    messages = [
        FakeMessage(offset, encode(delivery(number)), partition=partition) for number, (partition, offset) in enumerate(places)
    ]
    (piece,), _ = sort_out(messages, "delivery", tombstones=False)
    framed = frame(piece)
    found = [(row["_partition"], row["_offset"], row["delivery_id"]) for row in _read(framed)]
    assert found == [(*place, f"delivery-{number:06d}") for number, place in enumerate(places)]
    ranges = ",".join(f"{partition}:{min(offsets[partition])}-{max(offsets[partition])}" for partition in sorted(offsets))
    assert token(piece, framed).startswith(f"kyb.deliveries.v1:{ranges}:")


@given(st.lists(st.lists(st.sampled_from("ABx"), max_size=8), max_size=4))
def test_no_partition_goes_back_from_piece_to_piece(partitions: list[list[str]]) -> None:
    """However schemas (A, B) and bad records (x) alternate: each record once, one schema a piece, offsets only go up."""
    schemas = {name: replace(newest_schema(Delivery), name=f"delivery.v{name}", fingerprint=name.encode() * 8) for name in "AB"}
    body = encode(delivery(1))[HEADER_SIZE:]
    messages = [
        FakeMessage(offset, b"x" if kind == "x" else MAGIC + schemas[kind].fingerprint + body, partition=partition)
        for partition, kinds in enumerate(partitions)
        for offset, kind in enumerate(kinds)
    ]
    known = {schema.fingerprint: schema for schema in schemas.values()}
    with mock.patch.object(codec, "all_schemas", return_value=known):
        pieces, bad = sort_out(messages, "delivery", tombstones=False)
    written = [(message.partition, message.offset) for piece in pieces for message in piece.messages]
    kinds_of = [{partitions[message.partition][message.offset] for message in piece.messages} for piece in pieces]
    assert kinds_of == [{piece.schema.name[-1]} for piece in pieces]
    assert {each.reason for each in bad} <= {"not_avro"}
    assert sorted([*written, *((each.message.partition, each.message.offset) for each in bad)]) == [
        (message.partition, message.offset) for message in messages
    ]
    for partition in range(len(partitions)):
        offsets = [offset for where, offset in written if where == partition]
        assert offsets == sorted(offsets)
    assert len(pieces) <= 2 * max((len(kinds) for kinds in partitions), default=0)


def test_a_tombstone_of_a_compacted_topic_is_passed_over() -> None:
    """There, no value means deleted: neither a row nor a dead letter."""
    assert sort_out([FakeMessage(0, None)], "case", tombstones=True) == ((), ())


def test_the_same_piece_has_the_same_bytes_and_token_and_other_rows_another_token() -> None:
    """A repeated insert is recognised; the same offsets with other records, of a topic made anew, are not taken for it."""

    def made(number: int) -> tuple[bytes, str]:
        messages = [FakeMessage(offset, encode(delivery(number + offset))) for offset in range(3)]
        (piece,), _ = sort_out(messages, "delivery", tombstones=False)
        framed = frame(piece)
        return framed, token(piece, framed)

    assert made(1) == made(1)
    assert made(1)[1].startswith("kyb.deliveries.v1:3:0-2:")
    assert made(1)[1] != made(2)[1]


def test_columns_are_the_fields_that_the_table_has() -> None:
    """A field without a column is left to ClickHouse to skip, a column without a field to its default."""
    schema = next(schema for schema in all_schemas().values() if schema.name == "rejection.v1")
    assert columns(schema, frozenset({"rejection_id", "count", "_inserted_at", "newer"})) == (
        "_topic",
        "_partition",
        "_offset",
        "rejection_id",
        "count",
    )

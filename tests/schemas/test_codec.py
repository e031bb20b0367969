from __future__ import annotations

import contextlib
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kybstream.errors import BadRecordError
from schemas.codec import HEADER_SIZE, MAGIC, NEWEST, all_schemas, decode, decode_any, encode, newest_schema, schema_of
from schemas.records import CaseEvent, Link, Record, WebhookDelivery
from tests.schemas.samples import ANY_RECORD, KINDS

LINK = Link(link_id="l", tenant="acme", case_id="c", subject="v1.s", registered_at=datetime(2026, 3, 1, tzinfo=UTC))


@given(record=ANY_RECORD)
@settings(max_examples=200, deadline=None)
def test_every_record_comes_back_as_it_went(record: Record) -> None:
    """All kinds, all fields, to the microsecond; by its kind or by whatever its schema says."""
    value = encode(record)
    assert decode_any(value) == record
    assert decode(value, type(record)) == record
    assert encode(decode_any(value)) == value


def test_a_value_begins_with_magic_and_its_writers_fingerprint() -> None:
    """Single-object encoding: C3 01, eight bytes little-endian CRC-64-AVRO, the body.

    The fingerprint of links is computed by hand: records that were written with it lie in topics.
    """
    value = encode(LINK)
    assert value[:2] == MAGIC
    assert value[2:HEADER_SIZE] == newest_schema(Link).fingerprint == crc_64_avro(canonical_link_schema())
    assert schema_of(value).subject == "link"


def canonical_link_schema() -> bytes:
    """The parsing canonical form of the link schema, written by hand from the specification."""
    fields = (
        '{"name":"link_id","type":"string"},{"name":"tenant","type":"string"},{"name":"case_id","type":"string"},'
        '{"name":"subject","type":"string"},{"name":"expected_subjects","type":["null","int"]},'
        '{"name":"registered_at","type":"long"}'
    )
    return f'{{"name":"kybstream.Link","type":"record","fields":[{fields}]}}'.encode()


def crc_64_avro(data: bytes) -> bytes:
    """The specification's fingerprint, bit by bit; little-endian."""
    empty = 0xC15D213AA4D7A795
    crc = empty
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (empty if crc & 1 else 0)
    return crc.to_bytes(8, "little")


def test_no_two_schemas_share_a_fingerprint() -> None:
    """The canonical form drops defaults and docs: two versions that differ in these alone would be one."""
    assert len(all_schemas()) == len({schema.name for schema in all_schemas().values()})
    assert {schema.name for schema in all_schemas().values()} >= set(NEWEST.values())


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_kind_of_record_has_one_newest_schema_of_its_name(kind: type[Record]) -> None:
    """The schema's record has the name of the class, so that a value says what it is."""
    assert newest_schema(kind).json["name"] == kind.__name__


@given(record=ANY_RECORD, data=st.data())
@settings(max_examples=120, deadline=None)
def test_a_value_that_ends_early_or_goes_on_is_a_bad_record(record: Record, data: st.DataObject) -> None:
    """Every prefix, and every value with bytes left over: an error of ours, never a wrong value."""
    value = encode(record)
    for bad in (value[: data.draw(st.integers(0, len(value) - 1))], value + data.draw(st.binary(min_size=1, max_size=4))):
        with pytest.raises(BadRecordError):
            decode_any(bad)


@given(record=ANY_RECORD, data=st.data())
@settings(max_examples=150, deadline=None)
def test_bytes_that_were_changed_are_a_record_or_a_bad_record(record: Record, data: st.DataObject) -> None:
    """Whatever happens to a value, decoding gives a record or BadRecordError: no other error stops a worker."""
    value = bytearray(encode(record))
    for _ in range(data.draw(st.integers(1, 4))):
        value[data.draw(st.integers(HEADER_SIZE, len(value) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(BadRecordError):
        assert type(decode_any(bytes(value))) is type(record)


@pytest.mark.parametrize(
    "value", [b"", b"\xc3\x01", b"\xc3\x01" + bytes(8), b"\x00" * 40, b'{"json": true}', b"\xc3\x02" + bytes(9)]
)
def test_what_is_not_ours_is_a_bad_record(value: bytes) -> None:
    """No magic, or a fingerprint that no kept schema has."""
    with pytest.raises(BadRecordError):
        decode_any(value)


def test_a_record_of_another_kind_is_a_bad_record() -> None:
    """A link where a delivery belongs; the message names both kinds and nothing of the content."""
    with pytest.raises(BadRecordError, match="expected a WebhookDelivery, found a Link"):
        decode(encode(LINK), WebhookDelivery)


def test_messages_of_bad_records_hold_nothing_of_the_record() -> None:
    """A body that does not fit is told by schema and kind of error alone."""
    event = CaseEvent(event_id="Erika", tenant="acme", case_id="c", received_at=LINK.registered_at, kind="kyb")
    with pytest.raises(BadRecordError) as told:
        decode_any(encode(event)[:-3] + b"\xff" * 12)
    assert "Erika" not in f"{told.value.message} {told.value.hint}"


def test_times_keep_their_microseconds() -> None:
    """UTC with microseconds, before and after."""
    moment = datetime(2026, 3, 1, 12, 0, 0, 123457, tzinfo=UTC)
    back = decode(encode(msgspec.structs.replace(LINK, registered_at=moment)), Link)
    assert back.registered_at == moment
    assert back.registered_at.utcoffset() == timedelta(0)

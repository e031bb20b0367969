from __future__ import annotations

from contextlib import suppress
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kybstream.errors import BadRecordError
from schemas.codec import HEADER_SIZE, READ_OFTEN, decode_any, decode_with_fastavro, encode, newest_schema
from schemas.reader import compile_reader, read_long
from schemas.records import CaseEventKind, Record
from schemas.writer import long_bytes
from tests.schemas.samples import record_of

READ_RECORD = st.one_of([record_of(kind) for kind in READ_OFTEN])


@given(record=READ_RECORD)
@settings(max_examples=400, deadline=None)
def test_what_was_written_is_read(record: Record) -> None:
    """Over every field of every kind that has a compiled reader, and as fastavro reads it."""
    value = encode(record)
    assert decode_any(value) == record == decode_with_fastavro(value)


@given(record=READ_RECORD, data=st.data())
@settings(max_examples=600, deadline=None)
def test_damaged_bytes_are_read_as_fastavro_reads_them(record: Record, data: st.DataObject) -> None:
    """Or refused: cut off, longer, or with a byte changed, never as a record that fastavro would not read."""
    value = bytearray(encode(record))
    match data.draw(st.sampled_from(["cut", "longer", "changed"])):
        case "cut":
            del value[data.draw(st.integers(HEADER_SIZE, len(value) - 1)) :]
        case "longer":
            value += data.draw(st.binary(min_size=1, max_size=3))
        case _:
            value[data.draw(st.integers(HEADER_SIZE, len(value) - 1))] = data.draw(st.integers(0, 255))
    with suppress(BadRecordError):
        read = decode_any(bytes(value))
        assert read == decode_with_fastavro(bytes(value))


@given(record=READ_RECORD, data=st.data())
@settings(max_examples=200, deadline=None)
def test_a_record_that_ends_early_is_refused(record: Record, data: st.DataObject) -> None:
    """Wherever it ends, also within its last text."""
    value = encode(record)
    end = data.draw(st.integers(HEADER_SIZE, len(value) - 1))
    with pytest.raises(BadRecordError, match="does not fit"):
        decode_any(value[:end])


@given(number=st.integers(-(2**63), 2**63 - 1))
@settings(max_examples=400, deadline=None)
def test_a_long_is_read_as_it_was_written(number: int) -> None:
    """Over the whole range."""
    written = long_bytes(number)
    assert read_long(b"x" + written + b"y", 1) == (number, 1 + len(written))


def test_a_number_without_end_is_refused() -> None:
    """Instead of growing with as many bytes as somebody sends."""
    with pytest.raises(ValueError, match="ten bytes"):
        read_long(b"\xff" * 40, 0)


def test_an_array_in_blocks_with_sizes_is_read() -> None:
    """Other writers than ours may split an array, and say how long its blocks are."""
    schema = {"type": "record", "name": "R", "fields": [{"name": "f", "type": {"type": "array", "items": "string"}}]}
    read = compile_reader(schema, dict[str, object])
    assert read(b"\x03\x08\x02a\x02b\x02\x02c\x00", 0) == ({"f": ("a", "b", "c")}, 10)


def test_every_symbol_is_a_value_of_its_field() -> None:
    """The reader hands symbols on without asking the record's type."""
    [kind] = [field for field in newest_schema(READ_OFTEN[1]).json["fields"] if field["name"] == "kind"]
    assert set(kind["type"]["symbols"]) <= set(get_args(CaseEventKind))


@pytest.mark.parametrize("kind", ["float", ["string", "null"], {"type": "map", "values": "string"}, "kybstream.Other"])
def test_a_type_without_a_reader_is_refused_when_the_schema_is_compiled(kind: object) -> None:
    """Not when the first record of it is read."""
    schema = {"type": "record", "name": "R", "fields": [{"name": "f", "type": kind}]}
    with pytest.raises(ValueError, match="no reader"):
        compile_reader(schema, dict)

from __future__ import annotations

import io
from datetime import UTC, datetime

import fastavro
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.codec import MAGIC, encode, newest_schema
from schemas.records import Link, Record
from schemas.writer import compile_writer, long_bytes
from tests.schemas.samples import ANY_RECORD


@given(record=ANY_RECORD)
@settings(max_examples=400, deadline=None)
def test_what_is_written_is_what_fastavro_writes(record: Record) -> None:
    """Byte for byte, over every kind of record and all its fields."""
    schema = newest_schema(type(record))
    expected = io.BytesIO()
    expected.write(MAGIC + schema.fingerprint)
    fastavro.schemaless_writer(expected, schema.parsed, msgspec.to_builtins(record, builtin_types=(bytes, datetime)))
    assert encode(record) == expected.getvalue()


@given(moment=st.datetimes(min_value=datetime(1, 1, 2), max_value=datetime(9999, 12, 30), timezones=st.just(UTC)))  # noqa: DTZ001
@settings(max_examples=400, deadline=None)
def test_any_moment_is_written_as_fastavro_writes_it(moment: datetime) -> None:
    """Also before 1970 and far ahead, where the number has another length than today's."""
    link = Link(link_id="l", tenant="t", case_id="c", subject="s", registered_at=moment)
    schema = newest_schema(Link)
    expected = io.BytesIO()
    fastavro.schemaless_writer(expected, schema.parsed, msgspec.to_builtins(link, builtin_types=(bytes, datetime)))
    assert encode(link)[10:] == expected.getvalue()


@given(number=st.integers(-(2**63), 2**63 - 1))
@settings(max_examples=400, deadline=None)
def test_a_long_is_written_as_fastavro_writes_it(number: int) -> None:
    """Over the whole range."""
    expected = io.BytesIO()
    fastavro.schemaless_writer(expected, "long", number)
    assert long_bytes(number) == expected.getvalue()


def test_text_that_is_no_unicode_is_refused() -> None:
    """A lone surrogate has no UTF-8: an error, as with fastavro, and not some other text."""
    link = Link(link_id="\ud800", tenant="t", case_id="c", subject="s", registered_at=datetime(2026, 1, 1, tzinfo=UTC))
    with pytest.raises(UnicodeEncodeError):
        encode(link)


@pytest.mark.parametrize("kind", ["float", ["string", "null"], {"type": "fixed", "name": "F", "size": 4}, "kybstream.Other"])
def test_a_type_without_a_writer_is_refused_when_the_schema_is_compiled(kind: object) -> None:
    """Not when the first record of it is written."""
    schema = {"type": "record", "name": "R", "fields": [{"name": "f", "type": kind}]}
    with pytest.raises(ValueError, match="no writer"):
        compile_writer(schema, b"")

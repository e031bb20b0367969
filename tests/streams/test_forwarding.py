"""Records in another partition than their key belongs to, and state that was left behind in one."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from kybstream.partitions import partition_of
from streams.aside import Aside, owner_of
from streams.batching.records import BatchResult, Output, Record, StateReader
from streams.forwarding import Forwarding
from tests.streams.pipeline import DictState, as_record

PARTITIONS = 3
KEYS = st.one_of(st.none(), st.binary(max_size=8))


def told(_partition: int, records: Sequence[Record], _state: StateReader) -> BatchResult:
    """Says what it was given, and remembers it."""
    return BatchResult(
        outputs=[Output("out", each.key, each.value) for each in records], writes={each.key or b"": b"" for each in records}
    )


@given(keys=st.lists(KEYS, min_size=1, max_size=20), partition=st.integers(0, PARTITIONS - 1))
def test_each_record_is_processed_here_or_forwarded_as_it_is(keys: list[bytes | None], partition: int) -> None:
    """By its key, with its headers and its time, and forwarded ones leave nothing in the state; both keep their order."""
    records = [
        msgspec.structs.replace(as_record("in", key, b"%d" % offset, offset), headers=(("h", b"1"),))
        for offset, key in enumerate(keys)
    ]
    result = Forwarding(told, PARTITIONS)(partition, records, DictState())
    ours = [each for each in records if each.key is None or partition_of(each.key, PARTITIONS) == partition]
    others = [each for each in records if each not in ours]
    assert [each.value for each in result.outputs if each.topic == "out"] == [each.value for each in ours]
    assert [each for each in result.outputs if each.topic == "in"] == [
        Output("in", each.key, each.value, each.headers, each.timestamp_ms) for each in others
    ]
    assert set(result.writes) == {each.key or b"" for each in ours}


@given(owner=st.binary(min_size=1, max_size=30).filter(lambda key: key < b"\xff"))
def test_an_entry_beside_a_key_belongs_where_the_key_does(owner: bytes) -> None:
    """Else it would be left behind when partitions grow."""
    aside = Aside(owner, DictState(), {})
    aside.put("some name", b"value")
    assert [owner_of(key) for key in aside.changes] == [owner]
    assert owner_of(owner) == owner

"""Outputs go to the partitions that any other Kafka client would choose."""

from __future__ import annotations

from aiokafka.partitioner import DefaultPartitioner
from aiokafka.partitioner import murmur2 as reference
from hypothesis import given
from hypothesis import strategies as st

from kybstream.partitions import murmur2, partition_of
from streams.batching import Output
from streams.batching.partitioner import group_by_partition


@given(st.binary(max_size=40))
def test_the_hash_is_kafkas(key: bytes) -> None:
    """Ours and aiokafka's slower one agree on every key, of any length."""
    assert murmur2(key) == reference(key)


@given(st.binary(max_size=40), st.integers(1, 50))
def test_the_partition_is_the_default_partitioners(key: bytes, partitions: int) -> None:
    """A record of ours lies where aiokafka's own `send` would have put it."""
    numbers = list(range(partitions))
    assert partition_of(key, partitions) == DefaultPartitioner()(key, numbers, numbers)


def test_the_hash_is_the_java_clients() -> None:
    """Values from Kafka's own unit test of murmur2, as signed numbers."""
    expected = {b"21": -973932308, b"foobar": -790332482, b"a-little-bit-long-string": -985981536, b"abc": 479470107}
    assert {key: murmur2(key) - (murmur2(key) >> 31 << 32) for key in expected} == expected


@given(st.lists(st.tuples(st.sampled_from(["a", "b"]), st.none() | st.binary(max_size=3))))
def test_grouping_keeps_order_and_loses_nothing(named: list[tuple[str, bytes | None]]) -> None:
    """Each output is in exactly one group, that of its partition, in the order given; without a key, in the batch's own."""
    outputs = [Output(topic, key, b"%d" % i, [("h", b"v")], i) for i, (topic, key) in enumerate(named)]
    grouped = group_by_partition(outputs, {"a": 4, "b": 3}, keyless=7)
    assert sum(map(len, grouped.values())) == len(outputs)
    for (topic, partition), rows in grouped.items():
        expected = [
            (out.key, out.value, out.timestamp_ms, out.headers)
            for out in outputs
            if out.topic == topic
            and partition
            == (7 % {"a": 4, "b": 3}[topic] if out.key is None else partition_of(out.key, {"a": 4, "b": 3}[topic]))
        ]
        assert rows == expected

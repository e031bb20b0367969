"""Which partition a key belongs to, as every Kafka client computes it, and what if a topic has another number of partitions.

aiokafka's own murmur2 walks the bytes one by one and would cost more than everything else that is done to an output; this
one reads four bytes at a time and remembers recent keys. A test holds both to the same answers.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Sequence
from functools import lru_cache

from kybstream.errors import RunError

GROW = "docs/how-to/grow-partitions.md"

_SEED = 0x9747B28C
_M = 0x5BD1E995
_MASK = 0xFFFFFFFF


def murmur2(key: bytes) -> int:
    """Return Kafka's 32-bit hash of `key`."""
    length = len(key)
    words = length >> 2
    h = _SEED ^ length
    for word in struct.unpack_from(f"<{words}I", key):
        k = word * _M & _MASK
        k = (k ^ k >> 24) * _M & _MASK
        h = h * _M & _MASK ^ k
    tail = key[words << 2 :]
    if tail:
        h = (h ^ int.from_bytes(tail, "little")) * _M & _MASK
    h = (h ^ h >> 13) * _M & _MASK
    return h ^ h >> 15


@lru_cache(maxsize=65_536)
def partition_of(key: bytes, partitions: int) -> int:
    """Return the partition of `key` in a topic of `partitions` partitions."""
    return (murmur2(key) & 0x7FFFFFFF) % partitions


class PartitionCountError(RunError):
    """A topic has another number of partitions than `kafka.partitions`."""


def check_partitions(topic: str, *, found: int, configured: int) -> None:
    """Refuse a topic whose records the worker could not join with those of the others.

    Args:
        topic: Its full name.
        found: How many partitions it has.
        configured: `kafka.partitions`.

    Raises:
        PartitionCountError: The numbers differ.
    """
    if found == configured:
        return
    if found > configured:
        hint = f"Kafka cannot take partitions away: set kafka.partitions to {found} or more, stop the workers, and run"
    else:
        hint = f"Set kafka.partitions back to {found}; or, to grow, stop the workers and run"
    raise PartitionCountError(
        f"topic {topic} has {found} partitions, kafka.partitions is {configured}",
        hint=f"{hint} `kyb-stream repartition` ({GROW}).",
    )


def configured_partitioner(configured: int) -> Callable[[bytes | None, Sequence[int], Sequence[int]], int]:
    """A partitioner for aiokafka's producer that uses only the first `configured` partitions of a topic.

    Partitions that somebody added to a topic belong to nobody: no worker has the state of a key there.
    """

    def partitioner(key: bytes | None, every: Sequence[int], _available: Sequence[int]) -> int:
        count = min(configured, len(every))
        return every[random.randrange(count) if key is None else partition_of(key, count)]  # noqa: S311 - no secret

    return partitioner

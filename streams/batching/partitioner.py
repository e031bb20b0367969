"""Outputs sorted into the partitions that their keys belong to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from kybstream.partitions import partition_of
from streams.batching.records import Headers, Output

Row = tuple[bytes | None, bytes | None, int | None, Headers]
"""Key, value, timestamp in epoch milliseconds (None: now), headers."""


def group_by_partition(
    outputs: Iterable[Output], partitions: Mapping[str, int], keyless: int
) -> dict[tuple[str, int], list[Row]]:
    """Sort outputs into rows per topic and partition, keeping their order.

    Args:
        outputs: What to send.
        partitions: How many partitions each topic has.
        keyless: The number that decides for outputs without a key.
    """
    grouped: dict[tuple[str, int], list[Row]] = {}
    for out in outputs:
        count = partitions[out.topic]
        target = (out.topic, keyless % count if out.key is None else partition_of(out.key, count))
        grouped.setdefault(target, []).append((out.key, out.value, out.timestamp_ms, out.headers))
    return grouped

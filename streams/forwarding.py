"""Records that lie in another partition than their key belongs to: written once more, to the right one, and not processed here.

The state of a key lies in one partition. After partitions were added, records of before lie where their key belonged then, and
so do those of an ingress that was not restarted yet. Processed there they would meet no state: a repeat would be judged new.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from kybstream.partitions import partition_of
from streams.batching.records import BatchResult, Output, Process, Record, StateReader


class Forwarding:
    """A `Process` that is given the records of its partition only; the others it forwards.

    Args:
        process: What it runs.
        partitions: How many partitions the topics have.
    """

    def __init__(self, process: Process, partitions: int) -> None:
        self._process = process
        self._partitions = partitions

    def __call__(self, partition: int, records: Sequence[Record], state: StateReader) -> BatchResult:
        """What `process` says of the records that belong here, and the others as they are."""
        strays = [record for record in records if not self._belongs(record.key, partition)]
        if not strays:
            return self._process(partition, records, state)
        forwarded = [Output(each.topic, each.key, each.value, each.headers, each.timestamp_ms) for each in strays]
        ours = [record for record in records if self._belongs(record.key, partition)]
        if not ours:
            return BatchResult(outputs=forwarded)
        result = self._process(partition, ours, state)
        return msgspec.structs.replace(result, outputs=[*result.outputs, *forwarded])

    def _belongs(self, key: bytes | None, partition: int) -> bool:
        return key is None or partition_of(key, self._partitions) == partition

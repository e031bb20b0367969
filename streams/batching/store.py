"""What Faust calls a store: a thin shell that tells a `PartitionedState` about rebalances and recovery."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from pathlib import Path
from typing import Any

import faust.stores.base
import structlog
from faust.types import TP

from kybstream.errors import KybStreamError
from streams.batching.errors import AssignmentError, ChangelogLostError, TopicMismatchError
from streams.batching.state import NO_OFFSET, open_state

log = structlog.get_logger(__name__)

INDEXED_AT_ONCE = 200
"""Entries between two turns of the event loop, when an index of what is due is made anew: 2 ms."""

LOOK_SECONDS = 0.1
"""Between two looks whether batches are processed."""

RETRY_SECONDS = 5.0
"""Until a disk that refused the index is tried again."""


ADDED_HINT = (
    "Kafka cannot take partitions away, and the state of a key lies in the partition of its number. "
    "docs/how-to/grow-partitions.md says how to go on with more of them"
)

LOST_HINT = (
    "Stop all workers and keep a copy of worker.data_dir: it has the only whole state. Bring the topic back from a copy of "
    "Kafka's data. If there is none, move worker.data_dir away: the state is then what the changelog has, known cases begin "
    "at version 1 again, and `kyb-stream replay --from --to` processes again what the raw topic still has"
)


class BatchStore(faust.stores.base.Store):  # type: ignore[misc] # Faust publishes no types
    """The store of a `BatchTable`. Only Faust and the table call it.

    Attributes:
        local: The keys and values.
        tails: Per partition, the newest changelog offset known of; the next write of the only writer gets the one after.
        recovered: The partitions whose state is complete.
        indexed: Those of them whose index of what is due is complete, too.
        read_back: How many records of the changelog were applied.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.local = open_state(str(self.url), Path(str(self.app.conf.tabledir)) / self.table_name, self.table.due_at)
        self.tails: dict[int, int] = {}
        self.recovered: frozenset[int] = frozenset()
        self.indexed: set[int] = set()
        self.read_back = 0
        self._assigned: set[int] = set()
        self._indexing: asyncio.Task[None] | None = None

    # -- changelog to state

    def persisted_offset(self, tp: TP) -> int:
        """Return where recovery begins. Never None: Faust would then keep what it remembers of an earlier assignment."""
        return self.local.offset(tp.partition)

    def recover(self, partition: int, writes: Collection[tuple[bytes, bytes | None]], offset: int) -> None:
        """Apply records read from the changelog, unless they are a leftover of an earlier assignment."""
        if partition in self._assigned and offset > self.local.offset(partition):
            self.local.recover(partition, writes, offset)
            self.read_back += len(writes)

    def settle(self, partition: int, offset: int) -> None:
        """Note that the partition is complete up to this offset, and make sure of it; what compaction took counts as read."""
        if partition in self._assigned:
            self.local.recover(partition, (), max(offset, self.local.offset(partition)))
            self.local.settle(partition)

    def tail(self, partition: int) -> int:
        """Return the newest changelog offset this process knows of."""
        return max(self.tails.get(partition, NO_OFFSET), self.local.offset(partition))

    # -- assignment

    async def on_rebalance(self, assigned: set[TP], _revoked: set[TP], _new: set[TP], _generation_id: int = 0) -> None:
        """Let go of lost partitions and compare new ones with their changelog, before Faust recovers them.

        Raises:
            AssignmentError: if a source partition came without its changelog; Faust then ends the app.
        """
        topic = self.table.changelog_topic_name
        mine = {tp.partition for tp in assigned if tp.topic == topic}
        stateless = {tp for tp in assigned if tp.topic in self.table.source_topics and tp.partition not in mine}
        added = sorted({tp.topic for tp in stateless if tp.partition >= self.table.partitions})
        if added:
            raise TopicMismatchError(
                f"topic {added[0]} has more partitions than the {self.table.partitions} of the state: some were added",
                hint=ADDED_HINT,
            )
        if stateless:
            raise AssignmentError(
                f"assigned {len(stateless)} source partitions of table {self.table_name} without their changelog {topic}",
                hint="stop the worker for longer than its session timeout, so that the group forgets this assignment",
            )
        self.recovered = frozenset()
        self._stop_indexing()
        for partition in self._assigned - mine:
            self.local.release(partition)
            self.tails.pop(partition, None)
        new = mine - self._assigned
        self._assigned = mine
        if not new:
            return
        ends = await self.app.consumer.highwaters(*(TP(topic, partition) for partition in new))
        for tp, end in ends.items():
            self.tails[tp.partition] = last = (end or 0) - 1
            if (local := self.local.offset(tp.partition)) > last:
                # Going on without the state would begin known cases at version 1; going on with it, another worker would.
                raise ChangelogLostError(
                    f"changelog {topic} partition {tp.partition} ends at offset {last + 1}, and the local state has what stood "
                    f"there up to offset {local}: the topic was deleted, made anew or truncated",
                    hint=LOST_HINT,
                )

    async def on_recovery_completed(self, active_tps: set[TP], _standby_tps: set[TP]) -> None:
        """Note which partitions are complete now, and complete their indexes while batches are processed."""
        self.recovered = frozenset(tp.partition for tp in active_tps) & self._assigned
        self._stop_indexing()
        self._indexing = asyncio.create_task(self._index_all())

    async def on_stop(self) -> None:
        """Close the state."""
        self.recovered = frozenset()
        self._stop_indexing()
        self.local.close()

    # -- the index of what is due

    async def _index_all(self) -> None:
        try:
            while not self.app.ready():  # noqa: ASYNC110 - Faust tells readiness by state, not by an event
                await asyncio.sleep(LOOK_SECONDS)
            for partition in sorted(self.recovered):
                await self._index(partition)
                self.indexed.add(partition)
        except Exception as error:  # noqa: BLE001 - without its index, nothing of a table would ever be due
            self.app.crash_soon(error)

    async def _index(self, partition: int) -> None:
        loop = asyncio.get_running_loop()
        began, told = loop.time(), False
        while True:
            looked = loop.time()
            try:
                if self.local.index_more(partition, INDEXED_AT_ONCE):
                    break
                told = told or self._tell_that_the_index_is_made(partition)
                await asyncio.sleep(loop.time() - looked)  # at most half of the time of the loop
            except KybStreamError as error:
                if not error.retriable:
                    raise
                log.warning("index_tried_again", table=self.table_name, partition=partition, reason=str(error))
                await asyncio.sleep(RETRY_SECONDS)
        if told:
            seconds = round(loop.time() - began, 1)
            log.info("index_made", table=self.table_name, partition=partition, seconds=seconds)

    def _tell_that_the_index_is_made(self, partition: int) -> bool:
        log.info("making_index_of_due_entries", table=self.table_name, partition=partition)
        return True

    def _stop_indexing(self) -> None:
        self.indexed.clear()
        if self._indexing is not None:
            self._indexing.cancel()
            self._indexing = None

    # -- the rest of Faust's interface, which batches do without

    def set_persisted_offset(self, tp: TP, offset: int) -> None:
        """Do nothing: the offset is written with the data."""

    async def need_active_standby_for(self, _tp: TP) -> bool:
        """Return False: there are no standby replicas."""
        return False

    def apply_changelog_batch(self, batch: Any, to_key: Any, to_value: Any) -> None:
        """Refuse: `BatchTable` applies whole record batches itself."""
        raise NotImplementedError("changelogs are applied by BatchTable")

    def reset_state(self) -> None:
        """Remove the local state; Faust's `reset` command calls this."""
        for partition in self._assigned:
            self.local.erase(partition)

    async def backup_partition(self, *_args: object, **_kwargs: object) -> None:
        """Refuse: the changelog is the backup."""
        raise NotImplementedError("the changelog is the backup of a partition")

    def restore_backup(self, *_args: object, **_kwargs: object) -> None:
        """Refuse: the changelog is the backup."""
        raise NotImplementedError("the changelog is the backup of a partition")

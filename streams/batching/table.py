"""A table of bytes whose changes are written to its changelog as whole record batches."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import faust

from streams.batching.changelog import ChangelogTopic, changelog_topic
from streams.batching.due import DueAt, never
from streams.batching.errors import ChangelogConflictError, RecordTooLargeError
from streams.batching.state import StateSize
from streams.batching.store import BatchStore

if TYPE_CHECKING:
    from streams.batching.producer import BatchProducer


class TableReader:
    """The state of one partition of a table, as `process` sees it."""

    def __init__(self, store: BatchStore, partition: int) -> None:
        self._store = store
        self._partition = partition

    def get_many(self, keys: Collection[bytes]) -> dict[bytes, bytes]:
        """Return the values of those of `keys` that exist."""
        found: dict[bytes, bytes] = self._store.local.get_many(self._partition, keys)
        return found


class BatchTable(faust.Table):  # type: ignore[misc] # Faust publishes no types
    """Keys and values as bytes, per partition number. Made by `BatchApp.batch_table`.

    An application reads it with `due` and `owned_partitions`; only an agent's batches change it.

    Attributes:
        due_at: When an entry is due.
        source_topics: What its agent reads: these topics and the changelog are assigned by partition number, together.
    """

    def __init__(self, *args: Any, due_at: DueAt = never, **kwargs: Any) -> None:
        self.source_topics: set[str] = set()
        self.due_at = due_at
        super().__init__(*args, **kwargs)

    @property
    def changelog(self) -> ChangelogTopic:
        """The changelog topic, for whoever creates topics."""
        return changelog_topic(self.app.conf.id, self.name, self.partitions)

    def owned_partitions(self) -> frozenset[int]:
        """Return the partitions whose complete state is here now; empty during a rebalance."""
        store = self._store_now()
        if store is None or self.app.rebalancing or self.app.should_stop:
            return frozenset()
        return frozenset(store.recovered)

    def indexed(self) -> bool:
        """Tell whether `due` knows of all that is due in the owned partitions."""
        store = self._store_now()
        return store is not None and self.owned_partitions() <= store.indexed

    def due(self, partition: int, kind: int, until: int) -> Iterator[tuple[bytes, bytes]]:
        """Yield the keys and values of an owned partition that are due for this up to that time, in order of time.

        It ends early when the partition is lost meanwhile. It does not yield to the event loop: a caller with much to look
        at does so itself, between items. Batches may write in between.
        """
        store = self._store_now()
        if store is None or partition not in self.owned_partitions():
            return
        for item in store.local.due(partition, kind, until):
            yield item
            if partition not in self.owned_partitions():
                return

    def sizes(self) -> dict[int, StateSize]:
        """Return about how large the state of each owned partition is."""
        store = self._store_now()
        return {} if store is None else {number: store.local.size(number) for number in self.owned_partitions()}

    def recovered(self) -> int:
        """Return how many records of the changelog have been read back."""
        store = self._store_now()
        return 0 if store is None else store.read_back

    # -- called by an agent's batches: steps 3 and 4 of steps.py

    def reader(self, partition: int) -> TableReader:
        """Return the state of `partition` as the last batch left it."""
        return TableReader(self.data, partition)

    async def append(self, partition: int, writes: Iterable[tuple[bytes, bytes | None]]) -> int:
        """Write to the changelog and return the offset of the last record, once all replicas have it.

        Raises:
            ChangelogConflictError: if the offsets do not follow on the last one known, so somebody else is writing here.
        """
        producer: BatchProducer = self.app.producer
        store: BatchStore = self.data
        last = store.tail(partition)
        rows = [(key, value, None, ()) for key, value in writes]
        try:
            written = await producer.send_rows(self.changelog_topic_name, partition, rows)
        except RecordTooLargeError as error:
            store.tails[partition] = last + error.appended
            raise
        for base, count in written:
            if base != last + 1:
                topic = self.changelog_topic_name
                raise ChangelogConflictError(
                    f"changelog {topic} partition {partition}: wrote at offset {base}, expected {last + 1}",
                    hint="another process writes to this changelog; a restart reads its state again from there",
                )
            last = base + count - 1
        store.tails[partition] = last
        return last

    def write(self, partition: int, writes: Iterable[tuple[bytes, bytes | None]], offset: int) -> None:
        """Write to the local store, atomically with the changelog offset."""
        self.data.local.write(partition, writes, offset)

    # -- called by Faust

    def apply_changelog_batch(self, batch: Iterable[Any]) -> None:
        """Do nothing: Faust flushes buffers, which are always empty; `recovery` applies changelogs."""

    def _new_store_by_url(self, url: Any) -> BatchStore:
        return BatchStore(url, self.app, self, table_name=self.name, loop=self.loop, options=self.options)

    def _store_now(self) -> BatchStore | None:
        store: BatchStore | None = self._data
        return store

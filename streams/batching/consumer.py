"""Faust's consumer, delivering each fetched chunk of a partition as one message and committing by ranges.

Positions. `_read_offset` holds the next offset of each partition. aiokafka counts as read what it has handed over, but a
rebalance can come between that and the delivery. What was fetched and not delivered is fetched again (`_undelivered`). The
first chunk after a stop of the flow must begin at the expected offset, else the position is set back once; later is a real gap.

The end of a rebalance. Faust lets the partitions be read again, seeks them, and only then empties the agents' queues. A chunk
that arrives in between would vanish, and its partition would never be committed again: seen in one of ten restarts on a busy
machine. So chunks of source topics are not delivered before the rebalance is over.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import structlog
from faust.types import TP
from mode.utils.futures import notify

from streams.batching.asking import AskingConsumer
from streams.batching.made_anew import MadeAnew
from streams.batching.message import BatchMessage
from streams.batching.progress import CommitProgress, PartitionProgress
from streams.batching.ranges import OffsetRanges
from streams.batching.starting import Starting

log = structlog.get_logger(__name__)

FETCH_SECONDS = 1.0
"""How long one fetch waits for records; also how long a stop may have to wait for it."""

REBALANCE_PAUSE_SECONDS = 0.01
"""Between fetches at the end of a rebalance, so that they do not spin."""


class BatchConsumer(AskingConsumer):
    """The one consumer of a worker."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._ranges: OffsetRanges[TP] = OffsetRanges()
        self._room = asyncio.Event()
        self._aligned: set[TP] = set()
        self._undelivered: set[TP] = set()
        self._progress: CommitProgress[TP] = CommitProgress()
        self._begin_at: dict[TP, int] = {}
        self._begun_anew: Counter[TP] = Counter()
        self.starting = Starting(self)
        self.made_anew = MadeAnew(self)
        super().__init__(*args, **kwargs)

    @property
    def commits(self) -> int:
        """How many commits of a partition there have been."""
        return self._progress.commits

    def progress(self) -> dict[tuple[str, int], PartitionProgress]:
        """Return how each source partition owned does."""
        # Read from aiokafka's own state, without asserting that nothing changes meanwhile: it lives in another thread.
        subscription = self._thread._ensure_consumer()._subscription.subscription  # noqa: SLF001 - see above
        assignment = None if subscription is None else subscription.assignment
        if assignment is None:
            return {}
        owned = {TP(tp.topic, tp.partition): assignment.state_value(tp) for tp in assignment.tps}
        return {
            (tp.topic, tp.partition): self._look(tp, end=state.highwater, position=state._position)  # noqa: SLF001 - see above
            for tp, state in owned.items()
            if tp.topic in self.app.source_topics
        }

    def _look(self, tp: TP, *, end: int | None, position: int | None) -> PartitionProgress:
        read = end is not None and position is not None and position >= end
        idle = read and tp not in self._undelivered and not self._ranges.waiting(tp)
        return self._progress.look(tp, end=end, committed=self._committed_offset[tp], idle=idle)

    # -- delivery

    async def _drain_messages(self, fetcher: Any) -> None:
        try:
            while not (self.should_stop or fetcher.should_stop):
                await self._fetch_again()
                records, active = await self._wait_next_records(FETCH_SECONDS)
                if records and not self.should_stop:
                    self._undelivered.update(TP(tp.topic, tp.partition) for tp in records)
                    if self.flow_active:
                        # A rebalance stops the flow, and with it the delivery at its next await.
                        await self.wait_first(self._deliver(records, active), self.suspend_flow.wait())
                await asyncio.sleep(0)
        except (*self.consumer_stopped_errors, asyncio.CancelledError):
            if not self.app.should_stop:
                raise

    def _too_early(self, tp: TP) -> bool:
        """Tell whether the agents' queues may yet be emptied."""
        return bool(self.app.rebalancing) and tp.topic in self.app.source_topics

    async def _fetch_again(self) -> None:
        """Set positions back to what was fetched and not delivered, and to where topics that were made anew begin."""
        wanted = self._undelivered | self._begin_at.keys()
        if wanted and self.flow_active:
            again = {tp for tp in wanted & self.assignment() if not self._too_early(tp)}
            if again:
                begun = [tp for tp in again if tp in self._begin_at]
                await self.seek_wait({tp: self.next_offset(tp) for tp in again})
                self._undelivered -= again
                for tp in begun:
                    self._begin_at.pop(tp, None)
            else:
                await asyncio.sleep(REBALANCE_PAUSE_SECONDS)

    async def _deliver(self, records: Mapping[Any, Sequence[Any]], active: set[TP] | None) -> None:
        generation = self.app.consumer_generation_id
        for fetched_tp, fetched in records.items():
            tp = TP(fetched_tp.topic, fetched_tp.partition)
            if not self.flow_active or self.app.consumer_generation_id != generation:
                return
            if self._too_early(tp) or not (active is None or tp in active or tp in self._buffered_partitions):
                continue
            expected = self._read_offset[tp] or 0
            first_chunk = tp not in self._aligned
            self._aligned.add(tp)
            if fetched[0].offset > expected:
                if first_chunk:
                    continue  # it stays undelivered, so the position is set back
                if not await self._tell_gap(tp, expected):
                    return
            chunk = fetched if fetched[0].offset >= expected else [r for r in fetched if r.offset >= expected]
            if chunk:
                await self._deliver_chunk(tp, chunk, generation)
            self._undelivered.discard(tp)
            await asyncio.sleep(0)

    async def _deliver_chunk(self, tp: TP, chunk: Sequence[Any], generation: int) -> None:
        if tp.topic in self.app.source_topics:
            most = self.app.piece(tp.topic)
            for first in range(0, len(chunk), most):
                piece = chunk[first : first + most]
                await self._deliver_batch(tp, piece, generation)
                self._read_offset[tp] = piece[-1].offset + 1
        elif tp.topic in self.app.batched_topics:
            await self._deliver_batch(tp, chunk, generation)
        else:
            for record in chunk:  # Faust's own topics, should there be any
                await self.callback(self._to_message(tp, record))
        self._read_offset[tp] = chunk[-1].offset + 1

    async def _tell_gap(self, tp: TP, expected: int) -> bool:
        """Tell of what is missing if it has expired; returns whether to go on behind it.

        Compaction and markers of transactions leave gaps, too.
        """
        if tp.topic not in self.app.source_topics:
            return True
        beginnings = await self.earliest_offsets(tp)
        return await self.starting.tell(tp, expected, beginnings.get(tp) or 0)

    async def _deliver_batch(self, tp: TP, chunk: Sequence[Any], generation: int) -> None:
        last = chunk[-1]
        message = BatchMessage(
            tp.topic,
            tp.partition,
            last.offset,
            last.timestamp / 1000.0,
            last.timestamp_type,
            headers=None,
            key=None,
            value=chunk,
            checksum=None,
            serialized_key_size=0,
            serialized_value_size=0,
            tp=tp,
            generation_id=generation,
        )
        message.range = None
        if self.app.topics.acks_enabled_for(tp.topic):
            while self._ranges.inflight >= self.app.inflight_records:
                self._room.clear()
                await self._room.wait()
            if tp in self._begin_at:
                return  # the topic was made anew meanwhile
            message.range = self._ranges.open(tp, last.offset + 1, len(chunk))
        await self.callback(message)

    # -- acknowledgements and commits

    def finish(self, message: BatchMessage) -> bool:
        """Note that a batch is done; its range may be committed once all before it are."""
        message.acked = True
        self._unacked_messages.discard(message)
        if message.range is not None:
            self._ranges.finish(message.range)
            self._room.set()
        notify(self._waiting_for_ack)
        return True

    def forget(self, message: BatchMessage) -> None:
        """Note that a batch was abandoned: nobody need wait for it, and its range stays uncommitted.

        Faust would wait until the message is garbage, but a stream keeps its latest event, so rebalances and stops hung.
        """
        self._unacked_messages.discard(message)
        notify(self._waiting_for_ack)

    def _filter_tps_with_pending_acks(self, topics: Any = None) -> Iterator[TP]:
        yield from super()._filter_tps_with_pending_acks(topics)
        for tp in self._ranges.pending():
            if topics is None or tp in topics or tp.topic in topics:
                yield tp

    def _new_offset(self, tp: TP) -> int | None:
        if tp.topic in self.app.batched_topics:
            return self._ranges.committable(tp)
        offset: int | None = super()._new_offset(tp)
        return offset

    async def _commit_offsets(self, offsets: Mapping[TP, int], start_new_transaction: bool = True) -> bool:  # noqa: FBT001, FBT002
        offsets, begun = self.made_anew.noted(offsets), self._begun_anew.copy()
        committed: bool = await super()._commit_offsets(offsets, start_new_transaction=start_new_transaction)
        for tp, offset in offsets.items():
            if self._begun_anew[tp] != begun[tp]:
                self._committed_offset[tp] = None  # it is of a topic that was made anew meanwhile
            elif committed:
                self._ranges.committed(tp, offset)
                self._progress.committed(tp)
        return committed

    # -- rebalances: all positions go back to what is committed

    def stop_flow(self) -> None:
        """Block delivery; called when a rebalance or a stop begins."""
        self._aligned.clear()
        super().stop_flow()

    async def perform_seek(self) -> None:
        """Go back to the committed offsets; called when a rebalance and its recovery are over."""
        self._ranges.reset()
        self._room.set()
        self._aligned.clear()
        self._progress.reset()
        before = dict(self._committed_offset)
        self._committed_offset.clear()  # of a topic that was made anew nothing is committed
        self._begin_at.clear()
        await self.made_anew.begin()
        await super().perform_seek()
        await self.starting.compare(before)
        await self.made_anew.look()
        await self._thread.read_sources()

    async def begin_at(self, tp: TP, offset: int, *, anew: bool = False) -> None:
        """Go on at the beginning of a topic.

        Args:
            tp: Of which partition.
            offset: Where it begins.
            anew: It is another topic of the same name: what was read of the other one counts no more.
        """
        if anew:
            self.made_anew.forget(tp)
            self.begin_anew(tp, offset)
            return
        self._ranges.finish(self._ranges.open(tp, offset, 0))  # so that it is committed, and told once
        self._undelivered.discard(tp)
        await self.seek_wait({tp: offset})

    def begin_anew(self, tp: TP, offset: int) -> None:
        """Have the next fetch begin there; what is on its way of the topic before is left out, and commits nothing."""
        self._ranges.drop(tp)
        self._committed_offset[tp] = None
        self._begun_anew[tp] += 1
        self._begin_at[tp] = offset
        self._room.set()

    def next_offset(self, tp: TP) -> int:
        """Return the first offset of a partition that was not delivered."""
        return self._begin_at.get(tp, self._read_offset.get(tp) or 0)

    def committed_offset(self, tp: TP) -> int:
        """Return the first offset of a partition that is not committed."""
        return self._committed_offset.get(tp) or 0

    def holds(self, tp: TP) -> bool:
        """Tell whether records of a partition were fetched and not delivered."""
        return tp in self._undelivered or tp in self._thread._ensure_consumer()._fetcher._records  # noqa: SLF001 - what it holds

    async def on_stop(self) -> None:
        """Finish and commit; but not after a crash, see `BatchApp._stop_consumer`."""
        if not self.app.crashed:
            await super().on_stop()

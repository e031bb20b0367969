"""Both kinds of local state keep the same promises."""

from __future__ import annotations

from pathlib import Path

import pytest

from streams.batching import StateLockedError
from streams.batching.rocks import RocksState
from streams.batching.rocks_index import OFFSET_KEY
from streams.batching.state import NO_OFFSET, MemoryState, PartitionedState, open_state


@pytest.fixture(params=["memory://", "rocksdb://"])
def state(request: pytest.FixtureRequest, tmp_path: Path) -> PartitionedState:
    """Each kind of state, empty."""
    return open_state(request.param, tmp_path)


def test_writes_are_read_back_with_their_offset(state: PartitionedState) -> None:
    """Partitions are apart; a None deletes; the offset is that of the last write."""
    assert state.offset(0) == NO_OFFSET
    assert state.get_many(0, {b"a"}) == {}
    state.write(0, [(b"a", b"1"), (b"b", b"")], 1)
    state.write(1, [(b"a", b"other")], 0)
    assert state.get_many(0, {b"a", b"b", b"c"}) == {b"a": b"1", b"b": b""}
    state.write(0, [(b"a", None), (b"c", b"3")], 3)
    assert dict(state.scan(0)) == {b"b": b"", b"c": b"3"}
    assert (state.offset(0), state.offset(1), state.offset(2)) == (3, 0, NO_OFFSET)
    state.close()


def test_a_scan_shows_the_state_as_it_was_when_it_began(state: PartitionedState) -> None:
    """Batches may write while a timer looks through the table."""
    state.write(0, [(b"%d" % i, b"old") for i in range(100)], 99)
    scan = state.scan(0)
    seen = dict([next(scan)])
    state.write(0, [(b"%d" % i, b"new") for i in range(200)], 299)
    seen.update(scan)
    assert seen == {b"%d" % i: b"old" for i in range(100)}
    state.close()


def test_an_erased_partition_is_as_new(state: PartitionedState) -> None:
    """Neither values nor offset stay; the other partitions do."""
    state.write(0, [(b"a", b"1")], 5)
    state.write(1, [(b"a", b"1")], 5)
    state.erase(0)
    assert (state.offset(0), dict(state.scan(0)), state.offset(1)) == (NO_OFFSET, {}, 5)
    state.close()


def test_state_on_disk_is_there_after_a_restart(tmp_path: Path) -> None:
    """Values and offset, without the offset showing among the keys."""
    first = RocksState(tmp_path)
    first.write(3, [(b"a", b"1")], 7)
    first.close()
    second = RocksState(tmp_path)
    assert (dict(second.scan(3)), second.offset(3)) == ({b"a": b"1"}, 7)
    second.close()


def test_a_partition_open_elsewhere_is_a_clear_error(tmp_path: Path) -> None:
    """Two workers with one data folder are told so; once the first has let go, the second can have it."""
    first, second = RocksState(tmp_path), RocksState(tmp_path)
    first.write(0, [(b"a", b"1")], 0)
    with pytest.raises(StateLockedError, match="open in another process"):
        second.offset(0)
    first.release(0)
    assert second.offset(0) == 0
    second.close()


def test_the_reserved_key_is_refused(tmp_path: Path) -> None:
    """A table's key cannot overwrite the offset."""
    state = RocksState(tmp_path)
    with pytest.raises(ValueError, match="reserved"):
        state.write(0, [(OFFSET_KEY, b"99")], 0)
    assert state.offset(0) == NO_OFFSET
    state.close()


def test_memory_forgets_a_partition_it_lets_go(tmp_path: Path) -> None:
    """It would be stale when the partition comes back; on disk its offset tells what is missing."""
    memory, disk = MemoryState(), RocksState(tmp_path)
    for state in (memory, disk):
        state.write(0, [(b"a", b"1")], 5)
        state.release(0)
    assert (memory.offset(0), disk.offset(0)) == (NO_OFFSET, 5)
    disk.close()


def test_the_size_grows_with_what_is_written(state: PartitionedState) -> None:
    """About: RocksDB counts a key that was written twice, and its own, more than once."""
    assert state.size(0).entries <= 1
    state.write(0, [(b"%d" % i, b"x" * 100) for i in range(1_000)], 1)
    entries, size = state.size(0)
    assert 1_000 <= entries <= 1_002
    assert size == 0 if isinstance(state, MemoryState) else size > 100_000
    state.close()

"""The index of what is due says what the entries say, whatever was written and wherever it was cut off."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.batching.due import Due
from streams.batching.rocks import RocksState
from streams.batching.rocks_index import RESERVED
from streams.batching.state import DUE_AT_ONCE, MemoryState, PartitionedState

KINDS = (0, 1)
EVER = 2**62


def due_at(_key: bytes, value: bytes) -> Due | None:
    """A value names its kind and its time; an empty one is never due."""
    return Due(value[0] % 2, int.from_bytes(value[1:], "big")) if value else None


def indexed(state: PartitionedState, until: int = EVER) -> list[tuple[int, int, bytes]]:
    """What is due, as the index says: kind, time and key, in its order."""
    found = [(kind, key, value) for kind in KINDS for key, value in state.due(0, kind, until)]
    return [(kind, due_at(key, value).at, key) for kind, key, value in found]  # type: ignore[union-attr] # it is due


def told(state: PartitionedState, until: int = EVER) -> list[tuple[int, int, bytes]]:
    """The same, as the entries say."""
    every = [(due_at(key, value), key) for key, value in state.scan(0)]
    return sorted((due.kind, due.at, key) for due, key in every if due is not None and due.at <= until)


def made(state: PartitionedState) -> PartitionedState:
    """The state, its index complete."""
    while not state.index_more(0, 3):
        pass
    return state


KEYS = st.sampled_from([b"acme/%d" % number for number in range(6)] + [b"\xffaside"])
VALUES = st.one_of(st.none(), st.just(b""), st.builds(lambda kind, at: bytes([kind, at]), st.integers(0, 1), st.integers(0, 9)))
WRITES = st.lists(st.tuples(KEYS, VALUES), max_size=4)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), WRITES),
        st.tuples(st.just("recover"), WRITES),
        st.tuples(st.just("restart"), st.none()),
        st.tuples(st.just("index"), st.integers(1, 3)),
        st.tuples(st.just("older version"), WRITES),
        st.tuples(st.just("look"), st.integers(0, 9)),
    ),
    max_size=12,
)


class Places:
    """A state in a folder of its own, and what was written, step by step."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.state: PartitionedState = RocksState(folder, due_at)
        self.offset = 0

    def take(self, step: str, given: object) -> None:
        """One step."""
        self.offset += 1
        if step == "write":
            self.state.write(0, given, self.offset)  # type: ignore[arg-type] # by its name
        elif step == "recover":
            self.state.recover(0, given, self.offset)  # type: ignore[arg-type]
            self.state.settle(0)
        elif step == "index":
            self.state.index_more(0, given)  # type: ignore[arg-type]
        elif step == "look":
            assert set(indexed(self.state, given)) <= set(told(self.state, given))  # type: ignore[arg-type]
        else:
            self.state.close()
            if step == "older version":  # knows nothing of an index
                older = RocksState(self.folder)
                older.write(0, given, self.offset)  # type: ignore[arg-type]
                older.close()
            self.state = RocksState(self.folder, due_at)


@given(steps=STEPS)
@settings(max_examples=20, deadline=None)
def test_the_index_says_what_the_entries_say(steps: list[tuple[str, object]]) -> None:
    """After writes, deletions, recoveries, restarts, an index that was made only in part, and an older version in between."""
    with tempfile.TemporaryDirectory() as folder:
        places = Places(Path(folder))
        for step, given_ in steps:
            places.take(step, given_)
        made(places.state)
        for until in (EVER, 4):
            assert indexed(places.state, until) == told(places.state, until)
        places.take("restart", None)
        assert places.state.index_more(0, 1) or not told(places.state)
        places.state.close()


@given(batches=st.lists(WRITES, max_size=12))
@settings(max_examples=60, deadline=None)
def test_the_index_in_memory_says_what_the_entries_say(batches: list[list[tuple[bytes, bytes | None]]]) -> None:
    """After each write, also where a key is written twice in one."""
    state = MemoryState(due_at)
    for offset, writes in enumerate(batches):
        state.write(0, writes, offset)
        assert indexed(state) == told(state)


@pytest.mark.parametrize("kind", ["memory", "rocksdb"])
def test_what_was_written_meanwhile_is_looked_at_once(kind: str, tmp_path: Path) -> None:
    """Batches write while somebody walks through what is due: what left is left out, and nothing comes twice."""
    state = made(MemoryState(due_at) if kind == "memory" else RocksState(tmp_path, due_at))
    count = 3 * DUE_AT_ONCE
    state.write(0, [(b"%05d" % number, bytes([0, number % 7])) for number in range(count)], 1)
    seen = []
    for offset, (key, _) in enumerate(state.due(0, 0, EVER)):
        seen.append(key)
        state.write(0, [(key, None)], 2 + offset)
    assert sorted(seen) == [b"%05d" % number for number in range(count)]
    assert indexed(state) == []
    state.close()


def test_nothing_but_what_is_due_is_read(tmp_path: Path) -> None:
    """Of ten thousand entries, three are looked at; nor does one look step over what left the index before."""
    looked: list[bytes] = []

    def due_when_looked(key: bytes, value: bytes) -> Due | None:
        looked.append(key)
        return due_at(key, value)

    state = made(RocksState(tmp_path, due_when_looked))
    state.write(
        0, [(b"%05d" % number, bytes([0, 200 if number % 2 else 0])[: 2 * (number % 2)]) for number in range(10_000)], 1
    )
    state.write(0, [(b"due-%d" % number, bytes([0, 5])) for number in range(3)], 2)
    looked.clear()
    assert [key for key, _ in state.due(0, 0, 100)] == [b"due-0", b"due-1", b"due-2"]
    assert sorted(looked) == [b"due-0", b"due-1", b"due-2"]
    assert state.size(0).entries == pytest.approx(10_003, abs=10)  # it counts some of its own keys twice
    state.close()


def test_an_index_of_other_settings_mends_itself_where_it_is_looked_at(tmp_path: Path) -> None:
    """A tenant's longer deadline: what is not due yet under the new one is put where it belongs."""
    state = made(RocksState(tmp_path, due_at))
    state.write(0, [(b"a", bytes([0, 1])), (b"b", bytes([0, 2]))], 1)
    state.close()

    def later(key: bytes, value: bytes) -> Due | None:
        due = due_at(key, value)
        return None if due is None else Due(due.kind, due.at + 100)

    state = RocksState(tmp_path, later)
    assert state.index_more(0, 1)
    assert list(state.due(0, 0, 50)) == []
    assert [key for key, _ in state.due(0, 0, 150)] == [b"a", b"b"]
    state.close()


def killed_while(folder: Path, image: Path, work: Callable[[RocksState], None]) -> RocksState:
    """What a process finds that comes after one that was killed at the end of `work`."""
    state = RocksState(folder, due_at)
    work(state)
    shutil.copytree(folder, image)
    state.close()
    (image / "0" / "LOCK").unlink()
    return RocksState(image, due_at)


def test_a_kill_in_a_recovery_leaves_a_state_of_some_offset(tmp_path: Path) -> None:
    """What was not settled may be gone, but then with its offset: the next recovery begins there."""

    def recover(state: RocksState) -> None:
        # Until a second file is begun: the first one is whole then, and known to the manifest.
        while len(list((tmp_path / "a" / "0").glob("*.sst"))) < 2 or len(recovered) % 100 == 0:
            number = len(recovered)
            recovered.append(number)
            state.recover(0, [(b"%d" % number, bytes([0, number % 9]) + b"x" * 20_000)], number)

    recovered: list[int] = []
    state = killed_while(tmp_path / "a", tmp_path / "b", recover)
    left = state.offset(0)
    assert 0 < left < recovered[-1]  # some of it had been written out, and some had not
    assert sorted(int(key) for key, _ in state.scan(0)) == list(range(left + 1))
    state.close()


def test_what_is_settled_outlasts_a_kill_with_what_is_written_then(tmp_path: Path) -> None:
    """The log of RocksDB begins after it: without `settle`, a kill would leave later writes and not earlier ones."""

    def recover_and_write(state: RocksState) -> None:
        state.recover(0, [(b"a", bytes([0, 1]))], 0)
        state.settle(0)
        made(state)
        state.write(0, [(b"b", bytes([0, 2]))], 1)

    state = killed_while(tmp_path / "a", tmp_path / "b", recover_and_write)
    assert (state.offset(0), [key for key, _ in state.scan(0)]) == (1, [b"a", b"b"])
    assert state.index_more(0, 1)
    assert indexed(state) == [(0, 1, b"a"), (0, 2, b"b")]
    state.close()


def test_keys_of_ours_are_refused(tmp_path: Path) -> None:
    """A table's key must not pass for a row of the index."""
    state = RocksState(tmp_path, due_at)
    for write in (state.write, state.recover):
        with pytest.raises(ValueError, match="reserved"):
            write(0, [(RESERVED + b"due:", b"")], 0)
    state.close()

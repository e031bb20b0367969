from __future__ import annotations

from streams.batching.progress import CommitProgress


class Clock:
    """A clock that is set by hand."""

    now = 100.0

    def __call__(self) -> float:
        """Seconds."""
        return self.now


def test_a_partition_stalls_while_records_wait_and_nothing_is_committed() -> None:
    """From when the records came, and until the next commit; the age of the last commit goes on."""
    clock = Clock()
    progress: CommitProgress[str] = CommitProgress(clock)
    assert progress.look("p", end=10, committed=10, idle=True) == (0, 0.0, 0.0)
    clock.now += 60
    assert progress.look("p", end=10, committed=10, idle=True) == (0, 0.0, 60.0)
    clock.now += 1
    assert progress.look("p", end=13, committed=10, idle=False) == (3, 1.0, 61.0)
    clock.now += 5
    assert progress.look("p", end=15, committed=10, idle=False) == (5, 6.0, 66.0)
    progress.committed("p")
    clock.now += 2
    assert progress.look("p", end=15, committed=13, idle=False) == (2, 2.0, 2.0)
    assert progress.commits == 1


def test_a_log_whose_end_holds_nothing_to_read_is_no_lag() -> None:
    """Retention may have emptied it before the group began, and markers of transactions are never delivered."""
    clock = Clock()
    progress: CommitProgress[str] = CommitProgress(clock)
    progress.look("p", end=1_000, committed=None, idle=True)
    clock.now += 600
    assert progress.look("p", end=1_000, committed=None, idle=True)[:2] == (0, 0.0)


def test_an_end_that_is_not_known_is_no_stall() -> None:
    """Before the first fetch nobody can say whether records wait."""
    clock = Clock()
    progress: CommitProgress[str] = CommitProgress(clock)
    progress.look("p", end=None, committed=5, idle=False)
    clock.now += 600
    assert progress.look("p", end=None, committed=5, idle=False)[:2] == (None, 0.0)


def test_partitions_are_apart_and_begin_anew_after_a_rebalance() -> None:
    """A commit of one is none of the other, and what an earlier assignment waited for is over."""
    clock = Clock()
    progress: CommitProgress[str] = CommitProgress(clock)
    for name in ("p", "q"):
        progress.look(name, end=5, committed=0, idle=False)
    clock.now += 30
    progress.committed("p")
    assert progress.look("p", end=5, committed=1, idle=False).stalled_seconds == 0.0
    assert progress.look("q", end=5, committed=0, idle=False).stalled_seconds == 30.0
    progress.reset()
    assert progress.look("q", end=5, committed=0, idle=False) == (5, 0.0, 0.0)

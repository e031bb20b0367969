from __future__ import annotations

import pytest

from streams.batching import PartitionProgress, Phase
from streams.liveness import Liveness
from tests.streams.batching.test_progress import Clock

WORKING = {("raw", 0): PartitionProgress(lag=7, stalled_seconds=0.5, commit_age_seconds=0.5)}
IDLE = {("raw", 0): PartitionProgress(lag=0, stalled_seconds=0.0, commit_age_seconds=900.0)}
UNKNOWN = {("raw", 0): PartitionProgress(lag=None, stalled_seconds=0.0, commit_age_seconds=0.0)}


def make() -> tuple[Clock, Liveness]:
    """Stalled after 60 seconds; a rebalance may take 60 more."""
    clock = Clock()
    return clock, Liveness(stalled_after=60, rebalance_seconds=60, clock=clock)


def standing(seconds: float) -> dict[tuple[str, int], PartitionProgress]:
    """Partitions of which one has stood still for so long."""
    return {("raw", 1): PartitionProgress(lag=7, stalled_seconds=seconds, commit_age_seconds=seconds), **WORKING}


def test_a_partition_that_stands_still_is_a_stall_that_is_named() -> None:
    """Though the others get on; until it does."""
    clock, liveness = make()
    liveness.turn("running", standing(60.0), 1)
    assert liveness.stall() is None
    clock.now += 1
    stall = liveness.stall()
    assert stall is not None
    assert stall == (61.0, "topic raw partition 1: 7 records wait and nothing was committed for 61 s")
    liveness.turn("running", WORKING, 2)
    assert liveness.stall() is None


def test_a_worker_with_nothing_to_do_is_well() -> None:
    """However long ago its last commit was."""
    clock, liveness = make()
    for _ in range(1_000):
        clock.now += 1
        liveness.turn("running", IDLE, 1)
        assert liveness.stall() is None


def test_a_loop_that_does_not_turn_is_a_stall_in_any_phase() -> None:
    """Seen from another thread."""
    clock, liveness = make()
    phases: tuple[Phase, ...] = ("running", "recovering", "stopping")
    for phase in phases:
        liveness.turn(phase, IDLE, 1)
        clock.now += 61
        stall = liveness.stall()
        assert stall is not None
        assert stall.reason == "the event loop has not turned for 61 s"


@pytest.mark.parametrize("phase", ["starting", "rebalancing", "recovering"])
def test_a_start_or_rebalance_that_moves_nothing_is_a_stall(phase: Phase) -> None:
    """After the time that a rebalance may take, besides."""
    clock, liveness = make()
    for second in range(1, 122):
        clock.now += 1
        liveness.turn(phase, {}, 0)
        stall = liveness.stall()
        assert (stall is not None) == (second > 120), second
    assert stall is not None
    assert stall.reason == f"{phase}, and nothing moves for 121 s"


def test_a_long_recovery_is_no_stall_while_it_reads() -> None:
    """A state of millions of keys takes minutes."""
    clock, liveness = make()
    for second in range(1_000):
        clock.now += 1
        liveness.turn("recovering", {}, second // 100)
        assert liveness.stall() is None


def test_rebalances_without_a_commit_in_between_are_one_stall() -> None:
    """Each begins the partitions' clocks anew; a worker that does nothing but rebalance is seen all the same."""
    clock, liveness = make()
    for second in range(1, 130):
        clock.now += 1
        if second % 10 < 7:
            liveness.turn("rebalancing", {}, 0)
        else:
            liveness.turn("running", UNKNOWN if second % 10 == 7 else WORKING, 0)
    stall = liveness.stall()
    assert stall is not None
    assert "through rebalances" in stall.reason
    liveness.turn("running", WORKING, 1)
    assert liveness.stall() is None


def test_an_unknown_lag_is_no_stall() -> None:
    """While the broker does not say how long its log is, a restart would not help."""
    clock, liveness = make()
    for _ in range(500):
        clock.now += 1
        liveness.turn("running", UNKNOWN, 0)
        assert liveness.stall() is None


def test_a_stop_is_bounded_elsewhere() -> None:
    """A worker that stops has its own time limit."""
    clock, liveness = make()
    for _ in range(500):
        clock.now += 1
        liveness.turn("stopping", {}, 0)
        assert liveness.stall() is None

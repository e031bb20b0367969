from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from deploy.embedded.pausing import pause_process
from deploy.embedded.supervisor import STOP_SECONDS, Child, Supervisor
from kybstream.errors import RunError
from tests.deploy.children import DEAF, OBEDIENT, child, ended, lines, never
from tests.support.waiting import wait_until


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    """Where the children of a test note what they do."""
    path = tmp_path / "journal"
    path.touch()
    return path


async def test_children_start_in_order_and_end_in_reverse_order(journal: Path) -> None:
    """The second child starts only when the first serves; on stop the second has ended before the first is asked to."""
    async with Supervisor() as stack:
        await stack.start(child("broker", OBEDIENT, journal, "0"))
        assert lines(journal) == ["broker up"]
        await stack.start(child("worker", OBEDIENT, journal, "0.2"))
        assert list(stack.pids) == ["broker", "worker"]
    assert lines(journal) == ["broker up", "worker up", "worker down", "broker down"]


async def test_children_started_together_do_not_wait_for_each_other(journal: Path) -> None:
    """Each is ready only when the other has started; they end in reverse order all the same."""
    both = {"ingress up", "worker up"}

    async def both_up() -> bool:
        return both <= set(lines(journal))

    async with Supervisor() as stack:
        await stack.start(*(child(name, OBEDIENT, journal, "0.1", ready=both_up) for name in ("ingress", "worker")))
        assert list(stack.pids) == ["ingress", "worker"]
    assert lines(journal)[2:] == ["worker down", "ingress down"]


async def test_child_that_dies_ends_those_started_with_it(journal: Path) -> None:
    """It is named, although it was not the first, and the first is not ready yet."""
    with pytest.raises(RunError, match=r"^sink ended with exit code 3"):
        await Supervisor().start(
            child("ingress", OBEDIENT, journal, "0", ready=never), child("sink", "import sys; sys.exit(3)", journal)
        )
    assert set(lines(journal)) <= {"ingress up", "ingress down"}


async def test_terminal_signals_reach_only_the_parent(journal: Path) -> None:
    """Each child leads a session of its own, so that Ctrl-C in the parent's terminal does not hit it."""
    async with Supervisor() as stack:
        await stack.start(child("broker", OBEDIENT, journal, "0"))
        pid = stack.pids["broker"]
        assert os.getsid(pid) == pid != os.getsid(0)


async def test_child_that_dies_while_starting_is_explained_and_the_others_are_stopped(journal: Path) -> None:
    """The error names the child, its exit code and the line of its log that says why; nothing keeps running."""
    failing = "import sys; print('error: no space left'); print('hint: free some'); print(); sys.exit(3)"
    stack = Supervisor()
    await stack.start(child("broker", OBEDIENT, journal, "0"))
    with pytest.raises(RunError, match=r"^sink ended with exit code 3: error: no space left$") as caught:
        await stack.start(child("sink", failing, journal))
    assert str(journal.with_name("sink.log")) in str(caught.value.hint)
    assert lines(journal) == ["broker up", "broker down"]
    assert stack.pids == {}


async def test_only_this_runs_part_of_the_log_explains_a_failure(journal: Path) -> None:
    """An error that an earlier run left in the same log file is not given as the reason."""
    journal.with_name("sink.log").write_text("error: yesterday's\n")
    with pytest.raises(RunError, match=r"^sink ended with exit code 3$"):
        await Supervisor().start(child("sink", "import sys; sys.exit(3)", journal))


async def test_traceback_is_explained_by_its_last_line(journal: Path) -> None:
    """Of a Python traceback the error shows the exception, not the frames."""
    with pytest.raises(RunError, match=r"exit code 1: ValueError: bad port$"):
        await Supervisor().start(child("sink", "raise ValueError('bad port')", journal))


async def test_command_that_does_not_exist_is_a_clear_error(journal: Path) -> None:
    """A program that is not there is named."""
    absent = Child(name="broker", argv=["/no/such/program"], ready=never, log_path=journal.with_name("log"))
    with pytest.raises(RunError, match=r"broker .*cannot.* run.*No such file") as caught:
        await Supervisor().start(absent)
    assert "/no/such/program" in caught.value.message


async def test_earlier_child_that_dies_while_a_later_one_starts_is_the_one_named(journal: Path) -> None:
    """A worker that waits for a dead broker is not waited for: the broker's death is the error, at once."""
    stack = Supervisor()
    await stack.start(child("broker", OBEDIENT, journal, "0"))
    broker = stack.pids["broker"]
    starting = asyncio.create_task(stack.start(child("worker", OBEDIENT, journal, "0", ready=never)))
    await wait_until(lambda: "worker up" in lines(journal), 10, "the worker runs")
    os.kill(broker, signal.SIGKILL)
    with pytest.raises(RunError, match=r"^broker ended with signal SIGKILL"):
        await asyncio.wait_for(starting, 10)
    assert stack.pids == {}


async def test_child_that_does_not_become_ready_in_time_is_stopped(journal: Path) -> None:
    """The wait has a deadline, and the child is gone after it."""
    stack = Supervisor()
    with pytest.raises(RunError, match=r"^broker was not ready after 1 s"):
        await stack.start(child("broker", OBEDIENT, journal, "0", ready=never, ready_seconds=1.0))
    assert lines(journal)[-1:] == ["broker down"]


async def test_cancelling_a_start_leaves_no_child(journal: Path) -> None:
    """Ctrl-C while a child starts ends it and those before it."""
    stack = Supervisor()
    await stack.start(child("broker", OBEDIENT, journal, "0"))
    starting = asyncio.create_task(stack.start(child("worker", OBEDIENT, journal, "0", ready=never)))
    await wait_until(lambda: "worker up" in lines(journal), 10, "the worker runs")
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert lines(journal)[2:] == ["worker down", "broker down"]


async def test_stop_takes_its_budget_at_most_and_the_broker_keeps_its_share(journal: Path) -> None:
    """Children that ignore SIGTERM are SIGKILLed; the first one, stopped last, still has time to tidy up."""
    stack = Supervisor(stop_seconds=3.0)
    await stack.start(child("broker", OBEDIENT, journal, "0.3", grace_seconds=30))
    for name in ("ingress", "worker"):
        await stack.start(child(name, DEAF, journal, grace_seconds=30))
    pids = stack.pids
    loop = asyncio.get_running_loop()
    began = loop.time()
    await stack.stop()
    assert loop.time() - began < 3.0
    assert all(ended(pid) for pid in pids.values())
    assert lines(journal)[-1] == "broker down"
    assert STOP_SECONDS < 10


async def test_stop_can_be_called_again_and_by_several_tasks(journal: Path) -> None:
    """Every call returns when all have ended, and nothing is started afterwards."""
    stack = Supervisor()
    await stack.start(child("broker", OBEDIENT, journal, "0.2"))
    await asyncio.gather(stack.stop(), stack.stop())
    await stack.stop()
    assert lines(journal) == ["broker up", "broker down"]
    with pytest.raises(RunError, match="was not started"):
        await stack.start(child("worker", OBEDIENT, journal, "0"))


async def test_paused_child_is_stopped_too(journal: Path) -> None:
    """A child under SIGSTOP is woken up to see its SIGTERM."""
    stack = Supervisor()
    await stack.start(child("broker", OBEDIENT, journal, "0"))
    pause_process(stack.pids["broker"])
    await stack.stop()
    assert lines(journal) == ["broker up", "broker down"]


async def test_what_a_child_leaves_behind_is_killed(journal: Path) -> None:
    """A grandchild does not outlive the child that started it."""
    parent = """
        import subprocess, sys, signal
        grandchild = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
        open(sys.argv[1], "a").write(f"{grandchild.pid}\\n{sys.argv[2]} up\\n")
        signal.pause()
    """
    async with Supervisor() as stack:
        await stack.start(child("ingress", parent, journal))
        grandchild = int(lines(journal)[0])
        assert not ended(grandchild)
    await wait_until(lambda: ended(grandchild), 5, "the grandchild is gone")


async def test_death_of_a_running_child_is_noticed(journal: Path) -> None:
    """`wait_any_exit` names who ended and how, and does not mistake a stop for a death."""
    async with Supervisor() as stack:
        await stack.start(child("broker", OBEDIENT, journal, "0"))
        await stack.start(child("worker", OBEDIENT, journal, "0"))
        waiting = asyncio.create_task(stack.wait_any_exit())
        os.kill(stack.pids["worker"], signal.SIGKILL)
        assert await asyncio.wait_for(waiting, 5) == ("worker", -signal.SIGKILL)
        assert list(stack.pids) == ["broker"]

    async with Supervisor() as stack:
        await stack.start(child("other", OBEDIENT, journal, "0"))
        waiting = asyncio.create_task(stack.wait_any_exit())
        await stack.stop()
        assert not waiting.done()
        waiting.cancel()


async def test_peak_memory_is_the_sum_over_children_and_stays_after_they_end(journal: Path) -> None:
    """Two children of 60 MB each at the same time make a peak of at least 120 MB, still known after the stop."""
    big = """
        import signal, sys
        block = bytearray(b"x") * 60_000_000
        open(sys.argv[1], "a").write(f"{sys.argv[2]} up\\n")
        signal.pause()
    """
    stack = Supervisor()
    for name in ("first", "second"):
        await stack.start(child(name, big, journal))
    await stack.stop()
    assert 120_000_000 < stack.peak_rss_bytes < 250_000_000


@pytest.mark.skipif(sys.platform != "linux", reason="other systems cannot tie a child to its parent's life")
async def test_killed_parent_leaves_no_child(journal: Path) -> None:
    """When the parent is SIGKILLed its children end, even those that ignore SIGTERM."""
    parent_code = """
        import asyncio, sys
        from pathlib import Path
        from tests.deploy.test_supervisor import DEAF, OBEDIENT, Supervisor, child
        async def main():
            async with Supervisor() as stack:
                await stack.start(child("broker", OBEDIENT, Path(sys.argv[1]), "0"))
                await stack.start(child("worker", DEAF, Path(sys.argv[1])))
                print(*stack.pids.values(), flush=True)
                await stack.wait_any_exit()
        asyncio.run(main())
    """
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", textwrap.dedent(parent_code), str(journal), stdout=subprocess.PIPE
    )
    assert parent.stdout is not None
    pids: list[int] = []
    try:
        async with asyncio.timeout(20):
            while len(pids) != 2:  # log lines come first
                line = await parent.stdout.readline()
                assert line
                pids = [int(word) for word in line.split() if word.isdigit()]
        assert not any(ended(pid) for pid in pids)
    finally:
        parent.kill()
        await parent.communicate()
    await wait_until(lambda: all(ended(pid) for pid in pids), 5, "the children are gone")


def test_environment_is_not_shown() -> None:
    """A child's environment may hold secrets: its repr leaves it out."""
    assert "hunter2" not in repr(Child(name="a", argv=["a"], ready=never, log_path=Path("a"), env={"TOKEN": "hunter2"}))

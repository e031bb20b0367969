"""The order of a batch's steps, and that a kill between any two of them loses nothing."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import pytest

from streams.batching import BatchResult, Output, Record, StateReader
from streams.batching.steps import run_batch
from tests.streams.computing import computing


class KilledError(Exception):
    """Stands for SIGKILL."""


class World:
    """What survives a kill, and what happened in which order."""

    def __init__(self) -> None:
        self.outputs: list[bytes | None] = []
        self.changelog: dict[bytes, bytes | None] = {}
        self.committed = 0
        self.happened: list[str] = []


class FakeEffects:
    """Effects on a `World`; the process is killed when `kill_after` steps have been done."""

    def __init__(self, world: World, records: Sequence[Record], kill_after: int = 99, lost_after: int = 99) -> None:
        self.world = world
        self.records = records
        self.kill_after = kill_after
        self.lost_after = lost_after
        self.done = 0

    def _step(self, name: str) -> None:
        if self.done == self.kill_after:
            raise KilledError
        self.done += 1
        self.world.happened.append(name)

    def current(self) -> bool:
        """False once the partition has been lost."""
        return self.done < self.lost_after

    def reader(self) -> StateReader:
        """The state, as recovery reads it back from the changelog."""
        return self

    def get_many(self, keys: Collection[bytes]) -> dict[bytes, bytes]:
        """Read."""
        return {key: value for key in keys if (value := self.world.changelog.get(key)) is not None}

    async def send_outputs(self, outputs: Sequence[Output]) -> None:
        """Step 2."""
        self._step("outputs")
        self.world.outputs += [out.value for out in outputs]

    async def append_changelog(self, writes: dict[bytes, bytes | None]) -> int:
        """Step 3."""
        self._step("changelog")
        self.world.changelog.update(writes)
        return len(self.world.changelog) - 1

    def write_store(self, writes: dict[bytes, bytes | None], offset: int) -> None:  # noqa: ARG002
        """Step 4."""
        self._step("store")

    def acknowledge(self) -> None:
        """Step 5."""
        self._step("acknowledge")
        self.world.committed = self.records[-1].offset + 1


class LateOutputs(FakeEffects):
    """The wrong order: outputs leave after the acknowledgement."""

    held: Sequence[Output] = ()

    async def send_outputs(self, outputs: Sequence[Output]) -> None:
        """Hold back."""
        self.held = outputs

    def acknowledge(self) -> None:
        """Acknowledge first."""
        super().acknowledge()
        self._step("outputs")
        self.world.outputs += [out.value for out in self.held]


def forward_new(_partition: int, records: Sequence[Record], state: StateReader) -> BatchResult:
    """Forward values that the state has not seen at another offset."""
    known = state.get_many({record.value or b"" for record in records})
    writes: dict[bytes, bytes | None] = {}
    outputs = []
    for record in records:
        value, place = record.value or b"", b"%d" % record.offset
        first = writes.get(value) or known.get(value)
        if first is None:
            writes[value] = first = place
        if first == place:
            outputs.append(Output("out", None, value))
    return BatchResult(outputs, writes)


def batches() -> list[list[Record]]:
    """Two batches; the second repeats an id of the first."""
    values = [b"a", b"b", b"c", b"b", b"d"]
    records = [Record("in", 0, i, 0, None, value, ()) for i, value in enumerate(values)]
    return [records[:3], records[3:]]


async def run_killed_once(kind: type[FakeEffects], kill_in: int, kill_after: int) -> World:
    """Run both batches, killed once in batch `kill_in` after `kill_after` steps, then again from the committed offset."""
    world = World()
    for attempt in range(2):
        try:
            for number, records in enumerate(batches()):
                if records[-1].offset < world.committed:
                    continue
                kill = kill_after if (attempt, number) == (0, kill_in) else 99
                await run_batch(computing(forward_new, 0, records), kind(world, records, kill))
            break
        except KilledError:
            continue
    return world


async def test_the_steps_are_taken_in_their_order() -> None:
    """Outputs, changelog, store, acknowledgement."""
    world = World()
    assert await run_batch(computing(forward_new, 0, batches()[0]), FakeEffects(world, batches()[0]))
    assert world.happened == ["outputs", "changelog", "store", "acknowledge"]


@pytest.mark.parametrize("kill_in", [0, 1])
@pytest.mark.parametrize("kill_after", range(5))
async def test_a_kill_between_any_two_steps_loses_nothing(kill_in: int, kill_after: int) -> None:
    """After the restart every id has been forwarded, and the state is as if nothing had happened."""
    world = await run_killed_once(FakeEffects, kill_in, kill_after)
    assert set(world.outputs) == {b"a", b"b", b"c", b"d"}
    assert world.changelog == {b"a": b"0", b"b": b"1", b"c": b"2", b"d": b"4"}
    assert world.committed == 5


async def test_another_order_would_lose_outputs() -> None:
    """The control: with outputs last, some kill loses some output, so the test above can fail."""
    lost = [
        {b"a", b"b", b"c", b"d"} - set((await run_killed_once(LateOutputs, kill_in, kill_after)).outputs)
        for kill_in in range(2)
        for kill_after in range(5)
    ]
    assert any(lost)


@pytest.mark.parametrize(("lost_after", "happened"), [(1, ["outputs"]), (2, ["outputs", "changelog"])])
async def test_a_batch_whose_partition_is_lost_is_abandoned(lost_after: int, happened: list[str]) -> None:
    """Nothing more is written, above all not the local store, and nothing is acknowledged."""
    world = World()
    effects = FakeEffects(world, batches()[0], lost_after=lost_after)
    assert not await run_batch(computing(forward_new, 0, batches()[0]), effects)
    assert world.happened == happened
    assert world.committed == 0


async def test_an_exception_in_process_acknowledges_nothing() -> None:
    """It is raised as it is, before anything was done."""

    def explode(_partition: int, _records: Sequence[Record], _state: StateReader) -> BatchResult:
        message = "no"
        raise ValueError(message)

    world = World()
    with pytest.raises(ValueError, match="no"):
        await run_batch(computing(explode, 0, batches()[0]), FakeEffects(world, batches()[0]))
    assert world.happened == []


async def test_a_process_that_retells_remembers_before_it_tells() -> None:
    """State, then outputs: what was told always follows from what is remembered."""
    world = World()
    records = [Record("in", 0, offset, 0, b"k%d" % offset, b"v", ()) for offset in range(3)]
    assert await run_batch(computing(retelling, 0, records), FakeEffects(world, records), retells=True)
    assert world.happened == ["changelog", "outputs", "store", "acknowledge"]


@pytest.mark.parametrize("kill_after", range(4))
async def test_a_kill_of_a_process_that_retells_loses_nothing(kill_after: int) -> None:
    """Killed between any two steps and repeated, it has told everything."""
    world = World()
    records = [Record("in", 0, offset, 0, b"k%d" % offset, b"v", ()) for offset in range(3)]
    with pytest.raises(KilledError):
        await run_batch(computing(retelling, 0, records), FakeEffects(world, records, kill_after), retells=True)
    assert world.committed == 0
    assert await run_batch(computing(retelling, 0, records), FakeEffects(world, records), retells=True)
    assert {output for output in world.outputs if output} == {b"k0", b"k1", b"k2"}


def retelling(partition: int, records: Sequence[Record], state: StateReader) -> BatchResult:
    """Tells every record, known or not, and remembers it."""
    del partition, state
    return BatchResult(
        [Output("out", record.key, record.key) for record in records], {record.key or b"": b"1" for record in records}
    )

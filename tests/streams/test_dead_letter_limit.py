from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import msgspec
import pytest

from schemas.codec import encode
from schemas.expired import EXPIRED_UNREAD
from schemas.topics import DEAD_LETTERS, DELIVERIES
from streams.batching import BatchResult, DeadRecord, Record, StateReader
from streams.dead_letter_limit import HINTS, DeadLetterLimitError, Limited, Offsets, Tally
from streams.dead_lettering import TOO_LARGE
from streams.links import INVALID_LINK
from streams.processing import IntakeProcess
from tests.docs.codes import DEAD_LETTER_REASONS
from tests.streams.pipeline import NAMES, POLICIES, DictState, Door, as_record
from tests.streams.running import crash_of, deliveries, lab, misplaced, running_worker, write_config
from tests.support.commands import Background

SHARE, WINDOW = 0.5, 20


def limited(*, share: float = SHARE, window: int = WINDOW) -> Limited:
    """The intake under a limit."""
    return Limited("intake", IntakeProcess(POLICIES, NAMES), share=share, window=window)


def run(process: Limited, records: list[Record], *, batch: int) -> list[BatchResult]:
    """The records in batches of this size, offsets from 0."""
    numbered = [msgspec.structs.replace(record, offset=offset) for offset, record in enumerate(records)]
    return [process(0, numbered[at : at + batch], DictState()) for at in range(0, len(numbered), batch)]


@pytest.mark.parametrize("batch", [1, 7, 40])
def test_too_many_of_the_last_records_stop_the_agent(batch: int) -> None:
    """However they come in batches. The error names agent, place, share and reason, and says what to look at."""
    with pytest.raises(DeadLetterLimitError) as stopped:
        run(limited(), deliveries(19) + misplaced(21), batch=batch)
    message = stopped.value.message
    assert message.startswith("the intake cannot process ")
    assert re.search(r" records \(a share of 0\.[5-9]\d, ", message)
    assert "the limit is 0.5), " in message
    assert " of them for key_mismatch; it stopped at topic kyb.webhooks.raw.v1 partition 0 offsets " in message
    assert stopped.value.hint == HINTS["key_mismatch"]
    assert (stopped.value.exit_code, stopped.value.retriable) == (1, False)


@pytest.mark.parametrize("batch", [1, 40])
def test_bad_records_among_good_ones_stop_nobody(batch: int) -> None:
    """Every second record is bad, which is not more than the share allows: each comes to its dead letter."""
    mixed = [record for pair in zip(deliveries(100), misplaced(100), strict=True) for record in pair]
    results = run(limited(), mixed, batch=batch)
    assert sum(len(result.dead) for result in results) == 100


def test_a_few_records_are_never_too_many() -> None:
    """A lone bad record is normal input, also when it is the first that comes, and also when nothing else does for days."""
    results = run(limited(), misplaced(WINDOW - 1), batch=1)
    assert [len(result.dead) for result in results] == [1] * (WINDOW - 1)


def test_a_share_of_one_lets_all_pass() -> None:
    """So the limit is switched off, while dead letters are wanted."""
    assert len(run(limited(share=1.0), misplaced(100), batch=50)) == 2


def test_a_sender_of_garbage_stops_nobody() -> None:
    """What the ingress could not read either is the sender's: one provider gone mad must not stop the others."""
    door = Door()
    bodies = [b"{", b"[1]", b'{"first": "Erika"}'] * 100
    records = [door.record(door.delivery(each)) for each in bodies]
    results = run(limited(), records, batch=30)
    assert Counter(dead.reason for result in results for dead in result.dead) == {
        "not_json": 100,
        "not_an_object": 100,
        "no_entity": 100,
    }


def test_a_body_that_only_the_ingress_can_read_counts() -> None:
    """It found an entity in it: if the intake finds none, then one of the two is wrong."""
    door = Door()
    bad = [
        as_record(NAMES.raw, "acme/x", encode(msgspec.structs.replace(door.delivery(b"{}"), entity_key="acme/x")))
        for _ in range(WINDOW)
    ]
    with pytest.raises(DeadLetterLimitError, match="no_entity") as stopped:
        run(limited(), bad, batch=5)
    assert "same version" in (stopped.value.hint or "")


def test_every_reason_that_counts_has_a_hint() -> None:
    """Whoever reads the error at night is told where to look.

    What is too large, or no valid link, is so by its sender, and never counts.
    """
    ours = {reason for reason, text in DEAD_LETTER_REASONS.items() if not text.startswith("stage sink")}
    assert ours - {TOO_LARGE, INVALID_LINK, EXPIRED_UNREAD} == HINTS.keys()


def test_a_batch_that_is_tried_again_counts_once() -> None:
    """While the disk is full, one bad record is computed again and again: that is no second one."""
    process = limited()
    (bad,) = misplaced(1)
    for _ in range(3 * WINDOW):
        process(0, [bad], DictState())


def at(number: int) -> Offsets:
    """Where a batch of ten offsets is."""
    return Offsets("topic", 0, number * 10, number * 10 + 9)


def test_what_is_processed_again_in_other_pieces_counts_once() -> None:
    """A batch that is tried again may be cut elsewhere; what overlaps is what it was, another partition is not."""
    tally = Tally(share=0.5, window=100)
    tally.add(Offsets("topic", 0, 0, 9), 10, Counter({"a": 10}))
    tally.add(Offsets("topic", 1, 0, 9), 10, Counter({"a": 1}))
    tally.add(Offsets("topic", 0, 0, 3), 4, Counter({"a": 4}))
    tally.add(Offsets("topic", 0, 4, 9), 6, Counter({"a": 6}))
    assert (tally.records, tally.reasons) == (20, Counter({"a": 11}))


def test_the_newest_whole_batches_make_up_the_window() -> None:
    """As few as have enough records; what is older is forgotten."""
    tally = Tally(share=0.5, window=10)
    for number in range(3):
        tally.add(at(number), 4, Counter({"a": 4}))
    assert (tally.records, tally.exceeded()) == (12, True)
    tally.add(at(3), 4, Counter())
    assert (tally.records, tally.reasons, tally.exceeded()) == (12, Counter({"a": 8}), True)
    tally.add(at(4), 100, Counter({"b": 1}))
    assert (tally.records, tally.reasons, tally.exceeded()) == (100, Counter({"b": 1}), False)


def test_the_commonest_reason_is_told_with_an_example() -> None:
    """Of an exception, its class and place."""

    def process(_partition: int, records: object, _state: StateReader) -> BatchResult:
        del records
        dead = [DeadRecord(0, "key_mismatch", may_be_ours=True)]
        dead += [DeadRecord(at, "failed", may_be_ours=True, detail="KeyError in streams.fold:7 fold") for at in range(1, 4)]
        return BatchResult(dead=dead)

    with pytest.raises(DeadLetterLimitError, match=r"3 of them for failed: KeyError in streams\.fold:7 fold;"):
        Limited("cases", process, share=0.5, window=4)(0, misplaced(4), DictState())


async def test_the_worker_stops_before_anything_of_the_batch_is_told(
    noida_broker: str, topic_prefix: str, tmp_path: Path
) -> None:
    """No dead letter, no verdict, no commit: with the limit lifted, each of them is processed."""
    async with lab(noida_broker, topic_prefix, tmp_path, dead_letter_window=5) as given:
        await given.send(misplaced(60))
        error = await crash_of(given.settings)
        assert isinstance(error, DeadLetterLimitError)
        assert "key_mismatch" in error.message
        told = len(await given.read(DEAD_LETTERS))
        assert (told, await given.committed()) == (0, 0)
        lifted = given.settings.worker.model_copy(update={"dead_letter_share": 1.0})
        async with running_worker(given.settings.model_copy(update={"worker": lifted})):
            await given.all_committed(60)
        assert (len(await given.read(DEAD_LETTERS)), len(await given.read(DELIVERIES))) == (60, 60)


async def test_the_command_ends_with_the_error_and_the_hint(noida_broker: str, topic_prefix: str, tmp_path: Path) -> None:
    """Exit code 1, one sentence, and what to do."""
    async with lab(noida_broker, topic_prefix, tmp_path, dead_letter_window=5) as given:
        await given.send(misplaced(60))
        config = write_config(given.settings, tmp_path)
        worker = Background("worker", "--config", str(config), log=tmp_path / "worker.log")
        assert await worker.ended(30) == 1
        assert "error: the intake cannot process " in worker.output
        assert f"hint: {HINTS['key_mismatch']}" in worker.output
        assert "Traceback" not in worker.output.rpartition("error: ")[2]

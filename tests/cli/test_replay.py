"""`replay` of a time range against the running stack."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from kybstream.errors import BadRecordError
from kybstream.operations.topic_reader import ReadRecord
from schemas.codec import decode
from schemas.records import WebhookDelivery
from schemas.replays import mark_of
from schemas.topics import RAW
from tests.cli.one_process import run_with
from tests.end_to_end.bodies import case_becomes, kyb, kyc, new_user, send, token_for
from tests.support.stack import RunningStack
from tests.support.waiting import wait_until

pytestmark = pytest.mark.stack


def id_of(record: ReadRecord) -> str | None:
    """The delivery in a raw record."""
    try:
        return decode(record.value or b"", WebhookDelivery).delivery_id
    except BadRecordError:
        return None


async def test_a_range_is_processed_again_and_nothing_counts_twice(stack: RunningStack, case_id: str) -> None:
    """Copies lie in the raw topic in order, marked, and leave verdicts, events and case as they were; a second time, too."""
    start = datetime.now(UTC)
    ids = [
        await send(stack, "kyb", kyb(case_id, kind)) for kind in ("service_initiated", "service_resolved", "service_resolved")
    ]
    ids.append(await send(stack, "kyc", kyc(new_user()), case_token=token_for(case_id)))
    end = datetime.now(UTC)
    outside = await send(stack, "kyb", kyb(case_id, "service_resolved", "aml"))
    before = await case_becomes(stack, case_id, outcome="completed", version=5)

    times = ["--from", start.isoformat(), "--to", end.isoformat()]
    raw = len(await stack.topic(RAW))
    dry, of_kyb, of_another = await run_with(
        stack,
        ["replay", *times, "--dry-run"],
        ["replay", *times, "--dry-run", "--source", "kyb", "--tenant", "acme"],
        ["replay", *times, "--dry-run", "--tenant", "hasty"],
    )
    assert [done.out for done in (dry, of_kyb, of_another)] == [f"{n} deliveries would be replayed\n" for n in (4, 3, 0)]
    assert len(await stack.topic(RAW)) == raw

    for turn in (1, 2):
        [done] = await run_with(stack, ["replay", *times, "--by", "ada"])
        assert (done.exit_code, done.out.partition(": replay ")[0]) == (0, "4 deliveries replayed by ada")
        assert done.err == ("" if turn == 1 else "4 copies left out: an earlier replay wrote them\n")
        replay_id = done.out.split()[-1]

        async def recorded(replay_id: str = replay_id) -> bool:
            return [row["records"] for row in await stack.rows("replays", replay_id=replay_id)] == [4]

        await wait_until(recorded, 10, "the replay is in ClickHouse, with its end")

    records = [record for record in await stack.topic(RAW) if id_of(record) in {*ids, outside}]
    of = {delivery_id: [record for record in records if id_of(record) == delivery_id] for delivery_id in (*ids, outside)}
    assert [len(found) for found in of.values()] == [3, 3, 3, 3, 1]
    for delivery_id in ids:
        original, *copies = of[delivery_id]
        assert mark_of(original.headers) is None
        for each in copies:
            assert (each.key, each.value, each.headers[: len(original.headers)]) == (
                original.key,
                original.value,
                original.headers,
            )
            mark = mark_of(each.headers)
            assert mark is not None
            assert (mark.replayed_by, mark.attempt) == ("ada", 0)
    in_order = [id_of(record) for record in records if id_of(record) in ids[:3] and mark_of(record.headers)]
    assert in_order == ids[:3] * 2

    # A delivery sent now is processed after the copies of its key.
    last = await send(stack, "kyb", kyb(case_id, "service_resolved", "aml"))
    await stack.landed("deliveries", delivery_id=last)  # all copies are processed
    assert (await stack.kyb_stream("reconcile")).exit_code == 0
    verdicts = {row["delivery_id"]: row["verdict"] for row in await stack.landed("deliveries", 4, delivery_id=ids)}
    assert [verdicts[delivery_id] for delivery_id in ids] == ["new", "new", "duplicate", "new"]
    assert len(await stack.landed("events", 4, case_id=case_id)) == 4
    after = await case_becomes(stack, case_id, version=5)
    assert {name: value for name, value in after.items() if name[0] != "_"} == {
        name: value for name, value in before.items() if name[0] != "_"
    }


async def test_an_old_range_says_what_may_differ(stack: RunningStack) -> None:
    """The intake forgets in time: the operator is told when that may matter."""
    now = datetime.now(UTC)
    old, recent = await run_with(
        stack,
        *(
            [
                "replay",
                "--from",
                (now - timedelta(days=days)).isoformat(),
                "--to",
                now.isoformat(),
                "--source",
                "x",
                "--dry-run",
            ]
            for days in (8, 6)
        ),
    )
    assert (old.exit_code, old.out) == (0, "0 deliveries would be replayed\n")
    assert "note: the range begins more than 7 days ago" in old.err
    assert "note" not in recent.err

"""The intake over copies that `dlq replay` and `replay` write: it knows nothing of them, but for the key it tells under."""

from __future__ import annotations

from datetime import timedelta

import msgspec
import pytest

from schemas.codec import encode
from schemas.replays import HOME_KEY, ReplayMark, mark_of, marked
from schemas.topics import entity_key
from streams.batching.records import Record as KafkaRecord
from streams.policy import TenantPolicy
from tests.streams.pipeline import NAMES, POLICIES, SERVICE_ID, START, Door, as_record, kyb_body, run_intake

MARK = ReplayMark(replay_id="r1", replayed_at=START, replayed_by="ada", dead_letter_id="d", first_dead_letter_id="d", attempt=1)


def copy(record: KafkaRecord, mark: ReplayMark = MARK) -> KafkaRecord:
    """The record as a replay writes it."""
    return msgspec.structs.replace(record, headers=marked(record.headers, mark))


def test_a_copy_that_fails_again_comes_back_with_its_history() -> None:
    """The same letter; its headers say by whom it was replayed, when, and how often."""
    door = Door()
    poison = door.record(door.delivery(b"{"))
    first, again = run_intake([poison, copy(poison)]).dead_letters
    assert again.dead_letter_id == first.dead_letter_id
    assert (mark_of(first.origin_headers.items()), mark_of(again.origin_headers.items())) == (None, MARK)
    assert again.origin_value == first.origin_value == poison.value


@pytest.mark.parametrize("times", [1, 2, 3])
def test_copies_of_what_was_processed_say_the_same_again(times: int) -> None:
    """However often, and after whatever came since: the same ids, the same verdicts, and the same case."""
    door = Door()
    records = [
        door.record(door.delivery(kyb_body(type=kind, status=status), after=timedelta(minutes=minute)))
        for minute, (kind, status) in enumerate([("service_initiated", "pending"), ("service_resolved", "resolved")] * 2)
    ]
    before, after = run_intake(records), run_intake([*records, *([copy(record) for record in records] * times)])
    assert {verdict.delivery_id: verdict for verdict in after.deliveries} == {one.delivery_id: one for one in before.deliveries}
    assert len(after.deliveries) == len(records) * (1 + times)
    assert {event.event_id: event for event in after.events} == {event.event_id: event for event in before.events}
    assert after.cases() == before.cases()


def test_a_delivery_replayed_after_the_fix_counts_by_its_new_verdict() -> None:
    """Quarantined for want of its tenant, new once the tenant is there: both under one id and one key, the newest last."""
    door = Door()
    record = door.record(door.delivery(kyb_body(), tenant="initech"))
    told = run_intake([record])
    fixed: dict[str, TenantPolicy] = {**POLICIES, "initech": POLICIES["acme"]}
    told.outputs += run_intake([copy(record), copy(record)], fixed).outputs
    assert [verdict.verdict for verdict in told.deliveries] == ["quarantined", "new", "new"]
    assert {verdict.delivery_id for verdict in told.deliveries} == {"delivery-0001"}
    assert {output.key for output in told.outputs if output.topic == NAMES.deliveries} == {record.key}
    assert {case.version for case in told.cases(fixed).values()} == {1}


def test_a_rekeyed_copy_is_told_under_the_key_it_came_with() -> None:
    """Its verdict follows that of the original in one partition: elsewhere the older of the two could land last."""
    door = Door()
    delivery = door.delivery(kyb_body())
    misplaced = as_record(NAMES.raw, "acme/another", encode(delivery))
    right_key = entity_key("acme", SERVICE_ID).encode()
    rekeyed = msgspec.structs.replace(copy(misplaced, msgspec.structs.replace(MARK, home_key=b"acme/another")), key=right_key)
    told = run_intake([misplaced, rekeyed])
    assert [verdict.verdict for verdict in told.deliveries] == ["quarantined", "new"]
    assert {output.key for output in told.outputs if output.topic == NAMES.deliveries} == {b"acme/another"}
    assert [output.key for output in told.outputs if output.topic == NAMES.events] == [right_key]

    still_bad = msgspec.structs.replace(rekeyed, key=b"acme/third")
    assert {output.key for output in run_intake([still_bad]).outputs} == {b"acme/another"}


def test_headers_without_a_value_stop_nobody() -> None:
    """Kafka allows a header whose value is null; a bad record with one is a dead letter like any other."""
    poison = as_record(NAMES.raw, "acme/x", b"junk")
    nulls: list[tuple[str, bytes]] = [(name, None) for name in ("x", "traceparent", HOME_KEY)]  # type: ignore[misc]
    (letter,) = run_intake([msgspec.structs.replace(poison, headers=nulls)]).dead_letters
    assert letter.origin_headers == {"x": b"", "traceparent": b"", HOME_KEY: b""}

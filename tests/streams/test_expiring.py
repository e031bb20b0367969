"""What happens by the clock, on a real broker: cases expire that were due while no worker ran, and expired state is deleted."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

from schemas.codec import decode
from schemas.records import Case
from schemas.topics import CASES, entity_key
from streams.batching import changelog_topic
from streams.batching.rocks import RocksState
from streams.worker import INTAKE_TABLE
from tests.streams.pipeline import SERVICE_ID, START, Door, kyb_body
from tests.streams.running import PARTITIONS, READY_SECONDS, Lab, lab, running_worker
from tests.support.topics import whole_topic
from tests.support.waiting import wait_until

DAY = timedelta(days=1)


async def deliver(given: Lab, door: Door, after: timedelta, *service_ids: str) -> None:
    """Deliveries of these companies, received and written to Kafka that long after the start."""
    for service_id in service_ids:
        record = door.record(door.delivery(kyb_body(service_id=service_id), after=after))
        millis = int((START + after).timestamp() * 1000)
        topic = given.settings.topic(record.topic.removeprefix("kyb."))
        await given.producer.send_and_wait(topic, record.value, key=record.key, timestamp_ms=millis)


async def snapshots(given: Lab) -> list[tuple[str, datetime]]:
    """Outcome and time of every snapshot."""
    cases = [decode(value, Case) for value in await given.read(CASES)]
    return [(case.outcome, case.updated_at) for case in cases]


async def test_a_case_that_was_due_while_no_worker_ran_expires_at_the_start(
    noida_broker: str, topic_prefix: str, tmp_path: Path
) -> None:
    """Once, at its deadline and not at the time of the start; the timer would next look in an hour."""
    async with lab(noida_broker, topic_prefix, tmp_path) as given:
        async with running_worker(given.settings, clock=lambda: START + 89 * DAY):
            await deliver(given, Door(), timedelta(0), SERVICE_ID)
            await given.all_committed(1)

            async def told() -> bool:
                return bool(await snapshots(given))

            await wait_until(told, READY_SECONDS, "the case is told")
        async with running_worker(given.settings, clock=lambda: START + 100 * DAY):

            async def expired() -> bool:
                return len(await snapshots(given)) == 2

            await wait_until(expired, READY_SECONDS, "the case has expired")
        assert await snapshots(given) == [("open", START), ("expired", START + 90 * DAY)]


async def test_an_expired_entry_leaves_the_store_and_the_changelog(
    noida_broker: str, topic_prefix: str, tmp_path: Path
) -> None:
    """A delivery of another company, weeks later, has it deleted: a tombstone in the changelog, and no key on disk."""
    others = [f"other-{number}" for number in range(8)]
    gone = entity_key("acme", SERVICE_ID).encode()
    async with lab(noida_broker, topic_prefix, tmp_path) as given:
        door = Door()
        async with running_worker(given.settings):
            await deliver(given, door, timedelta(0), SERVICE_ID)
            await given.all_committed(1)
            await deliver(given, door, 11 * DAY, *others)
            await given.all_committed(9)
        assert (await changelog(given))[gone] is None
    state = RocksState(tmp_path / "worker" / "v1" / "tables" / INTAKE_TABLE)
    keys = {key for number in range(PARTITIONS) for key, _ in state.scan(number)}
    state.close()
    assert keys == {entity_key("acme", other).encode() for other in others}


async def changelog(given: Lab) -> dict[bytes, bytes | None]:
    """The newest value of each key in the intake's changelog."""
    topic = changelog_topic(given.settings.worker.group, INTAKE_TABLE, PARTITIONS).name
    return {record.key: record.value for record in await whole_topic(given.settings.kafka, topic, PARTITIONS)}

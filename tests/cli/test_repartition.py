"""Growing the number of partitions of a stack that has a history: on a real Kafka, by the public command."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer

from deploy.embedded.apache_kafka import KafkaNode
from deploy.embedded.configuration import write_configuration
from kybstream.errors import RunError
from kybstream.kafka import administering, client_options
from kybstream.operations.migrate import migrate
from kybstream.operations.reconcile import reconcile
from kybstream.operations.repartition import repartition
from kybstream.operations.topic_admin import add_partitions, members_of
from kybstream.partitions import partition_of
from kybstream.settings import Settings, load_settings
from schemas.records import WebhookDelivery
from schemas.topics import RAW
from streams.misplaced import MisplacedStateError
from streams.worker import CASES_TABLE, INTAKE_TABLE, changelog_topics
from tests.cli.commands import failed_clearly
from tests.cli.one_process import run_each
from tests.sinks.making import rows
from tests.sinks.running import running
from tests.streams.pipeline import Door, kyb_body
from tests.streams.running import TENANT, crash_of, running_worker
from tests.support.topics import whole_topic
from tests.support.waiting import wait_until

BEFORE, GROWN = 2, 5
COMPANIES = 30


class Grown:
    """A stack before and after; what its webhooks were."""

    def __init__(self, folder: Path, broker: str, clickhouse: str, prefix: str) -> None:
        self.folder = folder
        self.door = Door()
        self.sent: list[WebhookDelivery] = []
        self._opened_at = datetime.now(UTC) - timedelta(hours=2)  # what is remembered of long ago is forgotten
        self._sections: dict[str, object] = {
            "clickhouse": {"url": clickhouse, "database": prefix.strip(".").replace("-", "_")},
            "worker": {
                "group": f"{prefix}worker", "data_dir": str(folder / "worker"), "commit_interval_seconds": 0.2,
                "timer_seconds": 3_600,
            },
            "sink": {"group": f"{prefix}sink", "flush_seconds": 0.1},
            "tenants": [TENANT],
        }  # fmt: skip
        self._kafka = {"bootstrap_servers": broker, "topic_prefix": prefix}

    def with_partitions(self, partitions: int) -> tuple[Path, Settings]:
        """The configuration."""
        path = self.folder / f"{partitions}.toml"
        if not path.exists():
            kafka = self._kafka | {"partitions": partitions}
            write_configuration(path, self._sections | {"kafka": kafka}, comment="Made by the tests.")
        return path, load_settings(path, {})

    def webhooks(self, kind: str, companies: Sequence[int], after: timedelta) -> list[WebhookDelivery]:
        """One webhook of each company."""
        status = "pending" if kind == "service_initiated" else "resolved"
        bodies = [kyb_body(service_id=f"company-{number}", type=kind, status=status) for number in companies]
        return [
            self.door.delivery(body, received_at=self._opened_at + after + timedelta(seconds=each))
            for each, body in enumerate(bodies)
        ]

    async def send(self, deliveries: Sequence[WebhookDelivery], partitions: int) -> None:
        """As an ingress with so many partitions does."""
        _, settings = self.with_partitions(partitions)
        async with AIOKafkaProducer(**client_options(settings.kafka), acks="all") as producer:
            under_way = []
            for record in map(self.door.record, deliveries):
                assert record.key is not None
                place = partition_of(record.key, partitions)
                under_way.append(await producer.send(settings.topic(RAW), record.value, key=record.key, partition=place))
            await asyncio.gather(*under_way)
        self.sent += deliveries

    async def verdicts(self) -> dict[str, tuple[str, str]]:
        """Verdict and first delivery by delivery id."""
        _, settings = self.with_partitions(BEFORE)
        found = await rows(settings.clickhouse, "SELECT delivery_id, verdict, first_delivery_id FROM deliveries")
        return {str(each["delivery_id"]): (str(each["verdict"]), str(each["first_delivery_id"] or "")) for each in found}

    async def all_landed(self) -> None:
        """Waits until each delivery has its verdict in ClickHouse, and each case its newest version."""

        async def landed() -> bool:
            return len(await self.verdicts()) == len(self.sent)

        await wait_until(landed, 60, f"{len(self.sent)} deliveries in ClickHouse")

    async def no_members(self, settings: Settings) -> None:
        """Waits until Kafka has seen the workers off."""

        async def none() -> bool:
            async with administering(settings.kafka) as admin:
                return await members_of(admin, settings.worker.group) == 0

        await wait_until(none, 30, "the worker has left its group")


@pytest.mark.kafka
@pytest.mark.timeout(300)  # two starts of a worker, two of a sink and three commands
async def test_partitions_grow_without_a_loss_a_repeat_or_a_case_that_begins_anew(
    apache_kafka: KafkaNode, clickhouse_server: str, topic_prefix: str, tmp_path: Path
) -> None:
    """Deliveries before, during and after, repeats of all of them: each judged once and rightly, cases keep their versions."""
    stack = Grown(tmp_path, apache_kafka.bootstrap_servers, clickhouse_server, topic_prefix)
    _, old = stack.with_partitions(BEFORE)
    path, new = stack.with_partitions(GROWN)
    everybody = range(COMPANIES)
    await migrate(old)

    first = stack.webhooks("service_initiated", everybody, timedelta(0))
    async with running_worker(old), running(old):
        await stack.send([*first, *stack.webhooks("service_initiated", everybody[:10], timedelta(minutes=5))], BEFORE)
        await stack.all_landed()
    # Nobody reads now. An ingress of before goes on, and somebody adds a partition to one topic, which another program fills.
    await stack.send(stack.webhooks("service_initiated", everybody[5:15], timedelta(minutes=10)), BEFORE)
    async with administering(old.kafka) as admin:
        await add_partitions(admin, old.topic(RAW), 3)
    await stack.send(stack.webhooks("service_initiated", everybody[10:20], timedelta(minutes=15)), 3)
    resolved_meanwhile = stack.webhooks("service_resolved", everybody[:8], timedelta(minutes=20))
    await stack.send(resolved_meanwhile, 3)

    assert isinstance(await crash_of(new), RunError)
    await stack.no_members(old)
    grown, again = await asyncio.to_thread(run_each, [["repartition", "--config", str(path)]] * 2)
    assert (grown.exit_code, grown.err) == (0, "")
    lines = grown.out.splitlines()
    assert f"topic {topic_prefix}worker-cases-changelog: 2 -> 5 partitions" in lines
    assert f"topic {new.topic(RAW)}: 3 -> 5 partitions" in lines
    assert sum("keys moved" in line for line in lines) == 2
    assert (again.exit_code, again.out) == (0, "nothing to do\n")

    async with running_worker(new), running(new):
        await stack.send(stack.webhooks("service_initiated", everybody, timedelta(minutes=25)), BEFORE)  # not restarted yet
        await stack.send(stack.webhooks("service_initiated", everybody, timedelta(minutes=30)), GROWN)
        resolved_after = stack.webhooks("service_resolved", everybody[8:], timedelta(minutes=35))
        await stack.send([*resolved_after, *stack.webhooks("service_resolved", everybody, timedelta(minutes=40))], GROWN)
        await stack.all_landed()
        account = await reconcile(new)
    assert account.balanced, account.findings()

    verdicts = await stack.verdicts()
    news = {delivery.delivery_id for delivery in [*first, *resolved_meanwhile, *resolved_after]}
    assert {each for each, (verdict, _) in verdicts.items() if verdict == "new"} == news
    by_company = {delivery.entity_key: delivery.delivery_id for delivery in first}
    for delivery in stack.sent:
        if delivery.delivery_id not in news and b"service_initiated" in delivery.body:
            assert verdicts[delivery.delivery_id] == ("duplicate", by_company[delivery.entity_key])

    versions = await rows(
        new.clickhouse, "SELECT case_id, version, kyb_status FROM cases ORDER BY case_id, version", final=False
    )
    assert Counter(str(each["case_id"]) for each in versions) == {f"company-{each}": 2 for each in everybody}
    assert [(each["version"], each["kyb_status"]) for each in versions] == [(1, "pending"), (2, "resolved")] * COMPANIES
    [counted] = await rows(new.clickhouse, "SELECT count() AS rows, uniqExact(delivery_id) AS ids FROM deliveries", final=False)
    assert counted["rows"] == counted["ids"] == len(stack.sent)
    for changelog in changelog_topics(new):
        await _each_key_lies_once_where_it_belongs(new, changelog)


async def _each_key_lies_once_where_it_belongs(settings: Settings, changelog: str) -> None:
    newest = {(each.partition, each.key): each.value for each in await whole_topic(settings.kafka, changelog, GROWN)}
    live = [place for place, value in newest.items() if value is not None]
    assert len(live) >= COMPANIES
    assert all(partition_of(key, GROWN) == partition for partition, key in live)
    assert max(Counter(key for _, key in live).values()) == 1


@pytest.mark.kafka
async def test_a_killed_repartition_is_run_again_and_a_worker_waits_for_it(
    apache_kafka: KafkaNode, clickhouse_server: str, topic_prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed after each of its writes in turn: no worker starts, neither with the old number nor with the new one."""
    stack = Grown(tmp_path, apache_kafka.bootstrap_servers, clickhouse_server, topic_prefix)
    _, old = stack.with_partitions(BEFORE)
    path, new = stack.with_partitions(GROWN)
    await migrate(old)
    async with running_worker(old), running(old):
        [running_now] = await asyncio.to_thread(run_each, [["repartition", "--config", str(path)]])
        assert failed_clearly(running_now, 1, f"the consumer group {topic_prefix}worker has 1 members")
        await stack.send(stack.webhooks("service_initiated", range(COMPANIES), timedelta(0)), BEFORE)
        await stack.all_landed()
    await stack.no_members(old)

    for step in ("_copy", "_delete", "_move_state"):
        with monkeypatch.context() as patched:
            patched.setattr(f"kybstream.operations.repartition.{step}", _killed)
            with pytest.raises(_KilledError):
                await repartition(new)
        for settings in (old, new):
            assert "partitions, kafka.partitions is" in str(await crash_of(settings))
    await repartition(new)
    for table in (INTAKE_TABLE, CASES_TABLE):
        await _each_key_lies_once_where_it_belongs(new, f"{topic_prefix}worker-{table}-changelog")


class _KilledError(Exception):
    """In place of a SIGKILL."""


async def _killed(*_args: object, **_options: object) -> None:
    raise _KilledError


@pytest.mark.kafka
async def test_partitions_added_by_hand_to_all_topics_stop_the_worker(
    apache_kafka: KafkaNode, clickhouse_server: str, topic_prefix: str, tmp_path: Path
) -> None:
    """All numbers agree then, but the state lies where the keys belonged before: the first batch is refused."""
    stack = Grown(tmp_path, apache_kafka.bootstrap_servers, clickhouse_server, topic_prefix)
    _, old = stack.with_partitions(BEFORE)
    _, new = stack.with_partitions(GROWN)
    await migrate(old)
    async with running_worker(old), running(old):
        await stack.send(stack.webhooks("service_initiated", range(COMPANIES), timedelta(0)), BEFORE)
        await stack.all_landed()
    async with administering(old.kafka) as admin:
        for name in await admin.list_topics():
            if name.startswith(topic_prefix):
                await add_partitions(admin, name, GROWN)
    await stack.send(stack.webhooks("service_initiated", range(COMPANIES), timedelta(minutes=5)), GROWN)
    assert isinstance(await crash_of(new), MisplacedStateError)
    await stack.no_members(old)
    await repartition(new)
    async with running_worker(new), running(new):
        await stack.all_landed()
    assert Counter(verdict for verdict, _ in (await stack.verdicts()).values()) == {"new": COMPANIES, "duplicate": COMPANIES}

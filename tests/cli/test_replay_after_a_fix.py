"""A configuration that is wrong, dead letters by the dozen, the fix, and the replay: worker and sink on real servers."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from deploy.embedded.configuration import new_configuration, write_configuration
from kybstream.encryption import BodyEncryptor
from kybstream.kafka import durable_producer
from kybstream.operations.dead_letter_book import DeadLetterBook
from kybstream.operations.dead_letters import read_book
from kybstream.operations.migrate import migrate
from kybstream.operations.reconcile import reconcile
from kybstream.settings import Settings, load_settings
from schemas.cloudevents import cloud_event_headers
from schemas.codec import encode
from schemas.records import WebhookDelivery
from schemas.topics import RAW
from tests.cli.one_process import run_each
from tests.end_to_end.bodies import kyb
from tests.sinks.making import rows
from tests.sinks.running import running
from tests.support.commands import Background
from tests.support.waiting import wait_until

KEY, WRONG_KEY = b"key-encryption-key-of-the-tests!", b"some-other-key-of-thirty-two-b.!"
_SECONDS = 60.0


def configuration(path: Path, broker: str, clickhouse: str, name: str, *, fixed: bool) -> Path:
    """Broken: the key of the bodies is another one of that name, and the tenant globex is missing."""
    values = new_configuration(bootstrap_servers=broker, clickhouse_port=1, ingress_port=1)
    tenants = [
        {"name": tenant, "pseudonym_key": f"pseudonym-key-of-{tenant}", "case_token_keys": [f"case-token-key-of-{tenant}"]}
        for tenant in ("acme", "globex")
    ]
    changes: Mapping[str, object] = {
        "kafka": {"bootstrap_servers": broker, "topic_prefix": f"{name}.", "partitions": 2},
        "clickhouse": {"url": clickhouse, "database": name},
        "worker": {"group": f"{name}-worker", "instance": "one", "data_dir": str(path.parent / "worker")},
        "sink": {"group": f"{name}-sink", "flush_seconds": 0.1},
        "encryption": {"keys": [{"id": "k1", "key": base64.b64encode(KEY if fixed else WRONG_KEY).decode()}]},
        "tenants": tenants if fixed else tenants[:1],
        "sources": [],
    }
    write_configuration(path, {**values, **changes}, comment="Made by the tests.")
    return path


@asynccontextmanager
async def worker(config_path: Path) -> AsyncIterator[None]:
    """A worker with this configuration, while the block runs."""
    process = Background("worker", "--config", str(config_path), log=config_path.with_suffix(".log"))
    try:
        yield
        assert process.exit_code is None, process.output
    finally:
        await process.close()


def delivered(tenant: str, number: int, case_id: str, body: bytes | None = None) -> WebhookDelivery:
    """A delivery for a case as an ingress with the right key stores it."""
    name, now = f"delivery-{number}", datetime.now(UTC)
    body = body or kyb(case_id, "service_initiated", f"service-{number}")
    cipher, key_id = BodyEncryptor("k1", KEY).encrypt(body, tenant=tenant, delivery_id=name, day=now.date())
    return WebhookDelivery(
        delivery_id=name,
        received_at=now,
        tenant=tenant,
        source="kyb",
        source_kind="kyb-service",
        entity_key=f"{tenant}/{case_id}",
        body=cipher,
        body_key_id=key_id,
    )


async def store(settings: Settings, *deliveries: WebhookDelivery) -> None:
    """Puts deliveries on the raw topic."""
    async with durable_producer(settings.kafka) as producer:
        for one in deliveries:
            key = (one.entity_key or "").encode()
            await producer.send_and_wait(settings.topic(RAW), encode(one), key=key, headers=cloud_event_headers(one))


async def book_of(settings: Settings, letters: int) -> DeadLetterBook:
    """Waits until there are so many dead letters."""
    found: list[DeadLetterBook] = []

    async def there() -> bool:
        found[:] = [await read_book(settings)]
        return len(found[0].letters()) == letters

    await wait_until(there, _SECONDS, f"there are {letters} dead letters")
    return found[0]


async def verdicts_become(settings: Settings, **wanted: str) -> None:
    """Waits until ClickHouse has these verdicts, each delivery once, and everything is accounted for."""
    seen: dict[str, str] = {}

    async def as_wanted() -> bool:
        found = await rows(settings.clickhouse, "SELECT delivery_id, verdict FROM deliveries")
        seen.clear()
        seen.update({str(row["delivery_id"]).replace("-", "_"): str(row["verdict"]) for row in found})
        return len(found) == len(wanted) and seen == wanted

    await wait_until(as_wanted, _SECONDS, f"the verdicts are {wanted}")
    account = await reconcile(settings)
    assert account.balanced, account.findings()


@pytest.mark.stack
async def test_after_the_fix_a_replay_gives_every_delivery_its_due(
    tmp_path: Path, noida_broker: str, clickhouse_server: str, database_name: str
) -> None:
    """Undecryptable and unknown before; new afterwards, once, though replayed twice; what is poison says so, and whence."""
    name = database_name
    broken = configuration(tmp_path / "broken.toml", noida_broker, clickhouse_server, name, fixed=False)
    fixed = configuration(tmp_path / "fixed.toml", noida_broker, clickhouse_server, name, fixed=True)
    settings = load_settings(fixed, {})
    await migrate(settings)
    start = datetime.now(UTC)
    poison = delivered("acme", 3, "case-3", b"{ poison")
    await store(
        settings,
        delivered("acme", 1, "case-1"),
        delivered("globex", 2, "case-2"),
        poison,
    )
    end = datetime.now(UTC)

    async with running(settings):
        async with worker(broken):
            book = await book_of(settings, 3)
            await verdicts_become(settings, delivery_1="quarantined", delivery_2="quarantined", delivery_3="quarantined")
        letters = {one.letter.delivery_id: one for one in book.letters()}
        assert {delivery: one.letter.reason for delivery, one in letters.items()} == {
            "delivery-1": "undecryptable",
            "delivery-2": "unknown_tenant",
            "delivery-3": "undecryptable",
        }

        async with worker(fixed):
            config = ["--config", str(fixed), "--by", "ada"]
            of_letters = ["dlq", "replay", "--all", "--again", "--reason", "undecryptable", *config]
            of_range = ["replay", "--from", start.isoformat(), "--to", end.isoformat(), "--tenant", "globex", *config]
            for done in await asyncio.to_thread(run_each, [of_letters, of_range]):
                assert (done.exit_code, done.err) == (0, ""), done
            await verdicts_become(settings, delivery_1="new", delivery_2="new", delivery_3="quarantined")
            book = await book_of(settings, 4)

            # Once more, for no reason: nothing changes.
            for done in await asyncio.to_thread(run_each, [of_letters, of_range, of_letters]):
                assert done.exit_code == 0, done
            await store(settings, delivered("acme", 4, "case-1"), delivered("globex", 5, "case-2"))
            quarantined = {"delivery_3": "quarantined"}
            await verdicts_become(settings, **quarantined, **{f"delivery_{number}": "new" for number in (1, 2, 4, 5)})

    [comeback] = [one for one in book.letters() if one.letter.reason == "not_json"]
    assert (comeback.open, comeback.replays, comeback.newest.root) == (True, 1, letters["delivery-3"].dead_letter_id)
    assert [(step.what, step.reason) for step in book.history(comeback.dead_letter_id)] == [
        ("failed", "undecryptable"),
        ("replayed", None),
        ("failed", "not_json"),
    ]
    cases = await rows(
        settings.clickhouse, "SELECT case_id, max(version) AS version FROM cases GROUP BY case_id ORDER BY case_id"
    )
    assert [(row["case_id"], row["version"]) for row in cases] == [("case-1", 2), ("case-2", 2)]
    events = await rows(settings.clickhouse, "SELECT delivery_id FROM events ORDER BY delivery_id")
    assert [row["delivery_id"] for row in events] == ["delivery-1", "delivery-2", "delivery-4", "delivery-5"]
    replays = await rows(
        settings.clickhouse, "SELECT kind, count() AS n, sum(records) AS records FROM replays GROUP BY kind ORDER BY kind"
    )
    assert [(row["kind"], row["n"], row["records"]) for row in replays] == [("dead_letter", 6, 6), ("range", 2, 2)]

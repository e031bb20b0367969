"""`dlq` against the running stack: what is listed, shown, replayed, and comes back."""

from __future__ import annotations

import asyncio
import getpass
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from deploy.embedded.configuration import write_configuration
from kybstream.encryption import body_encryptor
from kybstream.kafka import durable_producer, ensure_topics
from kybstream.operations.dead_letter_book import Letter
from kybstream.operations.dead_letters import read_book
from kybstream.operations.topic_reader import read_topic
from kybstream.settings import Settings, load_settings
from schemas.codec import encode
from schemas.records import WebhookDelivery
from schemas.replays import mark_of
from schemas.topics import ALL_TOPICS, DEAD_LETTERS, RAW
from sinks.query import Value
from streams.batching.records import Record as KafkaRecord
from streams.dead_lettering import dead_letter
from streams.rejecting import UNDECODABLE
from tests.cli.commands import failed_clearly
from tests.cli.one_process import run_each, run_with
from tests.end_to_end.bodies import kyb, send
from tests.support.commands import Finished, kyb_stream
from tests.support.stack import RunningStack
from tests.support.waiting import wait_until

pytestmark = pytest.mark.stack

PRIVATE = b'{"userNo": "no-comma" "firstName": "Erika", "lastName": "Mustermann"'


def listed(done: Finished) -> list[dict[str, Value]]:
    """What `dlq list --format json` printed."""
    assert (done.exit_code, done.err) == (0, "")
    return [json.loads(line) for line in done.out.splitlines()]


async def letter_of(stack: RunningStack, delivery_id: str, *, replays: int = 0) -> Letter:
    """Waits until the delivery's dead letter is open after so many replays."""
    found: list[Letter] = []

    async def there() -> bool:
        letters = (await read_book(stack.settings)).letters()
        found[:] = [one for one in letters if one.letter.delivery_id == delivery_id]
        return [(one.open, one.replays) for one in found] == [(True, replays)]

    await wait_until(there, 30, f"the dead letter of {delivery_id} is open after {replays} replays")
    return found[0]


async def produce(settings: Settings, topic: str, key: str, value: bytes) -> None:
    """Puts a record on a topic that none of our components would have made."""
    async with durable_producer(settings.kafka) as producer:
        await producer.send_and_wait(settings.topic(topic), value, key=key.encode(), headers=[("ce_id", b"x")])


async def test_a_dead_letter_is_listed_and_shown_without_personal_data(stack: RunningStack) -> None:
    """Its body is written by `show --body` alone, byte for byte as it came, though it lies in Kafka encrypted."""
    delivery_id = await send(stack, "kyc", PRIVATE)
    name = (await letter_of(stack, delivery_id)).dead_letter_id
    table, as_json, shown, body, missing = await run_with(
        stack,
        ["dlq", "list", "--source", "kyc"],
        ["dlq", "list", "--source", "kyc", "--format", "json"],
        ["dlq", "show", name],
        ["dlq", "show", name, "--body"],
        ["dlq", "show", "00000000-0000-8000-8000-000000000000"],
    )
    [line] = [line for line in table.out.splitlines() if line.startswith(name)]
    assert [cell.strip() for cell in line.split("│")][2:7] == ["acme", "kyc", "intake", "not_json", "kyb.webhooks.raw.v1"]
    [row] = [row for row in listed(as_json) if row["dead_letter_id"] == name]
    assert (row["tenant"], row["delivery_id"], row["state"], row["replays"]) == ("acme", delivery_id, "open", 0)
    assert (row["origin_topic"], row["body_size"]) == ("kyb.webhooks.raw.v1", len(PRIVATE))
    content = json.loads(shown.out)
    assert content["origin_headers"]["ce_id"] == delivery_id
    assert (content["record"]["delivery_id"], content["record"]["source_kind"]) == (delivery_id, "kyc-registration")
    assert [(step["what"], step["reason"]) for step in content["history"]] == [("failed", "not_json")]
    for done in (table, as_json, shown):
        assert (done.exit_code, done.err) == (0, "")
        assert not [secret for secret in ("Erika", "Mustermann", "no-comma") if secret in done.out]
    assert body.out.encode() == PRIVATE
    assert failed_clearly(missing, 1, "there is no dead letter 00000000-")


async def test_filters_leave_what_is_meant(stack: RunningStack) -> None:
    """By reason, source, tenant, stage and time of the failure, and so many of the newest."""
    before = datetime.now(UTC)
    ids = [await send(stack, source, body) for source, body in (("hasty-kyb", b"{"), ("hasty-kyb", b"[]"), ("kyb", b"{"))]
    for delivery_id in ids:
        await letter_of(stack, delivery_id)
    since = ["--since", before.isoformat(), "--format", "json"]
    filters: dict[tuple[str, ...], list[str]] = {
        (): ids,
        ("--tenant", "hasty"): ids[:2],
        ("--source", "hasty-kyb", "--reason", "not_json"): ids[:1],
        ("--reason", "not_an_object", "--stage", "intake"): ids[1:2],
        ("--stage", "cases"): [],
        ("--until", before.isoformat()): [],
    }
    answers = await run_with(stack, *(["dlq", "list", *given, *since] for given in filters))
    for (given, expected), done in zip(filters.items(), answers, strict=True):
        assert sorted(str(row["delivery_id"]) for row in listed(done)) == sorted(expected), given
    everything, newest = await run_with(stack, ["dlq", "list", *since], ["dlq", "list", *since, "-n", "2"])
    assert listed(newest) == listed(everything)[:2]


async def test_a_replay_that_fails_again_comes_back_with_its_history(stack: RunningStack) -> None:
    """Same letter, same delivery, one row each; who replayed it is in the letter, in its history, and in ClickHouse."""
    delivery_id = await send(stack, "kyb", b"{ nothing mends this")
    name = (await letter_of(stack, delivery_id)).dead_letter_id
    for attempt, by in ((1, "ada"), (2, "grace")):
        done = await stack.kyb_stream("dlq", "replay", name, "--by", by)
        assert (done.exit_code, done.err) == (0, "")
        assert done.out == f"replayed {name} to kyb.webhooks.raw.v1: attempt {attempt}\n1 replayed by {by}\n"
        one = await letter_of(stack, delivery_id, replays=attempt)
        assert (one.dead_letter_id, one.replayed and one.replayed.replayed_by) == (name, by)
    content = json.loads((await stack.kyb_stream("dlq", "show", name)).out)
    assert [(step["what"], step["attempt"], step.get("replayed_by")) for step in content["history"]] == [
        ("failed", 0, None),
        ("replayed", 1, "ada"),
        ("failed", 1, None),
        ("replayed", 2, "grace"),
        ("failed", 2, None),
    ]
    assert content["origin_headers"]["kyb-replay-by"] == "grace"
    rows = await stack.landed("replays", 2, dead_letter_id=name)
    assert {(row["attempt"], row["replayed_by"], row["delivery_id"], row["records"]) for row in rows} == {
        (1, "ada", delivery_id, 1),
        (2, "grace", delivery_id, 1),
    }
    assert [row["verdict"] for row in await stack.landed("deliveries", delivery_id=delivery_id)] == ["quarantined"]
    assert len(await stack.landed("dead_letters", delivery_id=delivery_id)) == 1
    assert (await stack.kyb_stream("reconcile")).exit_code == 0


async def test_a_dry_run_writes_nothing_and_all_takes_open_ones_only(stack: RunningStack) -> None:
    """What was replayed and did not come back is left alone, unless it is asked for."""
    since = ["--since", datetime.now(UTC).isoformat()]
    ids = [await send(stack, "hasty-kyb", body) for body in (b"{ one", b"{ two")]
    names = {(await letter_of(stack, delivery_id)).dead_letter_id for delivery_id in ids}
    everything = ["dlq", "replay", "--all", "--tenant", "hasty", *since]
    raw = len(await stack.topic(RAW))
    dry = await stack.kyb_stream(*everything, "--dry-run")
    assert {line.split()[2].rstrip(":") for line in dry.out.splitlines()[:-1]} == names
    assert dry.out.endswith("\n2 would be replayed\n")
    assert len(await stack.topic(RAW)) == raw

    worker = stack.process.child("worker")
    worker.suspend()  # so that nothing comes back meanwhile
    try:
        done, rest, again = await run_with(stack, everything, [*everything, "--dry-run"], [*everything, "--again", "--dry-run"])
    finally:
        worker.resume()
    assert (done.exit_code, done.err, len(done.out.splitlines())) == (0, "", 3)
    assert len(await stack.topic(RAW)) == raw + 2
    assert rest.out == "0 would be replayed\n"
    assert again.out.endswith("2 would be replayed\n")
    for delivery_id in ids:
        await letter_of(stack, delivery_id, replays=1)


async def test_a_record_under_a_wrong_key_is_mended_by_rekeying(stack: RunningStack, case_id: str) -> None:
    """As it came it fails again; rekeyed it makes its event, once, however often it is replayed."""
    encryptor, name, now = body_encryptor(stack.settings.encryption), f"delivery-of-{case_id}", datetime.now(UTC)
    assert encryptor is not None
    body, key_id = encryptor.encrypt(kyb(case_id, "service_initiated"), tenant="acme", delivery_id=name, day=now.date())
    delivery = WebhookDelivery(
        delivery_id=name,
        received_at=now,
        tenant="acme",
        source="kyb",
        source_kind="kyb-service",
        entity_key=f"acme/{case_id}",
        body=body,
        body_key_id=key_id,
    )
    await produce(stack.settings, RAW, "acme/somebody-else", encode(delivery))
    one = await letter_of(stack, delivery.delivery_id)
    assert one.letter.reason == "key_mismatch"
    replay = ["dlq", "replay", one.dead_letter_id]
    await run_with(stack, replay)
    await letter_of(stack, delivery.delivery_id, replays=1)
    for done in await run_with(stack, [*replay, "--rekey"], [*replay, "--rekey"]):
        assert "under another key\n" in done.out

    async def counted() -> bool:
        rows = await stack.rows("deliveries", delivery_id=delivery.delivery_id)
        return [each["verdict"] for each in rows] == ["new"]

    await wait_until(counted, 10, "the delivery counts as new")
    assert (await stack.kyb_stream("reconcile")).exit_code == 0
    assert len(await stack.landed("events", case_id=case_id)) == 1
    assert [each["version"] for each in await stack.landed("current_cases", case_id=case_id)] == [1]
    content = json.loads((await stack.kyb_stream("dlq", "show", one.dead_letter_id)).out)
    assert (content["state"], content["replays"]) == ("replayed", 3)


async def test_bytes_that_are_no_record_are_shown_and_replayed_as_they_are(
    tmp_path: Path, noida_broker: str, topic_prefix: str
) -> None:
    """`--body` writes the value; there is no delivery whose body it could be. Key and headers come along."""
    config = tmp_path / "kyb-stream.toml"
    kafka = {"bootstrap_servers": noida_broker, "topic_prefix": topic_prefix, "partitions": 2}
    write_configuration(config, {"kafka": kafka}, comment="Made by the tests.")
    settings = load_settings(config, {})
    await ensure_topics(settings.kafka, {settings.topic(topic.suffix): {} for topic in ALL_TOPICS})
    junk = b"junk with a name in it \x00\n"
    record = KafkaRecord(settings.topic(RAW), 0, 7, 1_772_355_600_000, b"acme/x", junk, [("ce_id", b"x")])
    letter = dead_letter("intake", UNDECODABLE, record)
    await produce(settings, DEAD_LETTERS, "acme/x", encode(letter))
    await produce(settings, DEAD_LETTERS, "acme/x", b"no dead letter")  # is passed over

    name = letter.dead_letter_id
    show = ["dlq", "show", name]
    env = {"KYB_STREAM_CONFIG": str(config)}
    commands = [show, [*show, "--body"], ["dlq", "replay", name], ["dlq", "list", "--open"]]
    shown, body, replayed, rest = await asyncio.to_thread(run_each, commands, env=env)
    content = json.loads(shown.out)
    assert (content["record_error"], content["origin_value_size"]) == ("the value is not single-object encoded Avro", len(junk))
    assert "a name" not in shown.out
    assert body.out.encode() == junk
    assert (replayed.exit_code, replayed.err) == (0, "")
    assert rest.out.endswith("\n0 dead letters\n")
    [copy] = [record async for record in read_topic(settings.kafka, settings.topic(RAW))]
    assert (copy.key, copy.value, copy.headers[0]) == (b"acme/x", junk, ("ce_id", b"x"))
    mark = mark_of(copy.headers)
    assert mark is not None
    assert (mark.dead_letter_id, mark.replayed_by, mark.attempt) == (name, getpass.getuser(), 1)


async def test_an_encrypted_body_is_not_shown_without_its_key(stack: RunningStack) -> None:
    """The command says which key it lacks; everything else of the letter can be seen without."""
    delivery_id = await send(stack, "kyc", PRIVATE)
    name = (await letter_of(stack, delivery_id)).dead_letter_id
    env = {"KYB_STREAM_CONFIG": str(stack.config_path), "KYB_STREAM_ENCRYPTION__KEYS__0__ID": "another"}
    done = await kyb_stream("dlq", "show", name, "--body", env=env)
    assert failed_clearly(done, 1, "a body is encrypted under the key 'k1', which is not configured")
    assert done.out == ""
    assert (await kyb_stream("dlq", "show", name, env=env)).exit_code == 0

"""The payloads that the two providers publish, sent with curl, through the whole stack."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

import msgspec
import pytest

from schemas.codec import decode
from schemas.records import DeadLetter, Delivery, Event, WebhookDelivery
from schemas.topics import DEAD_LETTERS, DELIVERIES, EVENTS, RAW
from tests.end_to_end.expected_events import EXPECTED_EVENTS, REPAIRED_DOCUMENT_PURCHASE, SUBJECT, Field
from tests.support.body_keys import in_clear
from tests.support.stack import RunningStack
from tests.support.waiting import wait_until

pytestmark = pytest.mark.stack

FIXTURES = Path(__file__).parents[1] / "fixtures"
QUERYABLE_SECONDS = 2.0
INVALID = "kyb/08_paid_documents_extraction_document_purchase_request"


def read(path: Path) -> bytes:
    """The bytes of a payload."""
    return path.read_bytes()


async def curl(url: str, body: Path) -> str:
    """Posts a file with curl as a provider's webhook; checks the answer and returns the delivery's id."""
    command = ["curl", "--silent", "--show-error", "--include", "--header", "Content-Type: application/json"]
    done = await asyncio.to_thread(
        subprocess.run, [*command, "--data-binary", f"@{body}", url], check=True, capture_output=True, text=True
    )
    head, _, content = done.stdout.partition("\n\n")
    status, *lines = head.splitlines()
    headers = dict(line.lower().split(": ", 1) for line in lines)
    assert (status, content) == ("HTTP/1.1 200 OK", "ok")
    return headers["x-delivery-id"]


async def delivered(stack: RunningStack, delivery_id: str) -> tuple[Delivery, dict[str, object], list[Event]]:
    """What both topics and the table hold of a delivery, as soon as all do; fails after two seconds."""
    found: list[tuple[Delivery, dict[str, object], list[Event]]] = []

    async def all_of_it() -> bool:
        rows, deliveries, events = await asyncio.gather(
            stack.rows("deliveries", delivery_id=delivery_id),
            stack.topic(DELIVERIES),
            stack.topic(EVENTS),
        )
        judged = [decode(record.value or b"", Delivery) for record in deliveries]
        judged = [each for each in judged if each.delivery_id == delivery_id]
        made = [event for record in events if (event := decode(record.value or b"", Event)).delivery_id == delivery_id]
        if not (rows and judged and (made or judged[0].verdict != "new")):
            return False
        assert (len(rows), len(judged)) == (1, 1)
        found.append((judged[0], _plain(rows[0]), made))
        return True

    await wait_until(all_of_it, QUERYABLE_SECONDS, f"delivery {delivery_id} is in ClickHouse and in both topics")
    return found[0]


def _plain(row: Mapping[str, object]) -> dict[str, object]:
    """A row as a record's fields: without where it came from, times as times, arrays as tuples."""
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in row.items() if name[0] != "_"}
    for name in ("received_at", "id_embedded_at"):
        if isinstance(text := values.get(name), str):
            values[name] = datetime.fromisoformat(text)
    return values


def whole_event(fields: Mapping[str, Field], delivery: Delivery, entity: str, case_id: str) -> dict[str, object]:
    """Every field of the event that a delivery must have made."""
    is_kyb = delivery.source_kind == "kyb-service"
    every = {name: () if isinstance(default, tuple) else None for name, default in _DEFAULTS.items()}
    return every | {
        "event_id": delivery.event_id,
        "delivery_id": delivery.delivery_id,
        "received_at": delivery.received_at,
        "tenant": "acme",
        "source": "kyb" if is_kyb else "kyc",
        "source_kind": "kyb-service" if is_kyb else "kyc-registration",
        "entity_key": f"acme/{entity}",
        "case_id": case_id,
        "placement": "own" if is_kyb else "unlinked",
        **fields,
    }


_DEFAULTS = {field.name: field.default for field in msgspec.structs.fields(Event)}


async def check_event(stack: RunningStack, body: Path, source: str, fields: Mapping[str, Field]) -> None:
    """Sends a body and compares every field of its delivery and of its event, in the topics and in ClickHouse."""
    sent = read(body)
    delivery_id = await curl(stack.url(source), body)
    delivery, row, events = await delivered(stack, delivery_id)

    entity = fields.get("service_id", SUBJECT)
    case_id = entity if source == "kyb" else f"kyc:{SUBJECT}"
    assert msgspec.structs.asdict(delivery) == {
        "delivery_id": delivery_id,
        "received_at": delivery.received_at,
        "tenant": "acme",
        "source": source,
        "source_kind": "kyb-service" if source == "kyb" else "kyc-registration",
        "verdict": "new",
        "reason": None,
        "event_id": delivery.event_id,
        "first_delivery_id": delivery_id,
        "entity_key": f"acme/{entity}",
        "case_id": case_id,
        "event_type": fields["type"],
        "violations": fields.get("violations", ()),
        "body_size": len(sent),
    }
    assert row == msgspec.structs.asdict(delivery)

    expected = whole_event(fields, delivery, str(entity), str(case_id))
    assert [msgspec.structs.asdict(event) for event in events] == [expected]
    stored = await wait_until(lambda: stack.rows("events", delivery_id=delivery_id), QUERYABLE_SECONDS, "the event's row")
    assert [_plain(each) for each in stored] == [expected]

    raw = [decode(record.value or b"", WebhookDelivery) for record in await stack.topic(RAW)]
    assert [in_clear(each, stack.settings).body for each in raw if each.delivery_id == delivery_id] == [sent]


@pytest.mark.parametrize("name", EXPECTED_EVENTS)
async def test_each_published_payload_is_queryable_within_two_seconds(stack: RunningStack, name: str) -> None:
    """Sent with curl, it is in ClickHouse and in both topics two seconds later, with every field that is kept."""
    await check_event(stack, FIXTURES / f"{name}.json", name.partition("/")[0], EXPECTED_EVENTS[name])


async def test_the_invalid_published_payload_is_acknowledged_and_quarantined(stack: RunningStack) -> None:
    """A resend would not help, so it is answered with 200; its bytes lie in the dead letters, encrypted, exactly as sent."""
    body = FIXTURES / f"{INVALID}.json"
    delivery_id = await curl(stack.url("kyb"), body)
    delivery, row, events = await delivered(stack, delivery_id)
    assert (delivery.verdict, delivery.reason, delivery.event_id, events) == ("quarantined", "not_json", None, [])
    assert row == msgspec.structs.asdict(delivery)

    letters = [decode(record.value or b"", DeadLetter) for record in await stack.topic(DEAD_LETTERS)]
    [letter] = [each for each in letters if each.delivery_id == delivery_id]
    assert (letter.stage, letter.reason, letter.origin_topic) == ("intake", "not_json", "kyb.webhooks.raw.v1")
    assert in_clear(decode(letter.origin_value or b"", WebhookDelivery), stack.settings).body == read(body)

    rows = await wait_until(lambda: stack.rows("dead_letters", delivery_id=delivery_id), QUERYABLE_SECONDS, "the letter's row")
    assert [(row["stage"], row["reason"], row["body_size"]) for row in rows] == [("intake", "not_json", len(read(body)))]


async def test_the_invalid_payload_with_its_comma_is_an_event(stack: RunningStack, tmp_path: Path) -> None:
    """What is quarantined is the missing comma, not the kind of event."""
    published = read(FIXTURES / f"{INVALID}.json")
    repaired = tmp_path / "document_purchase_request.json"
    repaired.write_bytes(published.replace(b'is now ready."\n', b'is now ready.",\n'))
    await check_event(stack, repaired, "kyb", REPAIRED_DOCUMENT_PURCHASE)


async def test_a_repeated_payload_is_a_duplicate_and_makes_no_second_event(stack: RunningStack) -> None:
    """The same content again, with other white space, is acknowledged and counted, and nothing else."""
    first = FIXTURES / "kyb" / "02_business_information_service_resolved.json"
    again = msgspec.json.encode(msgspec.json.decode(first.read_bytes()) | {"extra": 1})
    ids = [await stack.post("kyb", body) for body in (again, again, b" " + again + b"\n")]
    rows = [(await delivered(stack, answer.delivery_id or ""))[1] for answer in ids]
    assert [row["verdict"] for row in rows] == ["new", "duplicate", "duplicate"]
    assert {row["first_delivery_id"] for row in rows} == {ids[0].delivery_id}
    assert len(await stack.landed("events", event_id=str(rows[0]["event_id"]))) == 1

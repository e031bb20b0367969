"""Personal data and secrets are in the encrypted bodies of the raw topic and the dead letters, and nowhere else."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from schemas.codec import decode
from schemas.records import DeadLetter, WebhookDelivery
from schemas.topics import ALL_TOPICS, DEAD_LETTERS, RAW
from tests.end_to_end.bodies import FIXTURES, new_user, send, token_for
from tests.support.body_keys import in_clear
from tests.support.stack import RunningStack, post
from tests.support.waiting import wait_until

pytestmark = pytest.mark.stack

KYC_PRIVATE = (
    *("firstName", "lastName", "dob", "email", "number", "additionalNumber", "userNum", "validUntil", "gender"),
    *("street", "city", "state", "zipCode", "address", "remark", "callbackUrl", "redirectUrl"),
    *("documentPhoto", "documentBackPhoto", "facePhoto", "amlReport", "idvReport"),
)
KYB_PRIVATE = ("url_token", "search", "description", "link", "surprise")
WITH_BODIES = {RAW, DEAD_LETTERS}
SHORT = len("Test")
"""A value of so few characters counts as a whole word only; in ciphers, which are noise, it is found by chance."""


def published(path: Path, case_id: str, user_no: str) -> tuple[bytes, set[str]]:
    """A published payload under ids of this test's own, and the private values in it."""
    text = path.read_text()
    ours = re.sub(r'("service_id":\s*")[^"]*', rf"\g<1>{case_id}-{path.name[:2]}", text)
    ours = re.sub(r'("userNo":\s*")[^"]*', rf"\g<1>{user_no}", ours)
    # One of them is no JSON, so the values are found in its text.
    values = dict(re.findall(r'"(\w+)":\s*"([^"]*)"', ours))
    too_short_to_tell = {"gender", "remark"}
    return ours.encode(), {values[name] for name in {*KYC_PRIVATE, *KYB_PRIVATE} - too_short_to_tell if name in values}


async def everything(stack: RunningStack) -> dict[str, str]:
    """Every table and view, every topic (keys and values as they lie in Kafka), and every log, as text."""
    places = {f"log of the {name}": text for name, text in stack.logs().items()}
    for row in await stack.ask("SHOW TABLES"):
        name = str(row["name"])
        places[f"table {name}"] = json.dumps(await stack.rows(name), ensure_ascii=False)
    for topic in ALL_TOPICS:
        records = await stack.topic(topic.suffix)
        places[f"topic {topic.suffix}"] = b"\n".join(
            (record.key or b"") + b" " + (record.value or b"") for record in records
        ).decode("utf-8", "replace")
    return places


async def decrypted(stack: RunningStack) -> tuple[str, str]:
    """The bodies in the raw topic and those in the dead letters, as text, read with the stack's key."""
    raw = [decode(record.value or b"", WebhookDelivery) for record in await stack.topic(RAW)]
    letters = [decode(record.value or b"", DeadLetter) for record in await stack.topic(DEAD_LETTERS)]
    dead = [decode(letter.origin_value or b"", WebhookDelivery) for letter in letters if letter.stage == "intake"]
    raw_text, dead_text = (b"\n".join(in_clear(each, stack.settings).body for each in found) for found in (raw, dead))
    return raw_text.decode("utf-8", "replace"), dead_text.decode("utf-8", "replace")


async def test_nothing_private_leaves_the_encrypted_bodies(stack: RunningStack, case_id: str) -> None:
    """Not from the published payloads, from bodies private in every field, from malformed ones, or from refused requests."""
    user = new_user()
    private: set[str] = {user}
    ids: list[str] = []
    for path in sorted(FIXTURES.glob("ky?/*.json")):
        body, values = published(path, case_id, user)
        private |= values
        ids.append(await send(stack, path.parent.name, body))

    mark = f"canary {case_id}"
    kyc = {"userNo": new_user(), "kycStatus": 3, "kycFailJson": json.dumps([{"reason": f"{mark} of kycFailJson"}])}
    kyc |= {name: f"{mark} of {name}" for name in KYC_PRIVATE}
    kyb = {"service_id": f"{case_id}-canary", "type": "service_resolved"} | {name: f"{mark} of {name}" for name in KYB_PRIVATE}
    token = token_for(f"{case_id}-canary")
    kyc_body = json.dumps(kyc).encode()
    ids.append(await send(stack, "kyc", kyc_body, case_token=token))
    ids.append(await send(stack, "kyb", json.dumps(kyb).encode()))
    ids.append(await send(stack, "kyb", f'{{"search": "{mark} that is malformed'.encode()))
    ids.append(await send(stack, "kyb", f'["{mark} in a list"]'.encode()))
    private |= {mark, str(kyc["userNo"]), token, f"wrong-token-{case_id}"}
    private |= {source.token for source in stack.settings.sources}
    refused = await post(f"{stack.settings.ingress.base_url}/webhooks/kyb/wrong-token-{case_id}", kyc_body)
    assert refused.status == 404

    async def all_landed() -> bool:
        deliveries = await stack.rows("deliveries", delivery_id=ids)
        letters = await stack.rows("dead_letters", delivery_id=ids)
        cases = await stack.rows("current_cases", case_id=[str(row["case_id"]) for row in deliveries])
        events = await stack.rows("events", delivery_id=ids)
        return (len(deliveries), len(letters), len(cases), len(events)) == (len(ids), 3, 10, len(ids) - 3)

    await wait_until(all_landed, 5, "all deliveries, dead letters, cases and events are in ClickHouse")

    places = await everything(stack)
    assert all(places[f"table {name}"] != "[]" for name in ("deliveries", "events", "cases", "dead_letters", "current_cases"))
    # A delivery in the raw topic holds the case token that it came with beside the body, and so does its dead letter.
    in_ciphers = {value for value in private - {token} if len(value) > SHORT}
    with_bodies = {f"topic {suffix}" for suffix in WITH_BODIES}
    found = {
        place: {value for value in (in_ciphers if place in with_bodies else private) if is_in(value, text)}
        for place, text in places.items()
    }
    assert {place: values for place, values in found.items() if values} == {}

    # The search finds what is there.
    unsent = {source.token for source in stack.settings.sources} | {f"wrong-token-{case_id}", token}
    raw, dead = await decrypted(stack)
    assert {value for value in private - unsent if not is_in(value, raw)} == set()
    assert is_in(mark, dead)
    assert is_in(token, places[f"topic {RAW}"])


def is_in(value: str, text: str) -> bool:
    """Whether the text holds this value, as it is or as JSON escapes it; a short one counts as a whole word only."""
    spellings = {value, json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1]}
    if len(value) > SHORT:
        return any(each in text for each in spellings)
    return any(re.search(rf"\b{re.escape(each)}\b", text) for each in spellings)

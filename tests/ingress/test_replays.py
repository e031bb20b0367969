from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.embedded.ports import free_port
from ingress.replays import ReplayWindow, replay_key
from kybstream.errors import UnavailableError
from tests.ingress.harness import KYB_TOKEN, SECRET, Json, deliveries_of, make_topics, running, settings_for, source
from tests.ingress.signing import b64, mac

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
KYB = f"/webhooks/kyb/{KYB_TOKEN}"
BODY = b'{"service_id":"one"}'
SOURCE: Json = source(signature={"scheme": "standard-webhooks", "secrets": [SECRET]})


def signed(message_id: str, body: bytes = BODY, *, seconds_ago: int = 0, secret: str = SECRET) -> dict[str, str]:
    """The headers of a Standard Webhooks message."""
    timestamp = str(int(datetime.now(UTC).timestamp()) - seconds_ago)
    signature = b64(mac(secret.encode(), f"{message_id}.{timestamp}.".encode() + body))
    return {"webhook-id": message_id, "webhook-timestamp": timestamp, "webhook-signature": f"v1,{signature}"}


def test_a_message_is_known_for_twice_the_tolerance() -> None:
    """As long as a copy of it could pass the timestamp check; then it is taken again."""
    window = ReplayWindow(300)
    window.remember(b"key", "delivery", NOW)
    assert window.find(b"key", NOW + timedelta(seconds=600)) == "delivery"
    assert window.find(b"key", NOW + timedelta(seconds=601)) is None
    assert window.find(b"other", NOW) is None
    window.remember(b"key", "second", NOW + timedelta(seconds=601))
    assert window.find(b"key", NOW + timedelta(seconds=602)) == "second"


def test_the_window_is_bounded_in_time_and_number() -> None:
    """The oldest are forgotten first; what is too old goes without being asked for."""
    window = ReplayWindow(300, max_messages=3)
    for number in range(5):
        window.remember(b"%d" % number, str(number), NOW)
    assert [window.find(b"%d" % number, NOW) for number in range(5)] == [None, None, "2", "3", "4"]
    window.remember(b"late", "late", NOW + timedelta(hours=1))
    assert len(window) == 1
    ReplayWindow(1e300).remember(b"key", "delivery", NOW)


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 900)), max_size=40))
def test_the_first_delivery_of_a_message_is_the_one_that_is_told(events: list[tuple[int, int]]) -> None:
    """In any order of messages, what is found was remembered under that key within the window, and never more than fit."""
    window, now, remembered = ReplayWindow(300, max_messages=4), NOW, dict[bytes, set[str]]()
    for number, (key, seconds) in enumerate(events):
        now += timedelta(seconds=seconds)
        name = b"%d" % key
        found = window.find(name, now)
        assert found is None or found in remembered[name]
        if found is None:
            window.remember(name, str(number), now)
            remembered.setdefault(name, set()).add(str(number))
            assert window.find(name, now) == str(number)
        assert len(window) <= 4


def test_the_key_tells_id_body_and_case_token_apart() -> None:
    """No two of these are the same message, and none is kept in clear."""
    messages = [("a", b"b", None), ("ab", b"", None), ("", b"ab", None), ("a", b"", "b"), ("a", b"b", "c")]
    keys = {replay_key(*each) for each in messages}
    assert len(keys) == len(messages)
    assert {len(key) for key in keys} == {32}


async def test_the_same_message_again_is_acknowledged_and_not_stored(noida_broker: str, topic_prefix: str) -> None:
    """A copy, and a retry with a new timestamp: 200 with the first delivery's id; the topic holds it once; it is counted."""
    settings = settings_for(noida_broker, topic_prefix, [SOURCE])
    await make_topics(settings.kafka)
    async with running(settings) as ingress:
        captured = signed("msg_1", seconds_ago=2)
        first = await ingress.post(KYB, BODY, captured)
        again = [await ingress.post(KYB, BODY, captured), await ingress.post(KYB, BODY, signed("msg_1"))]
        assert {(each.status, each.headers["X-Delivery-Id"]) for each in again} == {(200, first.headers["X-Delivery-Id"])}
        assert set(await deliveries_of(settings)) == {first.headers["X-Delivery-Id"]}
        assert await ingress.metric("kyb_ingress_requests_total", source="kyb", outcome="replayed") == 2
        assert await ingress.metric("kyb_ingress_requests_total", source="kyb", outcome="accepted") == 1


async def test_what_is_new_in_any_part_is_taken(noida_broker: str, topic_prefix: str) -> None:
    """Another id with the same body, the same id with another body, and another case token are deliveries of their own."""
    settings = settings_for(noida_broker, topic_prefix, [SOURCE])
    await make_topics(settings.kafka)
    async with running(settings) as ingress:
        other = b'{"service_id":"two"}'
        sent = [(KYB, "msg_1", BODY), (KYB, "msg_2", BODY), (KYB, "msg_1", other), (f"{KYB}/c1.a.b", "msg_1", BODY)]
        answers = [await ingress.post(path, body, signed(name, body)) for path, name, body in sent]
        assert {answer.status for answer in answers} == {200}
        assert len(await deliveries_of(settings)) == 4


async def test_only_what_was_stored_is_remembered(
    noida_broker: str, topic_prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A message that got 503 or 401, or whose first delivery is still under way, is taken when it comes again."""
    settings = settings_for(noida_broker, topic_prefix, [SOURCE])
    await make_topics(settings.kafka)
    async with running(settings) as ingress:
        forged = signed("msg_1", secret="somebody else's secret")
        assert (await ingress.post(KYB, BODY, forged)).status == 401

        async def refuse(*_: object) -> None:
            raise UnavailableError("not now")

        with monkeypatch.context() as broken:
            broken.setattr("ingress.publish.Publisher.publish", refuse)
            assert (await ingress.post(KYB, BODY, signed("msg_1"))).status == 503
        answer = await ingress.post(KYB, BODY, signed("msg_1"))
        assert answer.status == 200
        assert set(await deliveries_of(settings)) == {answer.headers["X-Delivery-Id"]}
        both = await asyncio.gather(*(ingress.post(KYB, BODY, signed("msg_2")) for _ in range(2)))
        assert {each.status for each in both} == {200}
        stored = await deliveries_of(settings)
        assert {each.headers["X-Delivery-Id"] for each in both} <= set(stored)


async def test_a_replay_is_known_even_without_kafka(topic_prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer to a copy needs nobody: what was stored is stored."""
    settings = settings_for(f"127.0.0.1:{free_port()}", topic_prefix, [SOURCE])
    async with running(settings, wait_ready=False) as ingress:

        async def accept(*_: object) -> None:
            return

        with monkeypatch.context() as working:
            working.setattr("ingress.publish.Publisher.publish", accept)
            first = await ingress.post(KYB, BODY, signed("msg_1"))
        again = await ingress.post(KYB, BODY, signed("msg_1"))
        assert (again.status, again.headers["X-Delivery-Id"]) == (200, first.headers["X-Delivery-Id"])
        assert (await ingress.post(KYB, BODY, signed("msg_2"))).status == 503

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest
import structlog

from deploy.embedded.ports import free_port
from ingress.links_api import MAX_BODY_BYTES
from kybstream.privacy import Pseudonymiser
from kybstream.telemetry import configure_logging
from schemas.codec import decode
from schemas.records import Link, WebhookDelivery
from schemas.topics import LINKS, RAW
from streams.intake_state import IntakeState
from streams.linking import registered_cases
from streams.links import intake_link
from tests.ingress.harness import KYB_TOKEN, KYC_TOKEN, Ingress, make_topics, records_of, running
from tests.ingress.registering import (
    LINK,
    PATH,
    REGISTRATIONS,
    SUBJECT,
    TOKENS,
    links_of,
    problem,
    register,
    settings_with_links,
    taking_links,
)
from tests.support.waiting import wait_until

MARK = "0123456789abcdef-of-ada-lovelace"
"""What must come back in no answer and no log line."""

BY_NUMBER = {"case_id": "company-42", "user_no": MARK, "merchant_no": f"m-{MARK}", "sub_merchant_no": f"s-{MARK}"}


async def test_201_means_the_link_is_in_the_topic_as_answered(ingress: Ingress) -> None:
    """After 201 the topic holds what the answer says, keyed like the subject's callbacks, with the link's id in its headers."""
    before = datetime.now(UTC)
    answer = await register(ingress)
    assert (answer.status, answer.headers["Content-Type"]) == (201, "application/json")
    (record,) = await records_of(ingress.settings.kafka, ingress.settings.topic(LINKS))
    link = decode(record.value, Link)
    assert record.key.decode() == f"acme/{SUBJECT}"
    assert (link.tenant, link.case_id, link.subject, link.expected_subjects) == ("acme", "company-42", SUBJECT, 2)
    assert timedelta() <= link.registered_at - before < timedelta(seconds=20)
    answered = json.loads(answer.body)
    assert answered.keys() == {"link_id", "tenant", "case_id", "subject", "expected_subjects", "registered_at"}
    assert datetime.fromisoformat(answered.pop("registered_at")) == link.registered_at
    assert answered == {"link_id": link.link_id, "tenant": "acme", **LINK}
    headers = dict(record.headers)
    assert headers["ce_id"].decode() == link.link_id
    assert (headers["ce_type"], headers["content-type"]) == (b"kyb-stream.link.registered.v1", b"application/avro")


async def test_a_user_number_becomes_the_pseudonym_of_his_callbacks(ingress: Ingress) -> None:
    """Given in clear, the person gets the key that his callback has, and neither answer nor topic holds what was given."""
    answer = await register(ingress, BY_NUMBER)
    callback = {"userNo": MARK, "merchantNo": f"m-{MARK}", "subMerchantNo": f"s-{MARK}"}
    assert (await ingress.post(f"/webhooks/kyc/{KYC_TOKEN}", json.dumps(callback).encode())).status == 200
    (record,) = await records_of(ingress.settings.kafka, ingress.settings.topic(LINKS))
    (raw,) = await records_of(ingress.settings.kafka, ingress.settings.topic(RAW))
    assert record.key == raw.key == decode(raw.value, WebhookDelivery).entity_key.encode()  # type: ignore[union-attr]
    assert answer.status == 201
    assert json.loads(answer.body)["expected_subjects"] is None
    for held in (answer.body, record.key, record.value, *(value for _, value in record.headers)):
        assert MARK.encode() not in held


async def test_merchants_may_be_left_out_or_empty(ingress: Ingress) -> None:
    """As callbacks leave them out; both are the same person."""
    answers = [await register(ingress, {"case_id": "c", "user_no": "u", **more}) for more in ({}, {"merchant_no": ""})]
    assert [answer.status for answer in answers] == [201, 201]
    assert {link.subject for link in await links_of(ingress.settings)} == {Pseudonymiser(b"k" * 32).subject("", "", "u")}


@pytest.mark.parametrize(
    ("body", "pointers"),
    [
        ([], ["#"]),
        (MARK, ["#"]),
        (None, ["#"]),
        ({}, ["#/case_id", "#"]),
        ({"case_id": "c"}, ["#"]),
        ({"subject": SUBJECT}, ["#/case_id"]),
        (LINK | {"user_no": MARK}, ["#"]),
        (LINK | {"merchant_no": MARK}, ["#/merchant_no"]),
        (LINK | {"subject": MARK}, ["#/subject"]),
        (LINK | {"subject": SUBJECT.upper()}, ["#/subject"]),
        (LINK | {"subject": f"{SUBJECT}\n"}, ["#/subject"]),
        (LINK | {"case_id": ""}, ["#/case_id"]),
        (LINK | {"case_id": " \n\u3000"}, ["#/case_id"]),
        (LINK | {"case_id": f"!{MARK}"}, ["#/case_id"]),
        (LINK | {"case_id": f"kyc:{SUBJECT}"}, ["#/case_id"]),
        (LINK | {"case_id": "c" * 513}, ["#/case_id"]),
        (LINK | {"case_id": 42}, ["#/case_id"]),
        (LINK | {"case_id": {MARK: MARK}}, ["#/case_id"]),
        (LINK | {"expected_subjects": 0}, ["#/expected_subjects"]),
        (LINK | {"expected_subjects": 10_001}, ["#/expected_subjects"]),
        (LINK | {"expected_subjects": 1.5}, ["#/expected_subjects"]),
        (LINK | {"expected_subjects": True}, ["#/expected_subjects"]),
        (LINK | {"expected_subjects": "2"}, ["#/expected_subjects"]),
        (LINK | {"expected_subjects": None}, ["#/expected_subjects"]),
        (BY_NUMBER | {"user_no": " "}, ["#/user_no"]),
        (BY_NUMBER | {"user_no": 10**21}, ["#/user_no"]),
        (BY_NUMBER | {"merchant_no": None, "sub_merchant_no": MARK * 8}, ["#/merchant_no", "#/sub_merchant_no"]),
        (LINK | {MARK: MARK}, ["#"]),
        (LINK | {"registered_at": MARK}, ["#"]),
    ],
    ids=lambda value: json.dumps(value)[:70],
)
async def test_what_is_wrong_is_named_and_not_repeated(ingress: Ingress, body: object, pointers: list[str]) -> None:
    """422 points to each field with what was expected; no value and no name of the sender's comes back; nothing is stored."""
    answer = await register(ingress, body)
    assert (answer.status, problem(answer)) == (422, "invalid-link")
    errors = json.loads(answer.body)["errors"]
    assert [error["pointer"] for error in errors] == pointers
    assert all(error.keys() == {"pointer", "detail"} and error["detail"] for error in errors)
    assert MARK.encode() not in answer.body
    assert await links_of(ingress.settings) == []


@pytest.mark.parametrize(
    "body", [b"", b"{", b'{"case_id": NaN}', b'{"a":' * 10_000, b'{"case_id": "\xff"}', b'{"case_id": "\\ud800"}', b"\x00"]
)
async def test_what_is_not_json_is_refused(ingress: Ingress, body: bytes) -> None:
    """400, and never a crash."""
    answer = await register(ingress, body)
    assert (answer.status, problem(answer)) == (400, "not-json")
    assert await ingress.metric(REGISTRATIONS, tenant="acme", outcome="not_json") == 1


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"Content-Type": "application/jsonx"},
        {"Content-Encoding": "gzip"},
    ],
    ids=str,
)
async def test_only_plain_json_is_taken(ingress: Ingress, headers: dict[str, str]) -> None:
    """Another media type, or a compressed body: 415 with what is taken instead. Parameters of the type do not matter."""
    answer = await register(ingress, headers=headers)
    assert (answer.status, problem(answer), answer.headers["Accept"]) == (415, "unsupported-media-type", "application/json")
    assert (await register(ingress, headers={"Content-Type": "Application/JSON; charset=utf-8"})).status == 201


async def test_a_large_body_is_refused_before_it_is_read(ingress: Ingress) -> None:
    """413 beyond the cap, whether the length was declared or not; a body just at the cap is read."""
    filled = json.dumps(LINK).encode().ljust(MAX_BODY_BYTES)

    async def chunks() -> AsyncIterator[bytes]:
        yield filled
        yield b" "

    assert (await register(ingress, filled)).status == 201
    assert problem(await register(ingress, filled + b" ")) == "too-large"
    headers = {"Authorization": f"Bearer {TOKENS['acme']}", "Content-Type": "application/json"}
    async with ingress.client.post(ingress.url + PATH, data=chunks(), headers=headers) as response:
        assert response.status == 413
    assert await ingress.metric(REGISTRATIONS, tenant="acme", outcome="too_large") == 2


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS"])
async def test_links_are_only_posted(ingress: Ingress, method: str) -> None:
    """405 with `Allow`, with or without a token."""
    for headers in ({}, {"Authorization": f"Bearer {TOKENS['acme']}"}):
        answer = await ingress.request(method, PATH, headers=headers)
        assert (answer.status, answer.headers["Allow"]) == (405, "POST")


async def test_a_slow_body_is_given_up(noida_broker: str, topic_prefix: str) -> None:
    """408 after the timeout, and the connection ends."""
    head = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKENS['acme']}\r\n"
    async with taking_links(noida_broker, topic_prefix, body_timeout_seconds=0.05) as ingress:
        answer = await ingress.raw(f"{head}Content-Type: application/json\r\nContent-Length: 9\r\n\r\n{{".encode())
        assert answer.startswith(b"HTTP/1.1 408 ")


async def test_a_client_that_waits_for_100_is_told_to_go_on(ingress: Ingress) -> None:
    """`Expect: 100-continue`, as curl and others send it, is answered before the body is read."""
    reader, writer = await asyncio.open_connection(*ingress.address)
    head = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKENS['acme']}\r\nExpect: 100-continue\r\n"
    body = json.dumps(LINK)
    writer.write(f"{head}Content-Type: application/json\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode())
    async with asyncio.timeout(5):
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(body.encode())
        assert (await reader.read()).startswith(b"HTTP/1.1 201 ")
    writer.close()


async def test_too_many_bodies_at_once_are_put_off(
    noida_broker: str, topic_prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond the bound: 503 with `Retry-After`; webhooks have a bound of their own and are still taken."""
    size = len(json.dumps(LINK))
    monkeypatch.setattr("ingress.links_api.MAX_BYTES_IN_FLIGHT", size)
    async with taking_links(noida_broker, topic_prefix) as ingress:
        answer = await register(ingress, json.dumps(LINK).encode() + b" ")
        assert (answer.status, problem(answer), answer.headers["Retry-After"]) == (503, "busy", "10")
        assert (await ingress.post(f"/webhooks/kyb/{KYB_TOKEN}", b" " * 2 * size)).status == 200
        # What was answered is held no more, whatever the answer was.
        assert [(await register(ingress, body)).status for body in (LINK, {}, b"{", LINK)] == [201, 422, 400, 201]


async def test_without_kafka_nothing_is_claimed(topic_prefix: str) -> None:
    """503 with `Retry-After` when Kafka does not acknowledge; what is wrong with the request is told even then."""
    settings = settings_with_links(f"127.0.0.1:{free_port()}", topic_prefix, ack_timeout_seconds=0.3)
    async with running(settings, wait_ready=False) as ingress:
        answer = await register(ingress)
        assert (answer.status, problem(answer), answer.headers["Retry-After"]) == (503, "not-durable", "10")
        assert (await register(ingress, {})).status == 422
        assert await ingress.metric(REGISTRATIONS, tenant="acme", outcome="not_durable") == 1


async def test_it_waits_for_the_topic_of_links(noida_broker: str, topic_prefix: str) -> None:
    """Where links may be registered, the ingress is not ready while their topic is missing, and says what to do."""
    settings = settings_with_links(noida_broker, topic_prefix)
    await make_topics(settings.kafka)
    async with running(settings, wait_ready=False) as ingress:

        async def says_what_is_missing() -> bool:
            return b"links.v1: run kyb-stream migrate" in (await ingress.request("GET", "/readyz")).body

        await wait_until(says_what_is_missing, 10, "the missing topic is named")
        assert (await register(ingress)).status == 503


async def test_registering_again_is_safe(ingress: Ingress) -> None:
    """Each 201 is a link of its own; for the intake both say one and the same, so a client may repeat what had no answer."""
    assert [(await register(ingress)).status for _ in range(2)] == [201, 201]
    links = await links_of(ingress.settings)
    assert len({link.link_id for link in links}) == 2
    state = IntakeState()
    for link in links:
        state, _ = intake_link(state, link)
    assert registered_cases(state.claims) == ("company-42",)


async def test_each_outcome_is_counted(ingress: Ingress) -> None:
    """By tenant and outcome; the time to Kafka's acknowledgement is observed as for webhooks."""
    for body in (LINK, BY_NUMBER, {}):
        await register(ingress, body)
    await register(ingress, token=TOKENS["beta"])
    await ingress.request("GET", PATH)
    assert await ingress.metric(REGISTRATIONS, tenant="acme", outcome="registered") == 2
    assert await ingress.metric(REGISTRATIONS, tenant="beta", outcome="registered") == 1
    assert await ingress.metric(REGISTRATIONS, tenant="acme", outcome="invalid") == 1
    assert await ingress.metric(REGISTRATIONS, tenant="", outcome="method_not_allowed") == 1
    assert await ingress.metric("kyb_ingress_kafka_ack_seconds_count") == 3


async def test_logs_tell_the_link_and_not_the_person(
    noida_broker: str, topic_prefix: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """At DEBUG, through a 201, refusals and an unforeseen exception: no token, number or field of the sender's in any line."""
    configure_logging(debug=True, console=False)
    try:
        async with taking_links(noida_broker, topic_prefix) as ingress:
            registered = await register(ingress, BY_NUMBER)
            await register(ingress, LINK | {MARK: MARK})
            await register(ingress, token=MARK)

            def explode(*_: object, **__: object) -> None:
                raise RuntimeError(f"with {MARK} in its message")

            monkeypatch.setattr("ingress.links_api.make_link", explode)
            failed = await register(ingress, BY_NUMBER)
            assert (failed.status, problem(failed), failed.headers["Retry-After"]) == (503, "not-durable", "10")
            assert await ingress.metric("kyb_ingress_unexpected_errors_total") == 1
            shown = (await ingress.request("GET", "/metrics")).body.decode()
    finally:
        logging.getLogger().handlers.clear()
        logging.getLogger().setLevel(logging.WARNING)
        structlog.reset_defaults()
    lines = capsys.readouterr().err
    assert f'"link_id": "{json.loads(registered.body)["link_id"]}"' in lines
    assert '"event": "link_registration_failed"' in lines
    for hidden in (MARK, *TOKENS.values()):
        assert hidden not in lines
        assert hidden not in shown

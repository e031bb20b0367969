from __future__ import annotations

import asyncio
import gzip
import hashlib
import json
import zlib
from uuid import UUID

import brotli
import pytest
from multidict import CIMultiDict

from kybstream.privacy import Pseudonymiser
from schemas.codec import decode
from schemas.records import WebhookDelivery
from schemas.topics import RAW, keyless
from tests.ingress.harness import (
    KYB_TOKEN,
    KYC_TOKEN,
    Ingress,
    deliveries_of,
    make_topics,
    records_of,
    running,
    settings_for,
    source,
    zipped,
)
from tests.support.body_keys import in_clear
from tests.support.waiting import wait_until

KYB = f"/webhooks/kyb/{KYB_TOKEN}"
KYC = f"/webhooks/kyc/{KYC_TOKEN}"
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

HAZARDS = {
    "empty": b"",
    "not json": b"{service_id: 1}",
    "json, no object": b"[1, 2]",
    "no entity": b'{"type": "service_resolved"}',
    "nan": b'{"service_id": NaN}',
    "brackets": b"[" * 100_000,
    "braces": b'{"a":' * 100_000,
    "huge number": b'{"service_id": ' + b"9" * 10_000 + b"}",
    "huge exponent": b'{"service_id": 1e999999}',
    "lone surrogate escape": b'{"service_id": "\\ud800"}',
    "lone surrogate bytes": b'{"service_id": "\xed\xa0\x80"}',
    "invalid utf-8": b'{"service_id": "\xff\xfe"}',
    "nul bytes": bytes(64),
    "utf-16": '{"service_id": "x"}'.encode("utf-16"),
    "marker of keyless": b'{"service_id": "!abc"}',
}


async def test_200_means_the_record_is_in_the_topic_as_it_came(ingress: Ingress) -> None:
    """After 200 the raw topic holds the encrypted body byte for byte, entity key, delivery id, headers and trace context."""
    body = b'{ "service_id": "65fa-1",\n "status":"pending", "unknown": [1.0, "\xc3\xa9"] }'
    headers = {"Content-Type": "application/json; charset=utf-8", "traceparent": TRACEPARENT}
    answer = await ingress.post(f"{KYB}/c1.case.mac", body, headers)
    assert (answer.status, answer.body) == (200, b"ok")
    (record,) = await records_of(ingress.settings.kafka, ingress.settings.topic(RAW))
    delivery = in_clear(decode(record.value, WebhookDelivery), ingress.settings)
    assert delivery.body == body
    assert delivery.delivery_id == answer.headers["X-Delivery-Id"]
    assert UUID(delivery.delivery_id).version == 7
    assert record.key == b"acme/65fa-1"
    assert (delivery.entity_key, delivery.case_token) == ("acme/65fa-1", "c1.case.mac")
    assert (delivery.tenant, delivery.source, delivery.source_kind) == ("acme", "kyb", "kyb-service")
    assert (delivery.content_type, delivery.signature_scheme) == (headers["Content-Type"], "none")
    sent = dict(record.headers)
    assert sent["ce_id"].decode() == delivery.delivery_id
    assert sent["traceparent"].decode() == TRACEPARENT
    assert sent["content-type"] == b"application/avro"


async def test_a_kyc_callback_is_keyed_by_its_pseudonym(ingress: Ingress) -> None:
    """The Kafka key of a KYC callback holds no user number: a key cannot be erased."""
    await ingress.post(KYC, b'{"merchantNo": "m1", "subMerchantNo": "s1", "userNo": "0123456789abcdef"}')
    (record,) = await records_of(ingress.settings.kafka, ingress.settings.topic(RAW))
    assert record.key.decode() == "acme/" + Pseudonymiser(b"k" * 32).subject("m1", "s1", "0123456789abcdef")


async def test_malformed_bodies_are_taken_whole_and_without_an_entity(ingress: Ingress) -> None:
    """What cannot be read is authentic all the same: 200, kept byte for byte, keyed by its own id."""
    answers = {name: await ingress.post(KYB, body) for name, body in HAZARDS.items()}
    assert {name: answer.status for name, answer in answers.items()} == dict.fromkeys(HAZARDS, 200)
    deliveries = await deliveries_of(ingress.settings)
    keys = {record.key.decode() for record in await records_of(ingress.settings.kafka, ingress.settings.topic(RAW))}
    for name, answer in answers.items():
        delivery_id = answer.headers["X-Delivery-Id"]
        assert deliveries[delivery_id].body == HAZARDS[name], name
        assert deliveries[delivery_id].entity_key is None, name
        assert keyless("acme", delivery_id) in keys, name


@pytest.mark.parametrize(
    ("body", "entity"),
    [
        (b'\xef\xbb\xbf{"service_id": "bom"}', "bom"),
        (b'{"service_id": "first", "service_id": "last"}', "last"),
        (b'{"service_id": 12345678901234567890123}', "12345678901234567890123"),
        (b'{"service_id": "\\u0000/../"}', "\x00/../"),
    ],
    ids=["byte order mark", "duplicate keys", "beyond 64 bits", "nul and slashes"],
)
async def test_odd_but_readable_bodies_keep_their_entity(ingress: Ingress, body: bytes, entity: str) -> None:
    """Oddities that are JSON are read like the intake will read them."""
    answer = await ingress.post(KYB, body)
    delivery = (await deliveries_of(ingress.settings))[answer.headers["X-Delivery-Id"]]
    assert (delivery.body, delivery.entity_key) == (body, f"acme/{entity}")


async def test_wrong_token_and_unknown_source_are_answered_alike(ingress: Ingress) -> None:
    """Neither status, body nor headers tell whether a source exists; nothing is stored."""
    paths = [
        "/webhooks/kyb/" + "x" * 32,
        f"/webhooks/nobody/{KYB_TOKEN}",
        f"/webhooks/kyc/{KYB_TOKEN}",
        "/webhooks/kyb/%ff%00",
        f"/webhooks/kyb/{KYB_TOKEN}x/c1.a.b",
    ]
    answers = [await ingress.post(path) for path in paths]
    assert {answer.status for answer in answers} == {404}
    assert len({answer.body for answer in answers}) == 1
    assert len({tuple(sorted(set(answer.headers) - {"Date"})) for answer in answers}) == 1
    assert await deliveries_of(ingress.settings) == {}


@pytest.mark.parametrize("path", ["/", "/webhooks", "/webhooks/kyb", f"{KYB}/a/b", "//webhooks/kyb/x", "/webhooks//", "/x"])
async def test_other_paths_are_not_found(ingress: Ingress, path: str) -> None:
    """Nothing answers anywhere else."""
    assert (await ingress.post(path)).status == 404


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS"])
async def test_only_post_is_taken(ingress: Ingress, method: str) -> None:
    """Any other method is 405 with `Allow`, whether or not the token is right."""
    for path in (KYB, "/webhooks/nobody/x"):
        answer = await ingress.request(method, path)
        assert (answer.status, answer.headers["Allow"]) == (405, "POST")
    assert (await ingress.request("POST", "/readyz")).status == 405


async def test_a_peer_outside_allow_is_not_found(noida_broker: str, topic_prefix: str) -> None:
    """`allow` turns other peers away like a wrong token."""
    sources = [source("near", allow=["127.0.0.0/8"]), source("far", allow=["10.0.0.0/8", "2001:db8::/32"])]
    settings = settings_for(noida_broker, topic_prefix, sources)
    await make_topics(settings.kafka)
    async with running(settings) as ingress:
        assert (await ingress.post(f"/webhooks/near/{KYB_TOKEN}")).status == 200
        assert (await ingress.post(f"/webhooks/far/{KYB_TOKEN}")).status == 404


async def test_bodies_are_capped_while_they_are_read(noida_broker: str, topic_prefix: str) -> None:
    """The cap holds for a declared length, for chunks of no declared length, and for what comes out of gzip."""
    settings = settings_for(noida_broker, topic_prefix, [source(max_body_bytes=10_000)])
    await make_topics(settings.kafka)
    async with running(settings) as ingress:
        assert (await ingress.post(KYB, b"x" * 10_000)).status == 200
        assert (await ingress.post(KYB, b"x" * 10_001)).status == 413
        reader, writer = await asyncio.open_connection(*ingress.address)
        writer.write(f"POST {KYB} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n".encode())
        await wait_until(lambda: _in_flight(ingress, 1), 5, "the first chunk is read")
        writer.write(b"2710\r\n" + b"x" * 10_000 + b"\r\n")  # and no end of it
        assert (await reader.readline()).startswith(b"HTTP/1.1 413 ")
        writer.close()
        packed = zipped(b"y" * 10_000)
        assert (await ingress.post(KYB, packed, {"Content-Encoding": "gzip"})).status == 200
        bomb = zipped(bytes(8 * 1024 * 1024))
        assert len(bomb) < 10_000
        assert (await ingress.post(KYB, bomb, {"Content-Encoding": "gzip"})).status == 413
        assert (await ingress.post(KYB, zlib.compress(bytes(10_001)), {"Content-Encoding": "deflate"})).status == 413
        assert await ingress.metric("kyb_ingress_bytes_in_flight") == 0


@pytest.mark.parametrize(
    ("encoding", "sent", "kept", "left"),
    [
        (["gzip"], gzip.compress(b'{"a":1}'), b'{"a":1}', None),
        (["gzip"], gzip.compress(b'{"a"') + gzip.compress(b":1}"), b'{"a":1}', None),
        (["deflate"], zlib.compress(b'{"a":1}'), b'{"a":1}', None),
        (["deflate"], zlib.compress(b'{"a":1}')[2:-4], b'{"a":1}', None),
        (["identity"], b'{"a":1}', b'{"a":1}', None),
        (["gzip, identity"], gzip.compress(b'{"a":1}'), b'{"a":1}', None),
        (["gzip", "br"], brotli.compress(gzip.compress(b'{"a":1}')), b'{"a":1}', None),
        (["gzip"], b"no gzip", b"no gzip", "gzip"),
        (["gzip"], gzip.compress(b'{"a":1}')[:-3], gzip.compress(b'{"a":1}')[:-3], "gzip"),
        (["gzip", "secret"], b"\x0b\x03", b"\x0b\x03", "gzip,secret"),
        (["identity"] * 60 + ["gzip"], gzip.compress(b'{"a":1}'), b'{"a":1}', None),
        (["identity"] * 60 + ["GZIP", "Identity"], b"no gzip", b"no gzip", "GZIP"),
    ],
    ids=[
        *("gzip", "two members", "deflate", "raw deflate", "identity", "and identity", "two lines", "broken", "cut", "unknown"),
        *("behind many that are none", "broken behind many"),
    ],
)
async def test_encoded_bodies_are_kept_without_their_codings_or_else_as_sent(
    ingress: Ingress, encoding: list[str], sent: bytes, kept: bytes, left: str | None
) -> None:
    """What can be undone is; what cannot be is kept as it is, with its coding, since it may be the only delivery."""
    answer = await ingress.post(KYB, sent, CIMultiDict([("Content-Encoding", each) for each in encoding]))
    assert answer.status == 200
    delivery = (await deliveries_of(ingress.settings))[answer.headers["X-Delivery-Id"]]
    assert (delivery.body, delivery.content_encoding) == (kept, left)


async def test_a_form_is_read_as_its_source_says(noida_broker: str, topic_prefix: str) -> None:
    """The entity is found in the field, the body is kept as it came, and the record says how to read it."""
    settings = settings_for(noida_broker, topic_prefix)
    settings = settings.model_copy(
        update={"sources": tuple(each.model_copy(update={"body_format": "form:data"}) for each in settings.sources)}
    )
    await make_topics(settings.kafka)
    async with running(settings) as ingress:
        body = b"data=%7B%22service_id%22%3A+%22667a%22%7D&other=1"
        answer = await ingress.post(KYB, body, {"Content-Type": "application/x-www-form-urlencoded"})
        delivery = (await deliveries_of(settings))[answer.headers["X-Delivery-Id"]]
        assert (delivery.entity_key, delivery.body, delivery.body_format) == ("acme/667a", body, "form:data")


async def test_a_slow_body_is_given_up(noida_broker: str, topic_prefix: str) -> None:
    """A body that does not come in time is 408, and the connection ends."""
    settings = settings_for(noida_broker, topic_prefix, body_timeout_seconds=0.2)
    await make_topics(settings.kafka)
    async with running(settings) as ingress:
        answer = await ingress.raw(f"POST {KYB} HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n1234".encode())
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert await ingress.metric("kyb_ingress_requests_total", source="kyb", outcome="slow_body") == 1
        assert await ingress.metric("kyb_ingress_bytes_in_flight") == 0


async def test_a_sender_that_hangs_up_leaves_nothing_behind(ingress: Ingress) -> None:
    """A connection that ends in the middle of a body is counted, and its bytes are not held any more."""
    _, writer = await asyncio.open_connection(*ingress.address)
    writer.write(f"POST {KYB} HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\n1234".encode())
    await writer.drain()
    await wait_until(lambda: _in_flight(ingress, 4), 5, "the bytes are counted")
    writer.close()
    await wait_until(lambda: _in_flight(ingress, 0), 5, "the bytes are given back")
    assert await ingress.metric("kyb_ingress_requests_total", source="kyb", outcome="broken_body") == 1
    assert await deliveries_of(ingress.settings) == {}


async def _in_flight(ingress: Ingress, expected: float) -> bool:
    return await ingress.metric("kyb_ingress_bytes_in_flight") == expected


async def test_100_continue_comes_only_for_who_may_send(ingress: Ingress) -> None:
    """`Expect: 100-continue` is answered before the body is sent: 100 with the right token, 404 with a wrong one."""
    head = "HTTP/1.1\r\nHost: x\r\nConnection: close\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n"
    welcome = await ingress.raw(f"POST {KYB} {head}{{}}".encode())
    assert welcome.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK")
    unwelcome = await ingress.raw(f"POST /webhooks/kyb/wrong {head}{{}}".encode())
    assert unwelcome.startswith(b"HTTP/1.1 404 ")


async def test_errors_are_problem_details_without_an_echo(ingress: Ingress) -> None:
    """An error is RFC 9457 JSON with type, title and status, and holds nothing of the request; no version is told."""
    answer = await ingress.post("/webhooks/kyb/wrong-token", b'{"userNo": "echo-me"}')
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.headers["Server"] == "kyb-stream"
    assert json.loads(answer.body).keys() == {"type", "title", "status"}
    for request in (b"GARBAGE echo-me\r\n\r\n", b"POST / HTTP/1.1\r\necho-me\r\n\r\n", b"POST /echo-me HTTP/9\r\n\r\n"):
        raw = await ingress.raw(request)
        assert raw.startswith((b"HTTP/1.0 400 ", b"HTTP/1.1 400 "))
        assert b"application/problem+json" in raw
        assert b"echo-me" not in raw
        assert b"aiohttp" not in raw


async def test_large_bodies_survive_the_way(ingress: Ingress) -> None:
    """A body near the default cap arrives whole."""
    body = b'{"service_id": "big", "x": "' + b"0123456789" * 100_000 + b'"}'
    answer = await ingress.post(KYB, body)
    delivery = (await deliveries_of(ingress.settings))[answer.headers["X-Delivery-Id"]]
    assert hashlib.sha256(delivery.body).digest() == hashlib.sha256(body).digest()

"""Addresses: a slash at the end changes nothing, and what is sent elsewhere is counted."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time

import pytest
from structlog.testing import capture_logs

from schemas.records import Rejection
from schemas.topics import REJECTIONS
from tests.ingress.harness import (
    KYB_TOKEN,
    KYC_TOKEN,
    SECRET,
    Ingress,
    decoded,
    deliveries_of,
    make_topics,
    running,
    settings_for,
    source,
)
from tests.ingress.registering import LINK, TOKENS, taking_links

WITH_SLASH = [
    f"/webhooks/kyb/{KYB_TOKEN}/",
    f"/webhooks/kyc/{KYC_TOKEN}/",
    f"/webhooks/kyc/{KYC_TOKEN}/c1.x.y/",
    f"/webhooks/kyb/{KYB_TOKEN}/?a=/",
]


@pytest.mark.parametrize("path", WITH_SLASH)
async def test_a_slash_at_the_end_changes_nothing(ingress: Ingress, path: str) -> None:
    """The delivery is stored as without it, with the same case token."""
    ids = [(await ingress.post(each)).headers["X-Delivery-Id"] for each in (path, path.partition("?")[0].rstrip("/"))]
    stored = await deliveries_of(ingress.settings)
    assert stored[ids[0]].case_token == stored[ids[1]].case_token


async def test_a_slash_at_the_end_of_other_addresses_changes_nothing(ingress: Ingress) -> None:
    """Probes, metrics, the description; and 405 stays 405."""
    for page in ("/healthz/", "/readyz/", "/metrics/", "/openapi.json/"):
        assert (await ingress.request("GET", page)).status == 200
    assert (await ingress.request("GET", WITH_SLASH[0])).status == 405


ELSEWHERE = [
    "/",
    f"//webhooks/kyb/{KYB_TOKEN}",
    f"/hooks/webhooks/kyb/{KYB_TOKEN}",
    f"/webhooks/kyb/{KYB_TOKEN}/a/b",
    f"/Webhooks/kyb/{KYB_TOKEN}",
    f"/webhook/kyb/{KYB_TOKEN}/",
    "/webhooks/kyb",
    "/api/v1/links",
]


async def test_what_is_sent_elsewhere_is_counted(noida_broker: str, topic_prefix: str) -> None:
    """404, one count for all of them in metric and topic, and the token that the path may hold is nowhere."""
    settings = settings_for(noida_broker, topic_prefix)
    await make_topics(settings.kafka)
    with capture_logs() as logs:
        async with running(settings) as ingress:
            for path in ELSEWHERE:
                assert (await ingress.post(path)).status == 404
            outcome = await ingress.metric("kyb_ingress_requests_total", source="unknown", outcome="unknown_path")
            assert outcome == len(ELSEWHERE)
            assert KYB_TOKEN not in (await ingress.request("GET", "/metrics")).body.decode()
    records = await decoded(settings, REJECTIONS, Rejection)
    assert {(record.source, record.reason) for record in records if isinstance(record, Rejection)} == {
        ("unknown", "unknown_path")
    }
    assert sum(record.count for record in records if isinstance(record, Rejection)) == len(ELSEWHERE)
    assert KYB_TOKEN not in repr(logs) + repr(records)


async def test_a_signed_path_is_taken_as_it_was_sent(noida_broker: str, topic_prefix: str) -> None:
    """Who signs the slash sends it: one that was added or taken off on the way makes a bad signature."""
    signed = source("signed", signature={"scheme": "alchemy-raw", "secrets": [SECRET]})
    settings = settings_for(noida_broker, topic_prefix, [signed])
    await make_topics(settings.kafka)
    path = f"/webhooks/signed/{KYB_TOKEN}"
    statuses = {}
    async with running(settings) as ingress:
        for signed_path in (path, path + "/"):
            timestamp = str(int(time.time() * 1000))
            mac = hmac.digest(SECRET.encode(), f"{timestamp}POST{signed_path}{{}}".encode(), hashlib.sha256)
            headers = {"ach-access-timestamp": timestamp, "ach-access-sign": base64.b64encode(mac).decode()}
            for sent in (path, path + "/"):
                statuses[signed_path == path, sent == path] = (await ingress.post(sent, b"{}", headers)).status
    assert statuses == {(True, True): 200, (False, False): 200, (True, False): 401, (False, True): 401}


async def test_a_link_is_registered_with_a_slash_at_the_end(noida_broker: str, topic_prefix: str) -> None:
    """As without it."""
    async with taking_links(noida_broker, topic_prefix) as ingress:
        headers = {"Authorization": f"Bearer {TOKENS['acme']}", "Content-Type": "application/json"}
        assert (await ingress.post("/api/v1/links/", json.dumps(LINK).encode(), headers)).status == 201

"""Who may register links: a tenant's token decides, and nothing else."""

from __future__ import annotations

import hmac
import json

import pytest

from ingress.links_api import MAX_BODY_BYTES
from kybstream.errors import ConfigurationError
from kybstream.privacy import Pseudonymiser
from schemas.topics import LINKS
from tests.ingress.harness import KYB_TOKEN, Ingress, make_topics, records_of, running
from tests.ingress.registering import (
    LINK,
    PATH,
    PSEUDONYM_KEYS,
    REGISTRATIONS,
    TOKENS,
    links_of,
    problem,
    register,
    settings_with_links,
)


async def test_the_token_decides_the_tenant(ingress: Ingress) -> None:
    """Each tenant's token registers for that tenant, under its own pseudonym key."""
    for tenant, token in TOKENS.items():
        answer = await register(ingress, {"case_id": "c", "user_no": "u"}, token=token)
        expected = Pseudonymiser(PSEUDONYM_KEYS[tenant]).subject("", "", "u")
        assert (json.loads(answer.body)["tenant"], json.loads(answer.body)["subject"]) == (tenant, expected)
    records = await records_of(ingress.settings.kafka, ingress.settings.topic(LINKS))
    assert {record.key.decode().partition("/")[0] for record in records} == {"acme", "beta"}


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        "Bearer wrong-token-of-twenty-two-characters",
        f"Bearer {TOKENS['acme']}x",
        f"Bearer {TOKENS['acme'][:-1]}",
        f"Bearer {KYB_TOKEN}",
        f"Basic {TOKENS['acme']}",
        TOKENS["acme"],
        "Bearer \udcff\udcfe",
    ],
)
async def test_without_a_tenants_token_nothing_is_looked_at(ingress: Ingress, authorization: str | None) -> None:
    """401 alike for every wrong or missing token, whatever else the request is; nothing is stored."""
    given = {} if authorization is None else {"Authorization": authorization}
    bodies = {"application/json": json.dumps(LINK).encode(), "text/plain": b"x" * (MAX_BODY_BYTES + 1)}
    answers = [await ingress.post(PATH, body, {"Content-Type": kind, **given}) for kind, body in bodies.items()]
    assert [(answer.status, problem(answer), answer.headers["WWW-Authenticate"]) for answer in answers] == [
        (401, "unauthorized", "Bearer")
    ] * 2
    assert answers[0].body == answers[1].body
    assert await ingress.metric(REGISTRATIONS, tenant="", outcome="unauthorized") == 2
    assert await links_of(ingress.settings) == []


async def test_two_authorization_headers_are_nobodys(ingress: Ingress) -> None:
    """A proxy may look at one and we at the other: neither counts."""
    head = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: 2\r\n"
    both = f"Authorization: Bearer {TOKENS['acme']}\r\nAuthorization: Bearer {TOKENS['beta']}\r\n\r\n{{}}"
    assert (await ingress.raw((head + both).encode())).startswith(b"HTTP/1.1 401 ")


async def test_a_token_is_compared_with_all_in_constant_time(ingress: Ingress, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever is right, or none: as many comparisons, of equal lengths, by the constant-time function."""
    compared: list[tuple[int, int]] = []
    compare = hmac.compare_digest

    def counting(left: bytes, right: bytes) -> bool:
        compared.append((len(left), len(right)))
        return compare(left, right)

    monkeypatch.setattr("ingress.links_api.hmac.compare_digest", counting)
    for token in (*TOKENS.values(), "nobody's", ""):
        compared.clear()
        await register(ingress, token=token)
        assert compared == [(32, 32)] * len(TOKENS), token


async def test_where_no_tenant_has_a_token_there_is_no_such_address(noida_broker: str, topic_prefix: str) -> None:
    """Every method is answered like an address that nobody has heard of, and the topic of links need not be there."""
    settings = settings_with_links(noida_broker, topic_prefix, tokens={})
    await make_topics(settings.kafka)
    async with running(settings) as ingress:
        for method in ("POST", "GET", "PUT"):
            answer, other = [await ingress.request(method, path, b"{}") for path in (PATH, "/api/v1/other")]
            assert (answer.status, answer.body) == (other.status, other.body)
            assert answer.headers.keys() == other.headers.keys()
            assert problem(answer) == "not-found"


async def test_two_tenants_with_one_token_are_refused_at_the_start(topic_prefix: str) -> None:
    """The token could not decide; the error names the tenants and not the token."""
    settings = settings_with_links("127.0.0.1:1", topic_prefix, tokens=dict.fromkeys(TOKENS, TOKENS["acme"]))
    with pytest.raises(ConfigurationError, match=r"acme.*beta") as caught:
        async with running(settings, wait_ready=False):
            pass
    assert TOKENS["acme"] not in str(caught.value)

"""An ingress at which links can be registered, for tests."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from kybstream.kafka import ensure_topics
from kybstream.settings import KafkaSettings, Settings
from schemas.codec import decode
from schemas.records import Link
from schemas.topics import LINKS
from tests.ingress.harness import PARTITIONS, Answer, Ingress, make_topics, records_of, running, settings_for
from tests.support.body_keys import ENCRYPTION

PATH = "/api/v1/links"
TOKENS = {"acme": "links-token-of-acme-0123456789", "beta": "links-token-of-beta-0123456789"}
PSEUDONYM_KEYS = {"acme": b"k" * 32, "beta": b"b" * 32}
SUBJECT = "v1.p6qucw4lkwxuphktcvqsebnxkq"

LINK = {"case_id": "company-42", "subject": SUBJECT, "expected_subjects": 2}

REGISTRATIONS = "kyb_ingress_link_registrations_total"


def settings_with_links(bootstrap: str, prefix: str, tokens: Mapping[str, str] = TOKENS, **ingress: Any) -> Settings:
    """Settings of an ingress with the tenants acme, beta and gamma, of whom those in `tokens` may register links."""
    settings = settings_for(bootstrap, prefix, **ingress).model_dump() | {"encryption": ENCRYPTION}
    settings["tenants"] = [
        {"name": name, "pseudonym_key": key.decode(), "case_token_keys": ["c" * 32], "links_token": tokens.get(name)}
        for name, key in {**PSEUDONYM_KEYS, "gamma": b"g" * 32}.items()
    ]
    return Settings.model_validate(settings)


async def make_links_topic(kafka: KafkaSettings) -> None:
    """Makes the topic of links beside those that every ingress needs."""
    await make_topics(kafka)
    await ensure_topics(kafka, {kafka.topic_prefix + LINKS: {"cleanup.policy": "compact"}}, partitions=PARTITIONS)


@asynccontextmanager
async def taking_links(bootstrap: str, prefix: str, **ingress: Any) -> AsyncIterator[Ingress]:
    """A running ingress with its topics, at which acme and beta may register links."""
    settings = settings_with_links(bootstrap, prefix, **ingress)
    await make_links_topic(settings.kafka)
    async with running(settings) as started:
        yield started


async def register(
    ingress: Ingress, body: object = LINK, *, token: str = TOKENS["acme"], headers: Mapping[str, str] | None = None
) -> Answer:
    """One registration; `body` is sent as JSON unless it is bytes."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    given = {"Authorization": f"Bearer {token}", "Content-Type": "application/json", **(headers or {})}
    return await ingress.post(PATH, content, given)


async def links_of(settings: Settings) -> list[Link]:
    """Every link in the topic."""
    return [decode(record.value, Link) for record in await records_of(settings.kafka, settings.topic(LINKS))]


def problem(answer: Answer) -> str:
    """The last part of a problem's type."""
    assert answer.headers["Content-Type"] == "application/problem+json"
    return str(json.loads(answer.body)["type"]).removeprefix("urn:kyb-stream:problem:")

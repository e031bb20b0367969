"""Fixtures of the ingress' tests."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from tests.ingress.harness import Ingress, make_topics, running, settings_for


@pytest_asyncio.fixture
async def ingress(noida_broker: str, topic_prefix: str) -> AsyncIterator[Ingress]:
    """An ingress with a KYB and a KYC source, without signatures, that is ready."""
    settings = settings_for(noida_broker, topic_prefix)
    await make_topics(settings.kafka)
    async with running(settings) as started:
        yield started

"""An ingress at which links can be registered."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from tests.ingress.harness import Ingress
from tests.ingress.registering import (
    taking_links,
)


@pytest_asyncio.fixture
async def ingress(noida_broker: str, topic_prefix: str) -> AsyncIterator[Ingress]:
    """An ingress at which acme and beta may register links, and gamma may not."""
    async with taking_links(noida_broker, topic_prefix) as started:
        yield started

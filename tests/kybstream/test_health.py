from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import aiohttp
import msgspec
import pytest
import pytest_asyncio

from kybstream.errors import RunError
from kybstream.health import HealthPages, serve_health


@dataclass
class Component:
    """Something whose health is shown: what it says is set by hand."""

    alive: str | None = None
    ready: str | None = None
    url: str = ""
    http: aiohttp.ClientSession = field(init=False)

    async def ask(self, path: str, method: str = "GET") -> tuple[int, str, str]:
        """Status, content type and body of a page."""
        async with self.http.request(method, self.url + path) as answer:
            return answer.status, answer.headers["Content-Type"], await answer.text()


@pytest_asyncio.fixture
async def component() -> AsyncIterator[Component]:
    """A component whose pages are served."""
    made = Component()
    pages = HealthPages(lambda: made.alive, lambda: made.ready, lambda: b"some_metric 1\n")
    async with serve_health(pages, "worker", "127.0.0.1", 0) as port, aiohttp.ClientSession() as made.http:
        made.url = f"http://127.0.0.1:{port}"
        yield made


async def test_a_component_that_is_well_says_so(component: Component) -> None:
    """The same short words as the ingress."""
    assert await component.ask("/healthz") == (200, "text/plain; charset=utf-8", "ok")
    assert await component.ask("/readyz") == (200, "text/plain; charset=utf-8", "ready")
    status, content_type, text = await component.ask("/metrics")
    assert (status, text) == (200, "some_metric 1\n")
    assert content_type.startswith("text/plain; version=0.0.4")
    assert await component.ask("/healthz", "HEAD") == (200, "text/plain; charset=utf-8", "")


async def test_trouble_is_a_503_with_its_reason(component: Component) -> None:
    """As problem details; alive and ready are apart."""
    component.alive = "nothing was committed"
    status, content_type, text = await component.ask("/healthz")
    assert (status, content_type) == (503, "application/problem+json")
    problem = msgspec.json.decode(text, type=dict[str, object])
    assert (problem["type"], problem["reason"]) == ("urn:kyb-stream:problem:stalled", "nothing was committed")
    assert (await component.ask("/readyz"))[0] == 200
    component.alive, component.ready = None, "recovering"
    assert (await component.ask("/healthz"))[0] == 200
    status, _, text = await component.ask("/readyz")
    problem = msgspec.json.decode(text, type=dict[str, object])
    assert (status, problem["type"], problem["reason"]) == (503, "urn:kyb-stream:problem:not-ready", "recovering")


async def test_nothing_else_is_there(component: Component) -> None:
    """No other address, and no other method; nothing of the request is repeated."""
    status, content_type, text = await component.ask("/secret-path")
    assert (status, content_type) == (404, "application/problem+json")
    assert "secret-path" not in text
    assert (await component.ask("/metrics", "POST"))[0] == 405


async def test_without_a_port_there_is_no_server() -> None:
    """The setting is optional."""
    pages = HealthPages(lambda: None, lambda: None, lambda: b"")
    async with serve_health(pages, "worker", "127.0.0.1", None) as port:
        assert port is None


async def test_a_port_in_use_names_the_setting(component: Component) -> None:
    """Two workers on one machine need two ports."""
    pages = HealthPages(lambda: None, lambda: None, lambda: b"")
    port = int(component.url.rpartition(":")[2])
    with pytest.raises(RunError, match=f"port {port} for the health pages of the worker is in use") as refused:
        async with serve_health(pages, "worker", "127.0.0.1", port):
            pass
    assert "worker.health_port" in (refused.value.hint or "")
    with pytest.raises(RunError, match="cannot listen on"):
        async with serve_health(pages, "worker", "no.such.host.invalid", 0):
            pass

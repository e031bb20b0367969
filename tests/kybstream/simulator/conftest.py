"""What the simulator's tests plan with, and a small receiver they play to."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from kybstream.privacy import Pseudonymiser
from kybstream.simulator import Plan, SimulationConfig, Target, plan

DROP = 0

CONFIG = SimulationConfig(
    case_token_key=b"a case token key for tests",
    pseudonymiser=Pseudonymiser(b"a pseudonym key for tests"),
    started_at=1_767_225_600,
)


@pytest.fixture(scope="session")
def config() -> SimulationConfig:
    """The default simulation under test keys."""
    return CONFIG


@pytest.fixture(scope="session")
def default_plan() -> Plan:
    """The plan of the default simulation."""
    return plan(CONFIG)


@pytest.fixture(scope="session")
def small_plan() -> Plan:
    """Few cases in little time, without links: a month in 0.3 s."""
    return plan(replace(CONFIG, cases=12, registered_links=False, scale_seconds_per_day=0.01))


@dataclass
class Receiver:
    """A webhook receiver that notes what comes and answers as it is told.

    `answer` is given how often this very request (path and body) came before, and says the status,
    or `DROP` to take the request and break the connection instead of answering.
    """

    server: TestServer
    answer: Callable[[int], int] = lambda _before: 200
    requests: list[tuple[str, bytes]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    taken: list[tuple[str, bytes]] = field(default_factory=list)
    _seen: Counter[tuple[str, bytes]] = field(default_factory=Counter)

    def target(self) -> Target:
        """Where to play to."""
        base = str(self.server.make_url("/webhooks"))
        return Target(kyb_url=f"{base}/kyb/secret-kyb-token", kyc_url=f"{base}/kyc/secret-kyc-token")

    async def handle(self, request: web.Request) -> web.Response:
        """Takes one delivery."""
        key = (request.path, await request.read())
        before = self._seen[key]
        self._seen[key] += 1
        self.requests.append(key)
        self.headers.append(dict(request.headers))
        status = self.answer(before)
        if status in {200, DROP}:
            self.taken.append(key)
        if status == DROP:
            assert request.transport is not None
            request.transport.abort()
        if status in {200, DROP}:
            return web.Response(text="ok", headers={"X-Delivery-Id": f"delivery-{len(self.taken)}"})
        return web.Response(status=status)


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    """A receiver on a free port of the loopback."""
    app = web.Application()
    server = TestServer(app)
    receiver = Receiver(server)
    app.router.add_post("/{tail:.*}", receiver.handle)
    await server.start_server()
    yield receiver
    await server.close()

"""Taking a port, alone or with others."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import sys
from collections.abc import Iterator, Sequence

import pytest
import structlog
from aiohttp import web

from ingress import sockets
from ingress.accepting import Reception
from ingress.http_server import HttpServer
from ingress.metrics import IngressMetrics
from ingress.sockets import Door, close, port_of, take_port, turn_away, url_of
from kybstream.errors import RunError

HOSTS = ("127.0.0.1", "::1")


@pytest.fixture
def taken() -> Iterator[list[Door]]:
    """Doors that are closed at the end."""
    doors: list[Door] = []
    yield doors
    close(doors)


def accepted(doors: Sequence[Door]) -> list[int]:
    """How many connections wait at each door."""
    counts = []
    for door in doors:
        waiting = 0
        for each in door:
            while True:
                try:
                    each.accept()[0].close()
                except BlockingIOError:
                    break
                waiting += 1
        counts.append(waiting)
    return counts


@pytest.mark.parametrize("host", HOSTS)
def test_doors_of_one_port_share_what_comes(taken: list[Door], host: str) -> None:
    """Port 0 picks one port for all of them, and Linux spreads connections over them."""
    taken += take_port(host, 0, processes=3)
    assert len({port_of(door) for door in taken}) == 1
    clients = [socket.create_connection((host, port_of(taken[0])), 5) for _ in range(60)]
    counts = accepted(taken)
    for client in clients:
        client.close()
    assert sum(counts) == 60
    assert min(counts) > 0


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize(("first", "second"), [(1, 1), (1, 2), (2, 1), (2, 2)])
def test_a_port_that_is_not_to_be_shared_is_taken_once(taken: list[Door], host: str, first: int, second: int) -> None:
    """Whatever the number of workers, of either, the second one gets the clear error."""
    taken += take_port(host, 0, processes=first)
    with pytest.raises(RunError, match=f"port {port_of(taken[0])} for the ingress is in use on {host}"):
        take_port(host, port_of(taken[0]), processes=second)


def test_both_must_want_to_share_a_port(taken: list[Door]) -> None:
    """Two that join share it; one that does not say so gets the error, first or second."""
    taken += take_port("127.0.0.1", 0, join=True)
    port = port_of(taken[0])
    with pytest.raises(RunError, match="in use"):
        take_port("127.0.0.1", port)
    taken += take_port("127.0.0.1", port, join=True, processes=2)
    taken += take_port("127.0.0.1", 0)
    with pytest.raises(RunError, match="in use"):
        take_port("127.0.0.1", port_of(taken[-1]), join=True)


@pytest.mark.parametrize("host", HOSTS)
async def test_who_leaves_a_shared_port_sends_new_peers_to_the_others(taken: list[Door], host: str) -> None:
    """No connection begins at a door that turns them away; each that tries is at the other one once the first is closed."""
    leaving, staying = take_port(host, 0, processes=2)
    taken += [leaving, staying]
    address = (host, port_of(staying))
    early = [socket.create_connection(address, 5) for _ in range(20)]
    before = accepted([leaving, staying])
    assert min(before) > 0
    loop = asyncio.get_running_loop()
    clients = [socket.socket(leaving[0].family) for _ in range(30)]
    try:
        if not turn_away(leaving):
            pytest.skip("this kernel hands connections over by itself, or wants rights for the filter")
        for client in clients:
            client.settimeout(0)
        async with asyncio.timeout(20):
            connecting = [asyncio.create_task(loop.sock_connect(client, address)) for client in clients]
            await asyncio.wait(connecting, timeout=0.2)
            assert 0 < sum(task.done() for task in connecting) < 30
            assert accepted([leaving]) == [0]
            close([leaving])
            await asyncio.gather(*connecting)
        assert accepted([staying]) == [30]
    finally:
        for client in (*early, *clients):
            client.close()


class _Refused:
    """A listening socket of a process without the rights for a filter."""

    def setsockopt(self, *_args: object) -> None:
        """As Linux does."""
        raise PermissionError(errno.EPERM, "not permitted")


def test_a_filter_that_linux_refuses_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is nothing to wait for then, and the log says what may happen and what to do."""
    monkeypatch.setattr(sockets, "_migrates", lambda: False)
    monkeypatch.setattr(sys, "platform", "linux")
    with structlog.testing.capture_logs() as logs:
        assert not turn_away((_Refused(),))  # type: ignore[arg-type]
    assert [(line["event"], line["log_level"], line["reason"]) for line in logs] == [
        ("syn_filter_refused", "warning", os.strerror(errno.EPERM))
    ]
    assert "tcp_migrate_req" in logs[0]["hint"]


async def test_who_waits_at_a_door_that_closes_is_let_in(taken: list[Door]) -> None:
    """Connections that nobody has accepted yet when a process leaves the port are answered by it, not reset."""

    async def answer(_request: web.BaseRequest) -> web.Response:
        return web.Response(body=b"heard")

    taken += take_port("127.0.0.1", 0)
    server = HttpServer(answer, on_bad_http=lambda _reason: None, metrics=IngressMetrics())
    reception = Reception(server, taken)
    await reception.open()
    clients = [socket.create_connection(("127.0.0.1", port_of(taken[0])), 5) for _ in range(20)]
    for client in clients:
        client.sendall(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n")
        client.settimeout(0)
    await reception.leave(shared=False)
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(20):
        for client in clients:
            assert (await loop.sock_recv(client, 100)).startswith(b"HTTP/1.1 200")
            client.close()
    server.pre_shutdown()
    await server.shutdown(1)


def test_a_name_is_listened_on_at_all_its_addresses(taken: list[Door]) -> None:
    """`localhost` has one or two, all with the same port."""
    taken += take_port("localhost", 0)
    assert {each.getsockname()[1] for each in taken[0]} == {port_of(taken[0])}
    for each in taken[0]:
        socket.create_connection(each.getsockname()[:2], 5).close()


def test_an_unknown_host_is_a_clear_error() -> None:
    """It names host and port."""
    with pytest.raises(RunError, match="cannot listen on no-such-host"):
        take_port("no-such-host.invalid", 8080)


def test_a_url_has_brackets_around_an_ipv6_address(taken: list[Door]) -> None:
    """As RFC 3986 asks."""
    taken += take_port("::1", 0)
    assert url_of("::1", taken[0]) == f"http://[::1]:{port_of(taken[0])}"

"""TCP ports: a free one to listen on, and one clear sentence when the wanted one is taken."""

from __future__ import annotations

import errno
import os
import random
import socket

import psutil

from kybstream.errors import RunError

# Below the ports the kernel hands to outgoing connections (Linux from 32768, macOS from 49152). A client that tries and
# tries to reach a broker that is down would otherwise be given the broker's own port sooner or later, connect to itself,
# and keep the broker from coming back.
_FIRST, _LAST = 20_000, 31_999
_ATTEMPTS = 200

_given: set[int] = set()
"""By this process: who asks for two ports and listens afterwards must not get one twice."""


def free_port(host: str = "127.0.0.1") -> int:
    """A port of `host` that nobody listens on now and that the kernel gives to no outgoing connection.

    Never the same one twice in a process. Nothing reserves it: another process can take it before you do.

    Raises:
        RunError: No free port was found.
    """
    for _ in range(_ATTEMPTS):
        port = random.randint(_FIRST, _LAST)  # noqa: S311 - spreads parallel runs, protects nothing
        if port not in _given and _bind_error(host, port) is None:
            _given.add(port)
            return port
    raise RunError(f"no free port between {_FIRST} and {_LAST} on {host}")


def require_free_port(host: str, port: int, purpose: str) -> None:
    """Returns if `port` of `host` can be listened on; `purpose` names who wants it, as in "the broker".

    Raises:
        RunError: It cannot; the message names port and purpose, and the process that has it where the system tells.
    """
    error = _bind_error(host, port)
    if error is None:
        return
    if error.errno == errno.EADDRINUSE:
        raise RunError(f"port {port} for {purpose} is in use{_listener(port)}", hint="choose another port, or end that process")
    raise RunError(f"cannot listen on {host}:{port} for {purpose}: {os.strerror(error.errno or 0)}")


def _bind_error(host: str, port: int) -> OSError | None:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except socket.gaierror as error:
        return OSError(errno.EADDRNOTAVAIL, str(error))
    with socket.socket(family, kind, protocol) as listener:
        # Servers set it too: connections of a server that has just ended (TIME_WAIT) are no obstacle.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(address)
            listener.listen(1)
        except OSError as error:
            return error
    return None


def _listener(port: int) -> str:
    try:
        connections = psutil.net_connections(kind="tcp")
    except (psutil.Error, OSError):  # macOS shows them to root only
        return ""
    for connection in connections:
        listens = connection.status == psutil.CONN_LISTEN and connection.laddr and connection.laddr.port == port
        if listens and connection.pid:
            return f" by process {connection.pid}"
    return ""

"""The port: taking it, alone or together with other processes, and leaving it without resetting anybody's connection.

Processes share a port by SO_REUSEPORT: each has a listening socket of its own, and Linux spreads new connections over them.
When such a socket is closed, Linux resets the connections that wait in its queue, and those whose handshake is under way.
Measured on loopback, 8 restarts under load: 111 of 30,000 connections were reset by a plain close, one when the queue was
emptied first, none with `turn_away` before that, and none by a plain close with `net.ipv4.tcp_migrate_req = 1`.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import struct
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import structlog

from kybstream.errors import RunError, UsageError

BACKLOG = 1024

_log = structlog.get_logger(__name__)

Door = tuple[socket.socket, ...]
"""The listening sockets of one process: one for each address of the host, all of one port."""

_Address = tuple[int, str | int, tuple[str | int | bytes, ...]]
_SO_ATTACH_FILTER = 26  # Linux; Python has no name for it
# A classic BPF program. A packet begins with its TCP header: byte 13 holds the flags, 2 of them is SYN.
_NO_SYN = ((0x30, 0, 0, 13), (0x45, 0, 1, 0x02), (0x06, 0, 0, 0), (0x06, 0, 0, 0xFFFFFFFF))
FILTER_HINT = "connections that begin just now may be reset: set net.ipv4.tcp_migrate_req = 1, or give CAP_NET_ADMIN"
_NOT_HERE = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT})  # say an IPv6 address of a name, on a host without IPv6
_MIGRATES = Path("/proc/sys/net/ipv4/tcp_migrate_req")


def take_port(host: str, port: int, *, processes: int = 1, join: bool = False, setting: str = "ingress.port") -> list[Door]:
    """Binds the port, and listens.

    Args:
        host: An address or a name; every address of a name is listened on.
        port: 0 picks a free one.
        processes: How many doors to make that share the port.
        join: Whether the port may be shared with processes that have taken it with `join`, too.
        setting: Where the port comes from.

    Returns:
        A door for each process.

    Raises:
        RunError: The port is in use, or the address cannot be listened on.
        UsageError: A port cannot be shared on this system.
    """
    if (processes > 1 or join) and sys.platform != "linux":
        raise UsageError("several ingress processes on one port need Linux")
    taken: list[Door] = []
    try:
        addresses = _addresses(host, port)
        for number in range(processes):
            # The first one of a port that is to be ours alone is bound without SO_REUSEPORT: that fails if anybody has it.
            taken.append(_bound_to_all(addresses, port, alone=number == 0 and not join, shared=processes > 1 or join))
            port = port_of(taken[0])
        for each in _all(taken):
            each.listen(BACKLOG)
    except OSError as error:
        for each in _all(taken):
            each.close()
        if error.errno == errno.EADDRINUSE:
            raise RunError(
                f"port {port} for the ingress is in use on {host}",
                hint=f"Set {setting} to another one, or end the process that has it.",
            ) from None
        reason = os.strerror(error.errno) if error.errno and error.errno > 0 else "the host is not known"
        raise RunError(f"the ingress cannot listen on {host}:{port}: {reason}") from None
    return taken


def url_of(host: str, door: Door) -> str:
    """The URL that a door answers at."""
    return f"http://{f'[{host}]' if ':' in host else host}:{port_of(door)}"


def port_of(door: Sequence[socket.socket]) -> int:
    """The port of a door."""
    return int(door[0].getsockname()[1])


def turn_away(door: Door) -> bool:
    """Lets no new connection begin here; those whose handshake has begun are completed.

    A peer whose first packet (SYN) is dropped sends it again after a second, to one of the processes that are left then. Where
    Linux moves waiting connections by itself (`net.ipv4.tcp_migrate_req`) it does nothing; where Linux refuses the filter, as
    some kernels do without CAP_NET_ADMIN, it says so: handshakes that are under way when the socket closes are reset.

    Returns:
        Whether there is something to wait for: handshakes under way need a round trip to complete.
    """
    if sys.platform != "linux" or _migrates():
        return False
    instructions = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *each) for each in _NO_SYN))
    program = struct.pack("@HP", len(_NO_SYN), ctypes.addressof(instructions))
    try:
        for each in door:
            each.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)
    except OSError as error:
        _log.warning("syn_filter_refused", reason=os.strerror(error.errno or 0), hint=FILTER_HINT)
        return False
    return True


def close(doors: Iterable[Sequence[socket.socket]]) -> None:
    """Closes this process's hold on the sockets."""
    for each in _all(doors):
        each.close()


def _migrates() -> bool:
    try:
        return _MIGRATES.read_text(encoding="ascii").strip() == "1"
    except OSError:
        return False


def _addresses(host: str, port: int) -> list[_Address]:
    found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    return list(dict.fromkeys((family, address[0], address[2:]) for family, *_, address in found))


def _bound_to_all(addresses: Iterable[_Address], port: int, *, alone: bool, shared: bool) -> Door:
    """A socket for each address that this host has, all on one port."""
    made: list[socket.socket] = []
    missing = OSError(errno.EADDRNOTAVAIL, "no address")
    try:
        for family, name, rest in addresses:
            try:
                made.append(_bound(family, (name, port, *rest), alone=alone, shared=shared))
            except OSError as error:
                if error.errno not in _NOT_HERE:
                    raise
                missing = error
                continue
            port = port_of(made)
    except BaseException:
        close([made])
        raise
    if not made:
        raise missing
    return tuple(made)


def _bound(family: int, address: tuple[str | int | bytes, ...], *, alone: bool, shared: bool) -> socket.socket:
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.settimeout(0)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if shared and not alone:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        made.bind(address)
        if shared:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    except BaseException:
        made.close()
        raise
    return made


def _all(doors: Iterable[Sequence[socket.socket]]) -> list[socket.socket]:
    return [each for door in doors for each in door]

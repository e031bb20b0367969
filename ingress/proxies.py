"""Which address a request came from, when proxies of ours stand before us and say so in a header.

Anybody can send such a header. So it is read only when the peer itself is a listed proxy, and from its right end: each proxy
adds the address that it saw, and what a stranger wrote stands left of that.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from typing import TypeAlias

from multidict import MultiMapping

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

_X_FORWARDED_FOR = "X-Forwarded-For"
_FORWARDED = "Forwarded"

_TOKEN = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"  # noqa: S105 - a token of RFC 9110, 5.6.2
_QUOTED = r'"(?:[^"\\]|\\.)*"'
_PAIR = re.compile(rf"[ \t]*(?P<name>{_TOKEN})=(?P<value>{_TOKEN}|{_QUOTED})[ \t]*(?P<end>[;,]|$)")
_NODE = re.compile(r"(?:\[(?P<v6>[^\]]+)\]|(?P<v4>[0-9.]+))(?::(?:[0-9]{1,5}|_[A-Za-z0-9._-]+))?")


class _MalformedError(ValueError):
    """A forwarding header is not of its form."""


class TrustedProxies:
    """The proxies whose forwarding headers are believed.

    List only proxies that set one of the two headers on every request: what they pass on unchanged, anybody can have written.
    """

    __slots__ = ("_networks",)

    def __init__(self, networks: Sequence[str]) -> None:
        self._networks = parse_networks(networks)

    def origin(self, peer: str | None, headers: MultiMapping[str]) -> Address | None:
        """The address that the request came from, or None when that cannot be told; pure.

        It is the peer's, unless the peer is a listed proxy: then it is the right-most address of `X-Forwarded-For` or
        `Forwarded` (RFC 7239) that is not a listed proxy's, or the left-most when all are.

        None, so that nobody is let in by mistake, when an address on the way there is hidden or malformed, when `Forwarded`
        breaks its grammar anywhere, and when both headers are there and disagree: a proxy sets one of them and passes on what
        a stranger wrote into the other.
        """
        address = parse_address((peer or "").partition("%")[0])
        if address is None or not self._lists(address):
            return address
        try:
            chains = [_listed(headers.getall(_X_FORWARDED_FOR, [])), _forwarded(headers.getall(_FORWARDED, []))]
            origins = {self._origin(chain, address) for chain in chains if chain}
        except _MalformedError:
            return None
        return origins.pop() if len(origins) == 1 else None if origins else address

    def _origin(self, chain: Sequence[str | None], peer: Address) -> Address:
        origin = peer
        for node in reversed(chain):
            if not self._lists(origin):
                break  # what stands left of it is a stranger's word
            address = None if node is None else _node_address(node)
            if address is None:
                raise _MalformedError
            origin = address
        return origin

    def _lists(self, address: Address) -> bool:
        return any(address in network for network in self._networks)


def parse_networks(networks: Sequence[str]) -> tuple[Network, ...]:
    """The networks of CIDRs that the settings have checked."""
    return tuple(ipaddress.ip_network(network, strict=False) for network in networks)


def parse_address(text: str) -> Address | None:
    """The address, an IPv4 one that is mapped into IPv6 as IPv4; None when it is none, or is only good on one link."""
    if "%" in text:
        return None
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def _node_address(text: str) -> Address | None:
    """The address of a node as the two headers write it: IPv6 in brackets or bare, with or without a port."""
    found = _NODE.fullmatch(text)
    return parse_address(found["v6"] or found["v4"]) if found else parse_address(text)


def _listed(lines: Sequence[str]) -> list[str | None]:
    """The nodes of X-Forwarded-For, the nearest last; empty when the header is not there."""
    return [node.strip(" \t") for line in lines for node in line.split(",")]


def _forwarded(lines: Sequence[str]) -> list[str | None]:
    """The `for` of each element of Forwarded, the nearest last; None for an element without one.

    The whole must be well-formed: an open quote of a stranger's could swallow what our proxy has added behind it.
    """
    nodes: list[str | None] = []
    for line in lines:
        position, element = 0, dict[str, str]()
        while True:
            pair = _PAIR.match(line, position)
            if pair is None or pair["name"].lower() in element:
                raise _MalformedError
            element[pair["name"].lower()] = _unquoted(pair["value"])
            if pair["end"] != ";":
                nodes.append(element.get("for"))
                element = {}
            if not pair["end"]:
                break
            position = pair.end()
    return nodes


def _unquoted(value: str) -> str:
    return re.sub(r"\\(.)", r"\1", value[1:-1]) if value.startswith('"') else value

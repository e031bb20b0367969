"""The configured sources, compiled once: what a request needs to know of its source, and nothing that is slow."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from collections.abc import Mapping
from typing import Literal

from ingress.signatures.build import build_verifier
from ingress.signatures.verifier import Verifier
from kybstream.errors import ConfigurationError
from kybstream.privacy import Pseudonymiser
from kybstream.settings import UNKNOWN_SOURCE, Settings, SourceKind, SourceSettings, TenantSettings

Refusal = Literal["unknown_source", "wrong_token"]


class Source:
    """One webhook address, compiled."""

    __slots__ = (
        "_networks",
        "_token_digest",
        "kind",
        "max_body_bytes",
        "name",
        "pseudonymiser",
        "scheme",
        "tenant",
        "verifier",
    )

    def __init__(self, settings: SourceSettings, tenant: TenantSettings, verifier: Verifier) -> None:
        self.name = settings.name
        self.kind: SourceKind = settings.kind
        self.tenant = settings.tenant
        self.scheme = settings.signature.scheme
        self.verifier = verifier
        self.max_body_bytes = settings.max_body_bytes
        self.pseudonymiser = Pseudonymiser(tenant.pseudonym_key.reveal(), tenant.pseudonym_key_version)
        self._token_digest = _digest(settings.token)
        self._networks = tuple(ipaddress.ip_network(network, strict=False) for network in settings.allow)

    def __repr__(self) -> str:
        return f"Source({self.name!r})"

    def has_token(self, token_digest: bytes) -> bool:
        """Whether the digest is that of the source's token; constant time."""
        return hmac.compare_digest(self._token_digest, token_digest)

    def allows(self, peer: str | None) -> bool:
        """Whether the peer's address is in one of the networks of `allow`, or `allow` is empty."""
        if not self._networks:
            return True
        try:
            address = ipaddress.ip_address((peer or "").partition("%")[0])
        except ValueError:
            return False
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        return any(address in network for network in self._networks)


class Sources:
    """All sources by name.

    Raises:
        ConfigurationError: There are none, or a signature's settings are wrong.
    """

    __slots__ = ("_by_name", "_nobody")

    def __init__(self, settings: Settings) -> None:
        if not settings.sources:
            raise ConfigurationError(
                "no source is configured: there is nobody to take webhooks from",
                hint="Add [[sources]] with name, kind, tenant and token; kyb-stream.example.toml shows it.",
            )
        self._by_name: Mapping[str, Source] = {each.name: _compiled(settings, each) for each in settings.sources}
        # Nobody's token: an unknown source is compared like a known one, so that the time does not tell them apart.
        self._nobody = hashlib.sha256(b"").digest()

    @property
    def tenants(self) -> dict[str, str]:
        """The tenant of each source by the source's name."""
        return {name: source.tenant for name, source in self._by_name.items()}

    def name_or_unknown(self, name: str) -> str:
        """The name if it is configured, else `unknown`."""
        return name if name in self._by_name else UNKNOWN_SOURCE

    def find(self, name: str, token: str) -> Source | Refusal:
        """The source of that name if the token is its own. The time taken depends on the length of the token alone."""
        digest = _digest(token)
        source = self._by_name.get(name)
        if source is None:
            hmac.compare_digest(self._nobody, digest)
            return "unknown_source"
        return source if source.has_token(digest) else "wrong_token"


def _compiled(settings: Settings, source: SourceSettings) -> Source:
    tenant = settings.tenant(source.tenant)
    if tenant is None:
        raise ConfigurationError(f"sources: {source.name!r} names the tenant {source.tenant!r}, which is not in [[tenants]]")
    return Source(source, tenant, build_verifier(source))


def _digest(token: str) -> bytes:
    # Digests have one length: comparing the tokens themselves would tell theirs.
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()

"""The configured sources, compiled once: what a request needs to know of its source, and nothing that is slow."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Mapping
from typing import Literal

from multidict import MultiMapping

from ingress.proxies import TrustedProxies, parse_networks
from ingress.rate_limits import RateLimit
from ingress.replays import ReplayWindow, replay_key
from ingress.signatures.build import build_verifier
from ingress.signatures.verifier import IdentifyingVerifier, SignedRequest, Verifier
from kybstream.errors import ConfigurationError
from kybstream.privacy import Pseudonymiser
from kybstream.settings import UNKNOWN_SOURCE, Settings, SourceKind, SourceSettings, TenantSettings
from kybstream.settings.values import JSON

Refusal = Literal["unknown_source", "wrong_token"]


class Source:
    """One webhook address, compiled.

    Attributes:
        body_format: Where a body has its JSON, as in the records of its deliveries; None: it is JSON.
        token_digest: What a token's digest is compared with.
        replays: The messages of this source that were stored lately; None for a scheme without ids.
        rate_limit: The tenant's, shared by its sources; None: no limit.
    """

    __slots__ = (
        "_identifying",
        "_networks",
        "_proxies",
        "body_format",
        "kind",
        "max_body_bytes",
        "name",
        "pseudonymiser",
        "rate_limit",
        "replays",
        "scheme",
        "tenant",
        "token_digest",
        "verifier",
    )

    def __init__(
        self,
        settings: SourceSettings,
        tenant: TenantSettings,
        verifier: Verifier,
        *,
        proxies: TrustedProxies,
        rate_limit: RateLimit | None,
    ) -> None:
        self.name = settings.name
        self.kind: SourceKind = settings.kind
        self.body_format = None if settings.body_format == JSON else settings.body_format
        self.tenant = settings.tenant
        self.scheme = settings.signature.scheme
        self.verifier = verifier
        self._identifying = verifier if isinstance(verifier, IdentifyingVerifier) else None
        self.replays = None if self._identifying is None else ReplayWindow(self._identifying.tolerance_seconds)
        self.rate_limit = rate_limit
        self.max_body_bytes = settings.max_body_bytes
        self.pseudonymiser = Pseudonymiser(tenant.pseudonym_key.reveal(), tenant.pseudonym_key_version)
        self.token_digest = _digest(settings.token)
        self._networks = parse_networks(settings.allow)
        self._proxies = proxies

    def __repr__(self) -> str:
        return f"Source({self.name!r})"

    def allows(self, peer: str | None, headers: MultiMapping[str]) -> bool:
        """Whether the request came from one of the networks of `allow`, or `allow` is empty."""
        if not self._networks:
            return True
        origin = self._proxies.origin(peer, headers)
        return origin is not None and any(origin in network for network in self._networks)

    def stored_as(self, request: SignedRequest, case_token: str | None) -> bytes | None:
        """Under which key `replays` knows this authentic message; None when the scheme has no ids."""
        if self._identifying is None:
            return None
        return replay_key(self._identifying.message_id(request), request.body, case_token)


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
        proxies = TrustedProxies(settings.ingress.trusted_proxies)
        limits = {tenant.name: _rate_limit(tenant) for tenant in settings.tenants}
        self._by_name: Mapping[str, Source] = {
            each.name: _compiled(settings, each, proxies, limits.get(each.tenant)) for each in settings.sources
        }
        largest = self.largest_bodies
        if len(largest) > 1 and 2 * max(largest.values()) > settings.ingress.max_bytes_in_flight:
            raise ConfigurationError(
                f"ingress.max_bytes_in_flight: {settings.ingress.max_bytes_in_flight} is less than twice the largest "
                f"max_body_bytes of the sources ({max(largest.values())}): one tenant's body would take the room of all others"
            )
        # Nobody's token: an unknown source is compared like a known one, so that the time does not tell them apart.
        self._nobody = secrets.token_bytes(hashlib.sha256().digest_size)

    @property
    def tenants(self) -> dict[str, str]:
        """The tenant of each source by the source's name."""
        return {name: source.tenant for name, source in self._by_name.items()}

    @property
    def largest_bodies(self) -> dict[str, int]:
        """The largest body that each tenant may send."""
        largest: dict[str, int] = {}
        for source in self._by_name.values():
            largest[source.tenant] = max(source.max_body_bytes, largest.get(source.tenant, 0))
        return largest

    def name_or_unknown(self, name: str) -> str:
        """The name if it is configured, else `unknown`."""
        return name if name in self._by_name else UNKNOWN_SOURCE

    def find(self, name: str, token: str) -> Source | Refusal:
        """The source of that name if the token is its own. The time taken depends on the length of the token alone."""
        source = self._by_name.get(name)
        # One way for both: a hash of what was sent, and a comparison of two digests.
        matches = hmac.compare_digest(self._nobody if source is None else source.token_digest, _digest(token))
        if source is None:
            return "unknown_source"
        return source if matches else "wrong_token"


def _rate_limit(tenant: TenantSettings) -> RateLimit | None:
    if tenant.rate_limit_per_second is None:
        return None
    return RateLimit(tenant.rate_limit_per_second, tenant.rate_limit_burst)


def _compiled(settings: Settings, source: SourceSettings, proxies: TrustedProxies, rate_limit: RateLimit | None) -> Source:
    tenant = settings.tenant(source.tenant)
    if tenant is None:
        raise ConfigurationError(f"sources: {source.name!r} names the tenant {source.tenant!r}, which is not in [[tenants]]")
    return Source(source, tenant, build_verifier(source), proxies=proxies, rate_limit=rate_limit)


def _digest(token: str) -> bytes:
    # Digests have one length: comparing the tokens themselves would tell theirs.
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()

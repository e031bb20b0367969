"""Where a plan is played to, and what came of each attempt."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias
from urllib.parse import urlsplit

from kybstream.errors import UsageError
from kybstream.settings import SourceKind
from kybstream.simulator.planned import PlannedDelivery, PlannedLink

Signer: TypeAlias = Callable[[PlannedDelivery, str], Mapping[str, str]]
"""Given a delivery and the path of the URL it is sent to, the headers that sign it. Called anew for each attempt."""

LinkRegistrar: TypeAlias = Callable[[PlannedLink], Awaitable[None]]
"""Registers a link, and returns when it is durable."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """The receiver of a simulation.

    Attributes:
        kyb_url: `http://host:port/webhooks/<source>/<token>` of the KYB source. Holds a secret, so it is not shown.
        kyc_url: The same of the KYC source; a case token is appended as a further segment.
        sign: Makes signature headers, where the source asks for them.
        register_link: Registers the plan's links; needed where the plan has any.

    Raises:
        UsageError: A URL is no http(s) URL with a host.
    """

    kyb_url: str = field(repr=False)
    kyc_url: str = field(repr=False)
    sign: Signer | None = None
    register_link: LinkRegistrar | None = None

    def __post_init__(self) -> None:
        for name, url in (("KYB", self.kyb_url), ("KYC", self.kyc_url)):
            parts = urlsplit(url)
            if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment:
                raise UsageError(
                    f"the {name} address must be an http:// or https:// URL with a host and without a query",
                    hint="Such as http://127.0.0.1:8080/webhooks/kyb/<token>.",
                )

    def url(self, delivery: PlannedDelivery) -> str:
        """The full URL of a delivery."""
        base = (self.kyb_url if delivery.source_kind == "kyb-service" else self.kyc_url).rstrip("/")
        return base if delivery.case_token is None else f"{base}/{delivery.case_token}"

    def origin(self, source_kind: SourceKind) -> str:
        """Scheme, host and port of a source: what may be shown of its URL."""
        parts = urlsplit(self.kyb_url if source_kind == "kyb-service" else self.kyc_url)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


@dataclass(frozen=True, kw_only=True, slots=True)
class SentDelivery:
    """One attempt to deliver.

    Attributes:
        planned: What was sent.
        attempt: Counts the attempts for this planned delivery from 1.
        sent_at: Real seconds from the start of playing.
        status: The HTTP status, or None when no answer came: the receiver may have taken it all the same.
        delivery_id: `X-Delivery-Id` of the answer, if it had one.
        error: The kind of failure when no answer came.
    """

    planned: PlannedDelivery
    attempt: int
    sent_at: float
    status: int | None
    delivery_id: str | None = None
    error: str | None = None

    @property
    def accepted(self) -> bool:
        """Whether the provider regards it as delivered: exactly 200, not 201 nor 204."""
        return self.status == 200  # noqa: PLR2004 (the documented code)


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """How far playing is.

    Attributes:
        done: Planned deliveries and links that are accepted or given up.
        total: All of them.
        attempts: HTTP requests so far.
        refused: How many of them were not answered with 200.
    """

    done: int
    total: int
    attempts: int
    refused: int


ProgressCallback: TypeAlias = Callable[[Progress], None]

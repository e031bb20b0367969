"""Why a record becomes a dead letter instead of being processed. Pure."""

from __future__ import annotations

from schemas.providers.body import NO_ENTITY, NOT_AN_OBJECT, NOT_JSON
from schemas.records import Link, LinkWithdrawal, WebhookDelivery
from streams.links import INVALID_LINK

UNDECODABLE = "undecodable"
UNKNOWN_TENANT = "unknown_tenant"
KEY_MISMATCH = "key_mismatch"
"""The record is not keyed by what it is about: its state would be looked up in one place and written to another."""
UNDECRYPTABLE = "undecryptable"
FAILED = "failed"
"""Processing raised what nobody foresaw: a bug of ours."""

_OF_THE_SENDER = frozenset({NOT_JSON, NOT_AN_OBJECT, NO_ENTITY, INVALID_LINK})


class RejectedError(Exception):
    """A record becomes a dead letter.

    Attributes:
        reason: A code.
        detail: More about it, without any of the body.
        delivery: What the record holds, where that can be read.
        link: The same of a link or a withdrawal.
    """

    def __init__(
        self,
        reason: str,
        detail: str | None,
        *,
        delivery: WebhookDelivery | None = None,
        link: Link | LinkWithdrawal | None = None,
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.detail = detail
        self.delivery = delivery
        self.link = link

    @property
    def may_be_ours(self) -> bool:
        """Whether the cause may be a bug or the configuration; not so, if the sender's body says nothing usable.

        A body in which the ingress found an entity and the intake finds none is not the sender's. But the ingress reads no more
        than the entity: of the rest the intake alone can say that it is no JSON.
        """
        if self.reason == NO_ENTITY:
            return self.delivery is not None and self.delivery.entity_key is not None
        return self.reason not in _OF_THE_SENDER

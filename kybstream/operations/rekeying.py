"""Giving a record the key that this version of the code, with this configuration, would give it."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from kybstream.encryption import BodyDecryptor, UndecryptableError, body_decryptor
from kybstream.errors import BadRecordError
from kybstream.settings import Settings
from kybstream.settings.values import JSON
from schemas.codec import decode_any, encode
from schemas.providers.identity import identify_bytes
from schemas.records import CaseEvent, Link, LinkWithdrawal, WebhookDelivery
from schemas.topics import case_key, entity_key
from streams.policy import TenantPolicy, policies

Rekey = Callable[[bytes | None, bytes | None], tuple[bytes | None, bytes | None]]
"""`(key, value) -> (key, value)`: as they were, where no better key can be read."""


def rekey_with(settings: Settings) -> Rekey:
    """Rekeys records under the tenants' present keys, their bodies read in the present `body_format` of their sources.

    What it returns raises UnknownKeyError where a body is encrypted under a key that is not configured.
    """
    tenants = policies(settings)
    formats = {source.name: None if source.body_format == JSON else source.body_format for source in settings.sources}
    bodies = body_decryptor(settings.encryption)

    def rekey(key: bytes | None, value: bytes | None) -> tuple[bytes | None, bytes | None]:
        try:
            record = decode_any(value or b"")
        except BadRecordError:
            return key, value
        match record:
            case WebhookDelivery():
                policy = tenants.get(record.tenant)
                mended = msgspec.structs.replace(record, body_format=formats.get(record.source, record.body_format))
                entity = None if policy is None else _entity_key(mended, policy, bodies)
                if entity is None:
                    return key, value
                mended = msgspec.structs.replace(mended, entity_key=entity)
                return entity.encode(), value if mended == record else encode(mended)
            case Link() | LinkWithdrawal():
                return entity_key(record.tenant, record.subject).encode(), value
            case CaseEvent():
                return case_key(record.tenant, record.case_id).encode(), value
            case _:
                return key, value

    return rekey


def _entity_key(delivery: WebhookDelivery, policy: TenantPolicy, bodies: BodyDecryptor) -> str | None:
    try:
        body = clear_body(delivery, bodies)
    except UndecryptableError:
        return None
    identity = identify_bytes(
        "kyb-service" if delivery.source_kind == "kyb-service" else "kyc-registration",
        body,
        policy.pseudonymiser,
        body_format=delivery.body_format,
        content_encoding=delivery.content_encoding,
    )
    return None if identity is None else entity_key(delivery.tenant, identity.entity)


def clear_body(delivery: WebhookDelivery, bodies: BodyDecryptor) -> bytes:
    """The body as it was sent.

    Raises:
        UnknownKeyError: Its key is not configured.
        UndecryptableError: It does not fit its key.
    """
    if delivery.body_key_id is None:
        return delivery.body
    return bodies.decrypt(
        delivery.body, tenant=delivery.tenant, delivery_id=delivery.delivery_id, body_key_id=delivery.body_key_id
    )

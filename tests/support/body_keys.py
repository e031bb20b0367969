"""The key-encryption key of the tests' stacks, and bodies read with it."""

from __future__ import annotations

import base64

import msgspec

from kybstream.encryption import body_decryptor
from kybstream.settings import Settings
from schemas.records import WebhookDelivery

ENCRYPTION: dict[str, object] = {"keys": [{"id": "k1", "key": base64.b64encode(b"key-encryption-key-of-the-tests!").decode()}]}
"""The section of a configuration."""


def in_clear(delivery: WebhookDelivery, settings: Settings) -> WebhookDelivery:
    """The delivery with its body as it was sent.

    Raises:
        AssertionError: The body was not encrypted.
    """
    assert delivery.body_key_id is not None, f"the body of {delivery.delivery_id} is in clear"
    body = body_decryptor(settings.encryption).decrypt(
        delivery.body, tenant=delivery.tenant, delivery_id=delivery.delivery_id, body_key_id=delivery.body_key_id
    )
    return msgspec.structs.replace(delivery, body=body, body_key_id=None)
